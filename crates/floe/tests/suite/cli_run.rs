//! `floe run`: what the container gets, how floe ends, and what stays.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::cli::{machine, signal, until};
use rustix::process::Signal;
use testkit::images::{self, Entry};

#[test]
fn the_commands_output_and_exit_code_are_floes() {
    machine(|floe| {
        let said = floe.run(&["--rm"], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!((said.code, said.out.as_str()), (7, "out\n"));
        assert!(said.err.ends_with("err\n"), "{}", said.err);
        assert_eq!(floe.run(&["--rm"], &[]).ok(), "default");
        // The first process of a container cannot kill itself.
        let suicide = "sh -c 'kill -9 $$'; exit $?";
        let killed = floe.run(&["--rm"], &["sh", "-c", suicide]);
        assert_eq!(killed.code, 137);
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn what_cannot_run_has_podmans_exit_codes_and_leaves_nothing() {
    machine(|floe| {
        floe.run(&[], &["no-such"])
            .failed(127, &["no-such", "not found in $PATH"]);
        floe.run(&[], &["/etc/passwd"])
            .failed(126, &["/etc/passwd", "permission denied"]);
        floe.run(&["--no-such-flag"], &[])
            .failed(125, &["--no-such-flag"]);
        let none = floe.node.path("no/such").display().to_string();
        floe.run(&["-v", &format!("{none}:/x")], &[])
            .failed(125, &[&none]);
        floe.run(&["-v", "rel/ative:/x"], &[])
            .failed(125, &["rel/ative"]);
        floe.run(&["-w", "relative"], &[])
            .failed(125, &["relative"]);
        floe.run(&["-u", "nobody-here"], &[])
            .failed(125, &["nobody-here"]);
        let missing = format!("{}/cli/missing:1", floe.registry.host());
        floe.floe(&["run", &missing]).failed(125, &["missing:1"]);
        floe.floe(&["run", "--pull", "never", &missing])
            .failed(125, &["not known"]);
        floe.floe(&["run", "UPPER"]).failed(125, &["UPPER"]);
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn options_decide_over_the_image() {
    machine(|floe| {
        let script = "echo $FROM $A $B; pwd; id -u; id -g; hostname";
        let options = [
            "--rm",
            "-e",
            "A=1",
            "--env",
            "FROM=me",
            "-w",
            "/tmp",
            "-u",
            "5:6",
            "--hostname",
            "box",
        ];
        let said = floe.run(&options, &["sh", "-c", script]).ok();
        assert_eq!(said, "me 1\n/tmp\n5\n6\nbox");
        let entry = ["--rm", "--entrypoint", "echo"];
        assert_eq!(floe.run(&entry, &["of", "mine"]).ok(), "of mine");
        let unwritable = floe.run(&["--rm", "--read-only"], &["touch", "/x"]);
        assert!(unwritable.err.contains("Read-only"), "{unwritable:?}");
    });
}

#[test]
fn volumes_are_shared_with_the_host_and_read_only_if_asked_for() {
    machine(|floe| {
        let dir = floe.node.path("volume");
        std::fs::create_dir(&dir).expect("create the volume");
        std::fs::write(dir.join("there"), "from the host").expect("write into it");
        let volume = format!("{}:/v", dir.display());
        let said = floe.run(
            &["--rm", "-v", &volume],
            &["sh", "-c", "cat /v/there; echo back > /v/back"],
        );
        assert_eq!(said.ok(), "from the host");
        assert_eq!(
            std::fs::read_to_string(dir.join("back")).expect("read it"),
            "back\n"
        );
        let read_only = format!("{volume}:ro");
        let said = floe.run(&["--rm", "-v", &read_only], &["touch", "/v/x"]);
        assert!(said.code == 1 && said.err.contains("Read-only"), "{said:?}");
    });
}

#[test]
fn standard_input_goes_in_only_if_asked_for() {
    machine(|floe| {
        for (options, expected) in [(&["--rm", "-i"][..], "typed"), (&["--rm"][..], "")] {
            let mut arguments = vec!["run", "--network", "none"];
            arguments.extend(options);
            arguments.extend([floe.image.as_str(), "cat"]);
            let mut child = floe
                .command(&arguments)
                .stdin(Stdio::piped())
                .spawn()
                .expect("start floe");
            // Nobody may be reading, which is no failure of the test.
            let _ = child.stdin.take().expect("stdin").write_all(b"typed");
            let output = child.wait_with_output().expect("wait for floe");
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
            assert_eq!(output.status.code(), Some(0));
        }
    });
}

#[test]
fn a_terminal_is_a_terminal_inside_with_the_size_of_ours() {
    machine(|floe| {
        let script = "tty; stty size; read line; echo got $line; exit 3";
        let image = floe.image.clone();
        let mut terminal = floe.on_terminal(&[
            "run",
            "--rm",
            "-it",
            "--network",
            "none",
            &image,
            "sh",
            "-c",
            script,
        ]);
        terminal.wait_for("30 100");
        terminal.type_in("something\n");
        let (shown, code) = terminal.end();
        assert!(shown.contains("/dev/pts/0\n"), "{shown}");
        assert!(shown.contains("got something\n"), "{shown}");
        assert_eq!(code, 3);
    });
}

#[test]
fn ctrl_c_on_a_terminal_reaches_the_command() {
    machine(|floe| {
        let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done";
        let image = floe.image.clone();
        let mut terminal = floe.on_terminal(&[
            "run",
            "--rm",
            "-it",
            "--network",
            "none",
            &image,
            "sh",
            "-c",
            script,
        ]);
        terminal.wait_for("ready");
        terminal.type_in("\u{3}");
        let (shown, code) = terminal.end();
        assert!(shown.contains("caught"), "{shown}");
        assert_eq!(code, 9);
    });
}

#[test]
fn signals_to_floe_reach_the_command() {
    machine(|floe| {
        let script = "trap 'echo asked; exit 4' TERM; echo ready; while :; do sleep 0.1; done";
        let image = floe.image.clone();
        let arguments = [
            "run",
            "--rm",
            "--network",
            "none",
            &image,
            "sh",
            "-c",
            script,
        ];
        let mut child = floe.command(&arguments).spawn().expect("start floe");
        let mut out = child.stdout.take().expect("stdout");
        let mut ready = [0; 6];
        out.read_exact(&mut ready).expect("it begins");
        signal(&child, Signal::TERM);
        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("it ends");
        assert_eq!(rest, "asked\n");
        assert_eq!(child.wait().expect("wait for floe").code(), Some(4));
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn floe_run_killed_leaves_a_container_that_runs_on_and_can_be_removed() {
    machine(|floe| {
        let image = floe.image.clone();
        let arguments = [
            "run",
            "--rm",
            "--name",
            "orphan",
            "--network",
            "none",
            &image,
            "sleep",
            "1000",
        ];
        let mut child = floe.command(&arguments).spawn().expect("start floe");
        until("it runs", || floe.listed(&[]) == ["orphan"]);
        child.kill().expect("kill floe");
        child.wait().expect("wait for floe");
        assert_eq!(floe.listed(&[]), ["orphan"]);
        floe.floe(&["rm", "-f", "-t", "0", "orphan"]).ok();
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn a_name_is_given_once_also_to_two_at_the_same_time() {
    machine(|floe| {
        floe.background("taken", "sleep 1000");
        floe.run(&["--name", "taken"], &["true"])
            .failed(125, &["\"taken\" is already in use"]);
        floe.run(&["--name", "no/name"], &["true"])
            .failed(125, &["no/name"]);
        let image = floe.image.clone();
        let arguments = [
            "run",
            "-d",
            "--name",
            "both",
            "--network",
            "none",
            &image,
            "sleep",
            "1000",
        ];
        let children: Vec<_> = (0..4)
            .map(|_| floe.command(&arguments).spawn().expect("start floe"))
            .collect();
        let codes: Vec<_> = children
            .into_iter()
            .map(|child| child.wait_with_output().expect("wait").status.code())
            .collect();
        let won = codes.iter().filter(|code| **code == Some(0)).count();
        let lost = codes.iter().filter(|code| **code == Some(125)).count();
        assert_eq!((won, lost), (1, 3), "{codes:?}");
        let mut names = floe.listed(&["-a"]);
        names.sort();
        assert_eq!(names, ["both", "taken"]);
    });
}

#[test]
fn networks_are_a_bridge_none_or_the_hosts() {
    machine(|floe| {
        let links = |network: &str| {
            let words = ["cat", "/proc/net/dev"];
            let mut arguments = vec!["run", "--rm", "--network", network, &floe.image];
            arguments.extend(words);
            let table = floe.floe(&arguments).ok();
            let names = table.lines().filter_map(|line| line.split_once(':'));
            let mut names: Vec<String> = names.map(|(name, _)| name.trim().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(links("none"), ["lo"]);
        assert_eq!(links("bridge"), ["eth0", "lo"]);
        // The test's own network, with the bridge that the last container left.
        assert!(!links("host").contains(&"eth0".to_owned()));
        floe.floe(&["run", "--network", "elsewhere", &floe.image])
            .failed(125, &["elsewhere"]);
    });
}

#[test]
fn a_published_port_is_reached_from_the_host() {
    machine(|floe| {
        let arguments = [
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "127.0.0.1:18091:80",
            &floe.image,
            "httpd",
            "-f",
            "-h",
            "/www",
        ];
        floe.floe(&arguments).ok();
        let body = testkit::net::http_get([127, 0, 0, 1].into(), 18091).expect("it answers");
        assert_eq!(body, "hello from a pod\n");
        assert!(floe.floe(&["ps"]).ok().contains("127.0.0.1:18091->80/tcp"));
    });
}

#[test]
fn a_user_with_a_group_has_that_group_alone() {
    machine(|floe| {
        let image = format!("{}/cli/groups:1", floe.registry.host());
        let files = [
            Entry::Dir("etc", 0o755),
            Entry::File(
                "etc/passwd",
                0o644,
                b"root:x:0:0::/:\nwww:x:1000:1000::/:\n",
            ),
            Entry::File("etc/group", 0o644, b"more:x:41:www\nwww:x:1000:\n"),
        ];
        let layers = [
            images::busybox().expect("busybox-static"),
            images::layer(&files).expect("a layer"),
        ];
        let config = serde_json::json!({ "Env": ["PATH=/bin"], "User": "www:www" });
        floe.push_layers(&image, &layers, config);
        let groups = |options: &[&str]| {
            let mut arguments = vec!["run", "--rm", "--network", "none"];
            arguments.extend(options);
            arguments.extend([image.as_str(), "id", "-G"]);
            floe.floe(&arguments)
        };
        assert_eq!(groups(&[]).ok(), "1000");
        assert_eq!(groups(&["--user", "1000:1000"]).ok(), "1000");
        assert_eq!(groups(&["--user", "1000"]).ok(), "1000 41");
        assert_eq!(groups(&["--user", "www"]).ok(), "1000 41");
        for user in ["+0", ":", ":0", "0:"] {
            groups(&["--user", user]).failed(125, &["user"]);
        }
    });
}
