//! crictl's command line beside its verbs: crictl.yaml, variables, sockets that do not answer, words that are
//! wrong, and configurations that are none.

use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::cli::crictl::served;
use crate::cli::{Said, machine};

fn said(command: &mut Command) -> Said {
    command.output().expect("run").into()
}

#[test]
fn the_socket_is_the_options_the_variables_or_the_files() {
    served(|floe, crictl| {
        let endpoint = crictl.endpoint();
        let file = floe.node.path("etc/crictl.yaml");
        let at = file.display().to_string();
        let with_file =
            |words: &[&str]| said(crictl.bare().env("CRI_CONFIG_FILE", &at).args(words));
        // What is missing is an error for every verb but the one that makes it.
        with_file(&["version"]).failed(1, &["get server config: load config file"]);
        with_file(&[
            "config",
            "--set",
            &format!("runtime-endpoint={endpoint},timeout=60"),
        ])
        .ok();
        assert_eq!(
            with_file(&["config", "--get", "runtime-endpoint"]).ok(),
            endpoint
        );
        assert!(with_file(&["version"]).ok().contains("RuntimeName:  floe"));
        with_file(&["config", "debug", "true"]).ok();
        let list = with_file(&["config", "--list"]).ok();
        let rows: Vec<Vec<&str>> = list
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0], ["KEY", "VALUE"]);
        assert_eq!(rows[1], ["runtime-endpoint", &endpoint]);
        assert_eq!(rows[3], ["timeout", "60"]);
        assert_eq!(rows[4], ["debug", "true"]);
        with_file(&["config", "--get", "x"]).failed(1, &["no configuration option named x"]);
        with_file(&["config", "--set", "timeout=x"]).failed(1, &["timeout"]);
        with_file(&["config", "--set", "a"]).failed(1, &["incorrectly specified option: a"]);
        // The option counts before the file.
        let other = "unix:///nowhere.sock";
        with_file(&["-r", other, "--max-retries", "0", "version"]).failed(1, &["/nowhere.sock"]);
        let by_option = crictl.bare().args(["--config", &at, "ps"]).output();
        Said::from(by_option.expect("run")).ok();
        std::fs::write(&file, "runtime-endpoint: x\nnothing: 1\n").expect("write");
        with_file(&["ps"]).failed(1, &["Config option 'nothing' is not valid"]);
        // The variable, and a path without a scheme.
        let path = floe.node.socket();
        let mut by_variable = crictl.bare();
        by_variable.env("CONTAINER_RUNTIME_ENDPOINT", &path);
        said(by_variable.args(["-t", "60s", "ps"])).ok();
        // Images may be another socket's.
        let mut images = crictl.bare();
        images.args(["-r", &endpoint, "-t", "60s", "-i", other, "images"]);
        said(&mut images).failed(1, &["CRI v1 image API", "/nowhere.sock"]);
    });
}

#[test]
fn a_socket_that_does_not_answer_is_given_up() {
    machine(|floe| {
        let socket = floe.node.path("dead.sock");
        let crictl = floe.crictl(&socket);
        let words = [
            "--max-retries",
            "0",
            "-r",
            &crictl.endpoint(),
            "-t",
            "500ms",
            "ps",
        ];
        let run = || said(crictl.bare().args(words));
        run().failed(
            1,
            &[
                "level=error",
                "validate CRI v1 runtime API",
                "code = Unavailable",
                "connect: no such file or directory",
            ],
        );
        // One that takes connections and says nothing.
        let listener = UnixListener::bind(&socket).expect("listen");
        run().failed(1, &["code = DeadlineExceeded"]);
        drop(listener);
        run().failed(1, &["code = Unavailable", "connection refused"]);
        let bad = said(
            crictl
                .bare()
                .args(["-r", "tcp://127.0.0.1:1", "--max-retries", "0", "ps"]),
        );
        bad.failed(1, &["only support unix socket endpoint"]);
        let empty = said(crictl.bare().args(["-r", "", "ps"]));
        empty.failed(1, &["--runtime-endpoint is not set"]);
    });
}

#[test]
fn wrong_words_are_answered_as_crictl_does() {
    machine(|floe| {
        let crictl = floe.crictl(&floe.node.socket());
        let run = |words: &[&str]| said(crictl.bare().args(words));
        run(&["nosuch"]).failed(3, &["No help topic for 'nosuch'"]);
        run(&["ps", "--nosuch"]).failed(1, &["--nosuch"]);
        // Too few words are no failure: the help says what is wanted.
        let help = run(&["runp"]);
        assert_eq!((help.code, help.err.as_str()), (0, ""));
        assert!(help.out.contains("Usage: crictl runp"), "{}", help.out);
        let help = floe.floe(&["cri", "create", "a"]);
        assert!(help.out.contains("Usage: floe cri create"), "{}", help.out);
        let version = run(&["--version"]).ok();
        assert!(version.starts_with("crictl version v1."), "{version}");
        for (words, option) in [
            (&["--enable-tracing", "ps"][..], "--enable-tracing"),
            (&["--profile-cpu=x", "ps"], "--profile-cpu"),
            (&["update", "--cpu-count", "3", "x"], "--cpu-count"),
        ] {
            run(words).failed(1, &[&format!("{option} is not offered: ")]);
        }
        let bash = run(&["completion", "bash"]).ok();
        assert!(bash.contains("port-forward") && bash.contains("--runtime-endpoint"));
        assert!(run(&["completion", "fish"]).ok().contains("crictl"));
        let schema: serde_json::Value =
            serde_json::from_str(&run(&["runp", "jsonschema"]).ok()).expect("JSON");
        assert_eq!(schema["$ref"], "#/$defs/PodSandboxConfig");
        let properties = &schema["$defs"]["PodSandboxConfig"]["properties"];
        assert_eq!(properties["log_directory"]["type"], "string");
        let both = run(&["create", "js", "--container"]).ok();
        assert!(both.contains("#/$defs/ContainerConfig"), "{both}");
    });
}

#[test]
fn configurations_are_read_in_every_form_and_bad_ones_make_nothing() {
    served(|_, crictl| {
        let yaml = crictl.file(
            "pod.yaml",
            "metadata: {name: yaml, namespace: default}\nlogDirectory: /tmp\nlabels: {version: 1}\nsurprise: 1\n\
             linux:\n  securityContext: {namespaceOptions: {network: NODE, pid: 1}}\n",
        );
        let said = crictl.run(&["runp", &yaml]);
        let (code, err) = (said.code, said.err.clone());
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("field surprise is unknown"), "{err}");
        let pod = said.ok();
        let status = crictl.json(&["inspectp", "-q", &pod]);
        let namespaces = &status["status"]["linux"]["namespaces"]["options"];
        assert_eq!(namespaces["network"], "NODE");
        assert_eq!(status["status"]["labels"]["version"], "1");
        let uid = status["status"]["metadata"]["uid"].as_str().expect("an id");
        assert_eq!(uid.len(), 36, "{uid}");

        let pods = crictl.ok(&["pods", "-q"]);
        for (text, words) in [
            ("", "load podSandboxConfig"),
            ("{", "load podSandboxConfig"),
            ("[1]", "load podSandboxConfig"),
            ("{}", "metadata is not set"),
            (
                r#"{"metadata": {"name": "a"}}"#,
                "name or namespace is not in metadata",
            ),
            (
                r#"{"metadata": {"name": "a", "namespace": "b", "attempt": -1}}"#,
                "load podSandboxConfig",
            ),
            ("a: &a [*a, *a]", "load podSandboxConfig"),
        ] {
            let file = crictl.file("bad.json", text);
            crictl.run(&["runp", &file]).failed(1, &[words]);
        }
        let huge = crictl.file("huge.json", &" ".repeat(5 << 20));
        crictl.run(&["runp", &huge]).failed(1, &["has more than"]);
        crictl
            .run(&["runp", "/nosuch.json"])
            .failed(1, &["config at /nosuch.json not found"]);
        assert_eq!(crictl.ok(&["pods", "-q"]), pods);
    });
}
