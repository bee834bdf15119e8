//! config.md, hooks: each at its point, in its namespaces, in order; what happens when one fails.

use std::path::Path;

use crate::support::{self, Lab};
use serde_json::{Value, json};

/// A hook that runs a shell script of the host.
fn host(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script] })
}

/// A hook at every point that notes its name; startContainer's is of the image.
fn noting(lab: &Lab, kinds: &[&str]) -> Value {
    let log = lab.dir.join("log");
    let note = |kind: &str| {
        let place = if kind == "startContainer" {
            "/log".to_owned()
        } else {
            log.display().to_string()
        };
        host(&format!("echo {kind} >>{place}"))
    };
    kinds
        .iter()
        .map(|kind| ((*kind).to_owned(), json!([note(kind)])))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

const ALL: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

fn log(lab: &Lab) -> Vec<String> {
    let text = std::fs::read_to_string(lab.dir.join("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn hooks_run_at_their_points_in_order() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["hooks"] = noting(&lab, &ALL);
    lab.config["process"]["args"] = json!(["sh", "-c", "cat /log"]);
    lab.call(&["create", "c"]).ok();
    assert_eq!(log(&lab), ["prestart", "createRuntime", "createContainer"]);
    lab.call(&["start", "c"]).ok();
    assert_eq!(log(&lab).last().unwrap(), "poststart");
    assert_eq!(
        std::fs::read_to_string(lab.rootfs("log")).unwrap(),
        "startContainer\n"
    );
    lab.call(&["delete", "--force", "c"]).ok();
    assert_eq!(
        log(&lab),
        [
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop"
        ]
    );
}

#[test]
fn start_container_hooks_run_at_start_and_not_before() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["hooks"] = noting(&lab, &["startContainer"]);
    lab.call(&["create", "c"]).ok();
    assert!(!lab.rootfs("log").exists());
    lab.call(&["start", "c"]).ok();
    assert!(lab.rootfs("log").exists());
}

#[test]
fn each_point_has_its_namespaces() {
    needs_host!();
    let mut lab = Lab::new();
    let note = |kind: &str| {
        let dir = lab.dir.display();
        host(&format!(
            "for n in mnt net pid; do readlink /proc/self/ns/$n; done >{dir}/{kind}"
        ))
    };
    lab.config["hooks"] = json!({
        "createRuntime": [note("runtime")],
        "createContainer": [note("container")],
        "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "readlink /proc/self/ns/mnt >/start; ls /bin/busybox >>/start"] }],
    });
    let program = lab.prints(
        "readlink /proc/self/ns/mnt; readlink /proc/self/ns/net; readlink /proc/self/ns/pid",
    );
    let read = |kind: &str| std::fs::read_to_string(lab.dir.join(kind)).unwrap();
    let own: Vec<String> = ["mnt", "net", "pid"]
        .iter()
        .map(|kind| {
            std::fs::read_link(format!("/proc/self/ns/{kind}"))
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(read("runtime").lines().collect::<Vec<_>>(), own);
    let inside: Vec<&str> = program.lines().collect();
    // The host's /proc, seen from the new PID namespace, has no self: only the others can be told.
    assert!(
        read("container").is_empty() || read("container").starts_with(inside[0]),
        "{}",
        read("container")
    );
    let start = std::fs::read_to_string(lab.rootfs("start")).unwrap();
    assert_eq!(
        start.lines().collect::<Vec<_>>(),
        [inside[0], "/bin/busybox"]
    );
}

#[test]
fn a_hook_gets_the_state_its_own_arguments_and_only_its_own_environment() {
    needs_host!();
    let mut lab = Lab::new();
    let out = lab.dir.join("got");
    let script = format!("{{ cat; echo; echo \"$0 $1\"; env; }} >{}", out.display());
    lab.config["annotations"] = json!({ "a": "b" });
    lab.config["hooks"] = json!({ "createRuntime": [{
        "path": "/bin/sh", "args": ["my-name", "-c", script, "zero", "one"], "env": ["ONLY=this", "X=a=b"],
    }] });
    lab.call(&["create", "c"]).ok();
    let got = std::fs::read_to_string(out).unwrap();
    let mut lines = got.lines();
    let state: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(state["id"], "c");
    assert_eq!(state["status"], "creating");
    assert_eq!(state["pid"], lab.pid("c"));
    assert_eq!(state["bundle"], lab.dir.join("bundle").to_str().unwrap());
    assert_eq!(state["annotations"], json!({ "a": "b" }));
    assert_eq!(lines.next(), Some("zero one"));
    let environment: Vec<&str> = lines
        .filter(|line| !line.starts_with("PWD=") && !line.starts_with("_="))
        .collect();
    assert_eq!(environment.len(), 2, "{environment:?}");
    assert!(environment.contains(&"ONLY=this") && environment.contains(&"X=a=b"));
}

#[test]
fn a_hook_that_fails_before_start_names_itself_and_the_container_never_is() {
    needs_host!();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut lab = Lab::sh("touch /ran");
        lab.config["hooks"] =
            json!({ kind: [host("true"), host("echo why >&2; exit 3"), host("touch /never")] });
        lab.call(&["create", "c"]).fails(&format!(
            "{kind} hook #1: /bin/sh: exit status 3, stderr: \"why\""
        ));
        lab.is_clean().unwrap();
        lab.run().fails(&format!("{kind} hook #1"));
        assert!(!lab.rootfs("ran").exists() && !Path::new("/never").exists());
        lab.is_clean().unwrap();
    }
}

#[test]
fn a_start_container_hook_that_fails_keeps_the_program_from_running() {
    needs_host!();
    let mut lab = Lab::sh("touch /ran");
    lab.config["hooks"] = json!({ "startContainer": [host("exit 4")] });
    lab.run()
        .fails("startContainer hook #0: /bin/sh: exit status 4");
    assert!(!lab.rootfs("ran").exists());
    lab.is_clean().unwrap();
}

#[test]
fn a_poststop_hook_that_fails_is_a_warning() {
    needs_host!();
    let mut lab = Lab::sh("exit 5");
    lab.config["hooks"] = json!({ "poststop": [host("exit 1")] });
    let done = lab.run();
    assert_eq!(done.code, 5);
    assert!(
        done.err.contains("level=warning") && done.err.contains("poststop hook #0"),
        "{}",
        done.err
    );
    lab.is_clean().unwrap();
}

#[test]
fn a_poststart_hook_that_fails_ends_the_container() {
    needs_host!();
    let mut lab = Lab::sh("sleep 1000");
    lab.config["hooks"] = json!({ "poststart": [host("exit 1")] });
    lab.run().fails("error running poststart hook #0");
    lab.is_clean().unwrap();
    lab.call(&["create", "c"]).ok();
    lab.call(&["start", "c"])
        .fails("error running poststart hook #0");
    support::soon("its end", || lab.status("c") == "stopped");
}

#[test]
fn a_hook_that_takes_too_long_is_killed() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }] });
    lab.run()
        .fails("createRuntime hook #0: /bin/sleep: no end within 1 s");
    lab.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "0"], "timeout": 1 }] });
    lab.run().ok();
    lab.is_clean().unwrap();
}

#[test]
fn a_hook_that_is_not_there_dies_or_says_too_much_is_told_in_short() {
    needs_host!();
    let mut lab = Lab::new();
    let absent = lab.dir.join("absent").display().to_string();
    let mut fails = |hook: Value, words: &str| {
        lab.config["hooks"] = json!({ "createContainer": [hook] });
        lab.run().fails(words)
    };
    fails(
        json!({ "path": absent }),
        &format!("createContainer hook #0: {absent}: "),
    );
    fails(host("kill -9 $$"), "signal: killed");
    let said = fails(
        host("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1"),
        "exit status 1",
    );
    assert!(said.len() < 6000, "{}", said.len());
}

/// A hook of every point but startContainer that says where it is and what its environment is.
fn telling(lab: &Lab) -> Value {
    let dir = lab.dir.display();
    let tell = |kind: &&str| {
        let script = format!("{{ pwd; env; }} >{dir}/{kind}.told");
        ((*kind).to_owned(), json!([host(&script)]))
    };
    let kinds = ALL.iter().filter(|kind| **kind != "startContainer");
    kinds.map(tell).collect::<serde_json::Map<_, _>>().into()
}

/// As with runc and crun; but nothing of the container's, which these programs of the host would obey
/// (NVIDIA's CVE-2025-23266: LD_PRELOAD of an image in a createContainer hook).
#[test]
fn a_hook_that_names_no_environment_has_the_runtimes_and_nothing_of_the_container() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["hooks"] = telling(&lab);
    lab.config["process"]["env"] =
        json!(["PATH=/bin", "LD_PRELOAD=/evil.so", "OF_THE_CONTAINER=1"]);
    lab.config["process"]["cwd"] = json!("/tmp");
    lab.call_as(&["run", "c"], |command| {
        command.env("OF_THE_RUNTIME", "1");
    })
    .ok();
    for kind in ALL.iter().filter(|kind| **kind != "startContainer") {
        let told = std::fs::read_to_string(lab.dir.join(format!("{kind}.told"))).unwrap();
        let (directory, environment) = told.split_once('\n').unwrap();
        assert!(environment.contains("OF_THE_RUNTIME=1\n"), "{kind}: {told}");
        for word in ["OF_THE_CONTAINER", "LD_PRELOAD", "PATH=/bin\n"] {
            assert!(!environment.contains(word), "{kind}: {told}");
        }
        let root = lab.rootfs("");
        assert!(!Path::new(directory).starts_with(&root), "{kind}: {told}");
    }
    // One that names none gets none.
    for kind in ["createRuntime", "createContainer"] {
        lab.config["hooks"] = telling(&lab);
        lab.config["hooks"][kind][0]["env"] = json!([]);
        lab.call_as(&["run", "c"], |command| {
            command.env("OF_THE_RUNTIME", "1");
        })
        .ok();
        let told = std::fs::read_to_string(lab.dir.join(format!("{kind}.told"))).unwrap();
        assert!(!told.contains("OF_THE_RUNTIME"), "{told}");
    }
}

#[test]
fn hooks_before_the_program_can_write_to_a_root_that_it_cannot_write_to() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["root"]["readonly"] = json!(true);
    lab.config["linux"]["maskedPaths"] = json!(["/masked"]);
    std::fs::create_dir(lab.rootfs("masked")).unwrap();
    let root = lab.rootfs("").display().to_string();
    // As NVIDIA's hooks: into the mount namespace of the container's first process.
    let enter = |kind: &str| {
        host(&format!(
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); echo x >/proc/$pid/root{root}{kind} && echo x >/proc/$pid/root{root}masked/{kind}"
        ))
    };
    let beside = host(&format!(
        "echo x >{root}createContainer && echo x >{root}masked/createContainer"
    ));
    lab.config["hooks"] = json!({
        "prestart": [enter("prestart")],
        "createRuntime": [enter("createRuntime")],
        "createContainer": [beside],
    });
    let seen = lab.prints(
        "ls -d /prestart /createRuntime /createContainer; ls /masked; touch /x 2>/dev/null || echo read-only",
    );
    assert_eq!(
        seen,
        "/createContainer\n/createRuntime\n/prestart\nread-only\n"
    );
}

#[test]
fn a_poststop_hook_that_fails_keeps_no_other_from_running() {
    needs_host!();
    let mut lab = Lab::new();
    let log = lab.dir.join("log");
    let note = |word: &str| host(&format!("echo {word} >>{}", log.display()));
    lab.config["hooks"] = json!({ "poststop": [note("a"), host("exit 1"), note("b"), json!({ "path": lab.dir.join("absent") }), note("c")] });
    let done = lab.run();
    assert_eq!(done.code, 0, "{done:#?}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "a\nb\nc\n");
    assert!(
        done.err.contains("poststop hook #1") && done.err.contains("poststop hook #3"),
        "{}",
        done.err
    );
}
