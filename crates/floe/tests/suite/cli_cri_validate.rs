//! `floe cri validate` against floe, against Debian's containerd, and against runtimes that are wrong: what passes,
//! what fails by its name, and that nothing stays.

use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use testkit::images::{Entry, layer};
use tonic::Status;

use crate::cli::crictl::Crictl;
use crate::cli::proxy::Deed;
use crate::cli::xml::elements;
use crate::cli::{Machine, Said, machine, signal, until};

/// The result of a check, and why.
fn result<'a>(report: &'a Value, name: &str) -> (&'a str, String) {
    let checks = report["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("{name} was not made"));
    let why = ["reason", "expected", "found"].map(|key| check[key].as_str().unwrap_or_default());
    let result = check["result"].as_str().expect("a result");
    (result, why.join(" "))
}

/// Those that did not pass.
fn others(report: &Value) -> Vec<String> {
    let checks = report["checks"].as_array().expect("checks").iter();
    let names = checks.filter(|check| check["result"] != "passed");
    names
        .map(|check| check["name"].as_str().expect("a name").to_owned())
        .collect()
}

fn report(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err))
}

/// Holds a file of JUnit against what was printed.
fn is_the_same(file: &str, report: &Value) {
    let text = std::fs::read_to_string(file).expect("read");
    let all = elements(&text);
    let count = |name: &str| all.iter().filter(|(one, _)| one == name).count() as u64;
    let checks = report["checks"].as_array().expect("checks");
    assert_eq!(count("testcase"), checks.len() as u64);
    assert_eq!(Some(count("failure")), report["failed"].as_u64());
    assert_eq!(Some(count("skipped")), report["skipped"].as_u64());
    let attributes = &all[0].1;
    let tests = attributes.iter().find(|(key, _)| key == "tests");
    assert_eq!(tests.expect("tests").1, checks.len().to_string());
}

/// Nothing of any run is left on the node, nor on this machine.
fn is_clean(crictl: &Crictl, report: &Value) {
    assert_eq!(crictl.ok(&["pods", "-q"]), "");
    assert_eq!(crictl.ok(&["ps", "-a", "-q"]), "");
    let namespace = report["namespace"].as_str().expect("a namespace");
    assert!(
        !std::env::temp_dir().join(namespace).exists(),
        "{namespace}"
    );
    assert_eq!(report["left"], serde_json::json!([]));
}

#[test]
fn floe_passes_every_check_and_nothing_stays() {
    machine(|floe| {
        floe.node.serve().expect("serve");
        let crictl = floe.crictl(&floe.node.socket());
        let junit = crictl.file("junit.xml", "what was here before");
        let words = ["validate", "--test-image", &floe.image, "--parallel", "3"];
        let said = crictl.run(&[&words[..], &["-o", "json", "--junit", &junit]].concat());
        let report = report(&said);
        // What a kernel may lack.
        let known = [
            (
                "security/apparmor",
                "the kernel of this machine has no AppArmor",
            ),
            (
                "security/user-namespace",
                "does not tell the feature user_namespaces",
            ),
            (
                "mounts/recursive-read-only",
                "does not tell the feature recursive_read_only_mounts",
            ),
        ];
        for name in others(&report) {
            let (result, why) = result(&report, &name);
            let is_known = known
                .iter()
                .any(|(one, words)| *one == name && why.contains(words));
            assert!(
                result == "skipped" && is_known,
                "{name} {result}: {why}\n{}",
                floe.node.log()
            );
        }
        assert_eq!(said.code, 0, "{}", said.err);
        let list = crictl.json(&["validate", "--list", "-o", "json"]);
        let listed = list.as_array().expect("a list").len();
        assert_eq!(report["checks"].as_array().map(Vec::len), Some(listed));
        is_the_same(&junit, &report);
        is_clean(&crictl, &report);
        // It was pulled for the checks.
        assert_eq!(crictl.ok(&["images", "-q"]), "");
    });
}

#[test]
fn floes_defaults_are_taken_by_runc() {
    machine(|floe| {
        let config = std::fs::read_to_string(floe.node.config()).expect("read");
        let more = "[crio.runtime.runtimes.runc]\nruntime_path = \"/usr/sbin/runc\"\n";
        std::fs::write(floe.node.config(), config + more).expect("write");
        floe.node.serve().expect("serve");
        let crictl = floe.crictl(&floe.node.socket());
        // libseccomp takes the default profile only without rules that it finds in each other's way.
        let some = "^security/(user|seccomp-.*|masked-paths)$|^containers/life|^streaming/exec$|^logs/format";
        let words = [
            "validate",
            "--test-image",
            &floe.image,
            "-o",
            "json",
            "--run",
            some,
        ];
        let said = crictl.run(&[&words[..], &["--runtime-handler", "runc"]].concat());
        let report = report(&said);
        assert_eq!(others(&report), [""; 0], "{report:#}");
        assert_eq!(said.code, 0, "{}", said.err);
        is_clean(&crictl, &report);
    });
}

#[test]
fn containerd_fails_by_name_where_it_differs() {
    machine(|floe| {
        let pause = floe.image.replace("busybox:1", "pause:1");
        floe.push(&pause, &["sleep", "1000000"]);
        let containerd = testkit::Containerd::start(&pause).expect("containerd");
        let socket = containerd.dir().join("containerd.sock");
        let crictl = floe.crictl(&socket);
        until("its CRI plugin serves", || {
            crictl.run(&["info", "-q"]).code == 0
        });
        let words = [
            "validate",
            "--test-image",
            &floe.image,
            "--cgroup-parent",
            floe.node.cgroup(),
        ];
        // Not all: it takes a while for each pod, and hears now and then that memory was short only after the end.
        let some = "^(runtime|containers|logs|errors)/|images/list$|streaming/(exec|attach|port-forward)$|mounts/(private|bidirectional)";
        let said = crictl.run(
            &[
                &words[..],
                &["-o", "json", "--parallel", "2", "--run", some],
                &["--skip", "out-of-memory"],
            ]
            .concat(),
        );
        let report = report(&said);
        let failed: Vec<String> = others(&report)
            .into_iter()
            .filter(|name| result(&report, name).0 == "failed")
            .collect();
        // 1.6: filters of images have no effect, and what is gone cannot be stopped.
        let known = [
            "images/list",
            "errors/stop-unknown-pod",
            "errors/stop-removed",
        ];
        assert_eq!(failed, known, "{report:#}");
        assert_eq!(said.code, 1);
        assert_eq!(result(&report, "runtime/handlers").0, "skipped");
        let words = ["bench", "--image", &floe.image, "--pods", "2"];
        let table = crictl.ok(&[&words[..], &["--cgroup-parent", floe.node.cgroup()]].concat());
        assert!(table.starts_with("containerd 1."), "{table}");
        is_clean(&crictl, &report);
    });
}

/// Runs some checks against a socket of the node's.
fn some(crictl: &Crictl, socket: Option<&Path>, image: &str, words: &[&str]) -> Said {
    let endpoint = socket.map(|socket| format!("unix://{}", socket.display()));
    let endpoint = endpoint.unwrap_or_else(|| crictl.endpoint());
    let mut command = crictl.bare();
    command.env("CONTAINER_RUNTIME_ENDPOINT", endpoint);
    command.args(words).args(["--test-image", image]);
    command.output().expect("run").into()
}

/// Images that are none, or not what is needed.
fn wrong_images(floe: &Machine, crictl: &Crictl) {
    let bare = floe.image.replace("busybox:1", "bare:1");
    let files = layer(&[Entry::File("nothing", 0o644, b"to run")]).expect("a layer");
    floe.push_layers(&bare, &[files], serde_json::json!({"Cmd": ["/nothing"]}));
    let pattern = "containers/exit-code|images/test-image";
    let words = ["-t", "60s", "validate", "-o", "json", "--run", pattern];
    let said = some(crictl, None, &bare, &words);
    let told = report(&said);
    assert_eq!(said.code, 1, "{}", said.err);
    let (found, why) = result(&told, "containers/exit-code");
    assert!(
        found == "failed" && why.contains("/bin/sh"),
        "{found}: {why}"
    );
    assert_eq!(result(&told, "images/test-image").0, "passed");
    is_clean(crictl, &told);

    let missing = floe.image.replace("busybox:1", "missing:1");
    let said = some(crictl, None, &missing, &words);
    let told = report(&said);
    assert_eq!(
        (said.code, result(&told, "images/test-image").0),
        (1, "failed")
    );
    let (found, why) = result(&told, "containers/exit-code");
    assert!(
        found == "skipped" && why.contains("is not there"),
        "{found}: {why}"
    );
    let only = ["-t", "60s", "validate", "--run", "containers/exit-code"];
    some(crictl, None, &missing, &only).ended(2, "give --test-image");
}

#[test]
fn what_is_wrong_fails_by_its_name_or_is_not_begun() {
    machine(|floe| {
        floe.node.serve().expect("serve");
        let crictl = floe.crictl(&floe.node.socket());
        crictl.ok(&["pull", &floe.image]);
        wrong_images(floe, &crictl);

        let hostile = "</failure>\u{1b}[2J & <evil attr=\"x\">]]>\n\u{202e}";
        let lies = floe.wrong("lies.sock", move |name| match name {
            "ContainerStatus" => Deed::Fail(Status::internal(hostile)),
            "RemovePodSandbox" => Deed::Nothing,
            _ => Deed::Pass,
        });
        let junit = crictl.file("junit.xml", "");
        let pattern = "containers/exit-code|errors/unknown-|pods/run|logs/format";
        let words = ["-t", "60s", "validate", "--junit", &junit, "--run", pattern];
        let said = some(
            &crictl,
            Some(&lies),
            &floe.image,
            &[&words[..], &["-o", "json"]].concat(),
        );
        let told = report(&said);
        assert_eq!(said.code, 1, "{}", said.err);
        assert_eq!(result(&told, "errors/unknown-pod").0, "passed");
        let (found, why) = result(&told, "errors/unknown-container");
        assert!(
            found == "failed" && why.contains("NotFound Internal"),
            "{found}: {why}"
        );
        let (found, why) = result(&told, "pods/run");
        let words_of_it = "RemovePodSandbox succeeded, and it is listed";
        assert!(
            found == "failed" && why.contains(words_of_it),
            "{found}: {why}"
        );
        is_the_same(&junit, &told);
        assert!(
            told["left"][0]
                .as_str()
                .is_some_and(|left| left.starts_with("pod ")),
            "{told:#}"
        );
        let shown = some(&crictl, Some(&lies), &floe.image, &words);
        assert!(shown.out.contains("FAILED"), "{}", shown.out);
        assert!(
            shown.out.chars().all(|c| c == '\n' || !c.is_control()),
            "{:?}",
            shown.out
        );
        assert_ne!(crictl.ok(&["pods", "-q"]), "");
        crictl.ok(&["rmp", "-a", "-f"]);

        let mute = floe.wrong("mute.sock", |name| match name {
            "RunPodSandbox" | "ListPodSandbox" => Deed::Hang,
            _ => Deed::Pass,
        });
        let words = [
            "-t",
            "1s",
            "validate",
            "-o",
            "json",
            "--run",
            "pods/run|errors/unknown-pod",
        ];
        let said = some(&crictl, Some(&mute), &floe.image, &words);
        let told = report(&said);
        let (found, why) = result(&told, "pods/run");
        assert!(
            found == "failed" && why.contains("no answer within 1s"),
            "{found}: {why}"
        );

        let silent = floe.node.path("silent.sock");
        let _listener = UnixListener::bind(&silent).expect("listen");
        let words = ["-t", "300ms", "--max-retries", "0", "validate"];
        some(&crictl, Some(&silent), &floe.image, &words).ended(2, "code = DeadlineExceeded");
        let nobody = floe.node.path("nobody.sock");
        some(&crictl, Some(&nobody), &floe.image, &words).ended(2, "no such file or directory");
        some(&crictl, Some(&nobody), "x", &["validate", "--run", "("]).ended(2, "--run: ");
        some(&crictl, Some(&nobody), "x", &["validate", "--skip", ""]).ended(2, "no check fits");
        some(
            &crictl,
            Some(&nobody),
            "x",
            &["validate", "--junit", "/no/such/dir/x"],
        )
        .ended(2, "write /no/such");
        let list = some(
            &crictl,
            Some(&nobody),
            "x",
            &["validate", "--list", "--run", "^logs/"],
        )
        .ok();
        assert!(
            list.starts_with("901  logs/format") && !list.contains("pods/"),
            "{list}"
        );
    });
}

#[test]
fn whoever_interrupts_finds_nothing_left() {
    machine(|floe| {
        floe.node.serve().expect("serve");
        let crictl = floe.crictl(&floe.node.socket());
        let words = [
            "validate",
            "--test-image",
            &floe.image,
            "-o",
            "json",
            "--parallel",
            "8",
        ];
        let child = crictl.command(&words).spawn().expect("start");
        until("pods are made", || {
            crictl.ok(&["pods", "-q"]).lines().count() >= 3
        });
        signal(&child, Signal::INT);
        let said = Said::from(child.wait_with_output().expect("wait"));
        said.ended(2, "interrupted: ");
        is_clean(&crictl, &report(&said));
        assert_eq!(crictl.ok(&["images", "-q"]), "");
    });
}
