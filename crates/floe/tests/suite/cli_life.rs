//! `floe create`, `start`, `restart`, `kill`, `pause`, `wait`, `rename` and `port`: a container that outlives its
//! processes, and what its supervisor does at their end.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{Machine, machine, until};

/// Says `again`, with one more line in a file each time, and ends with that code.
fn counts(code: i32) -> String {
    format!("echo run >> /runs; wc -l < /runs; exit {code}")
}

impl Machine {
    pub(crate) fn create(&self, options: &[&str], words: &[&str]) -> String {
        let mut arguments = vec!["create", "--network", "none"];
        arguments.extend(options);
        arguments.push(&self.image);
        arguments.extend(words);
        self.floe(&arguments).ok()
    }

    /// What a template says of a container.
    fn told(&self, name: &str, template: &str) -> String {
        self.floe(&["inspect", "--format", template, name]).ok()
    }

    fn state(&self, name: &str) -> String {
        self.told(name, "{{.State.Status}}")
    }

    fn pods(&self) -> Vec<PathBuf> {
        let pods = std::fs::read_dir(self.node.path("run/pods")).unwrap();
        pods.map(|entry| entry.unwrap().path()).collect()
    }

    /// Does a supervisor live?
    fn is_supervised(&self) -> bool {
        let mut pods = self.pods().into_iter();
        pods.any(|pod| pod.join("supervisor.sock").exists())
    }
}

#[test]
fn what_is_created_has_no_process_until_it_is_started_and_keeps_what_it_wrote() {
    machine(|floe| {
        let id = floe.create(&["--name", "box"], &["sh", "-c", &counts(3)]);
        assert_eq!(floe.state("box"), "created");
        assert!(!floe.is_supervised());
        assert_eq!(floe.listed(&[]), [""; 0]);
        assert_eq!(floe.listed(&["-a"]), ["box"]);
        let first = floe.floe(&["start", "-a", "box"]);
        assert_eq!((first.code, first.out.trim()), (3, "1"), "{first:?}");
        assert_eq!(floe.state("box"), "exited");
        assert!(!floe.is_supervised(), "its network is given back");
        assert_eq!(floe.floe(&["start", &id[..12]]).ok(), id[..12]);
        assert_eq!(floe.floe(&["wait", "box"]).ok(), "3");
        assert_eq!(floe.floe(&["logs", "box"]).ok(), "1\n2");
        assert_eq!(floe.told("box", "{{.Id}}"), id);
        floe.floe(&["rm", "box"]).ok();
        let kept = std::fs::read_dir(floe.node.path("root/definitions")).unwrap();
        assert_eq!(kept.count(), 0);
    });
}

#[test]
fn containers_are_there_after_a_reboot() {
    machine(|floe| {
        floe.create(
            &[
                "--name",
                "made",
                "--tmpfs",
                "/scratch",
                "--umask",
                "077",
                "--add-host",
                "gate:10.0.0.1",
            ],
            &[
                "sh",
                "-c",
                "umask; grep gate /etc/hosts; grep -c ' /scratch ' /proc/mounts",
            ],
        );
        floe.run(&["--name", "ran"], &["sh", "-c", &counts(0)]).ok();
        floe.run(&["--rm", "--name", "gone"], &["true"]).ok();
        // What a reboot leaves: the processes have ended, and memory is empty.
        std::fs::remove_dir_all(floe.node.path("run")).unwrap();
        let mut names = floe.listed(&["-a"]);
        names.sort();
        assert_eq!(names, ["made", "ran"]);
        assert_eq!(floe.state("ran"), "created");
        floe.run(&["--name", "ran"], &["true"])
            .failed(125, &["already in use"]);
        let said = floe.floe(&["start", "-a", "made"]).ok();
        assert_eq!(said, "0077\n10.0.0.1\tgate\n1");
        assert_eq!(floe.floe(&["start", "-a", "ran"]).ok(), "2");
        // An engine that starts clears nothing of them away.
        floe.floe(&["system", "check"]).ok();
        floe.floe(&["rm", "-a"]).ok();
        std::fs::remove_dir_all(floe.node.path("run")).unwrap();
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn one_that_fails_runs_again_as_its_policy_says() {
    machine(|floe| {
        floe.run(
            &["-d", "--name", "twice", "--restart", "on-failure:2"],
            &["sh", "-c", &counts(5)],
        )
        .ok();
        until("it is given up", || {
            floe.floe(&["logs", "twice"]).out == "1\n2\n3\n" && floe.state("twice") == "exited"
        });
        until("nothing of it runs", || !floe.is_supervised());
        assert_eq!(floe.told("twice", "{{.State.ExitCode}}"), "5");
        floe.run(
            &["-d", "--name", "well", "--restart", "on-failure"],
            &["true"],
        )
        .ok();
        until("it has ended", || floe.state("well") == "exited");
        assert_eq!(floe.told("well", "{{.RestartCount}}"), "0");
        let boot = ["ps", "-aq", "--filter", "should-start-on-boot=true"];
        assert_eq!(floe.floe(&boot).ok(), "");
        let policy =
            "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
        assert_eq!(floe.told("twice", policy), "on-failure 2");
        floe.run(&["--rm", "--restart", "always"], &["true"])
            .failed(125, &["--rm option conflicts with --restart"]);
    });
}

#[test]
fn one_that_is_killed_from_outside_runs_again_and_one_that_is_stopped_does_not() {
    machine(|floe| {
        let run = ["-d", "--name", "always", "--restart", "always"];
        floe.run(&run, &["sleep", "1000"]).ok();
        let pid = || floe.told("always", "{{.State.Pid}}");
        let first = pid();
        let number = first.parse().unwrap();
        let process = rustix::process::Pid::from_raw(number).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        until("it runs again", || {
            floe.state("always") == "running" && pid() != first
        });
        assert_eq!(floe.told("always", "{{.RestartCount}}"), "1");
        floe.floe(&["stop", "-t", "0", "always"]).ok();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(floe.state("always"), "exited");
        floe.floe(&["start", "always"]).ok();
        floe.floe(&["kill", "always"]).ok();
        until("it has ended", || floe.state("always") == "exited");
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(floe.state("always"), "exited");
        // What the unit for the node's start asks for.
        floe.create(
            &["--name", "other", "--restart", "unless-stopped"],
            &["sleep", "1000"],
        );
        let boot = [
            "ps",
            "-a",
            "--filter",
            "should-start-on-boot=true",
            "--format",
            "{{.Names}}",
        ];
        assert_eq!(floe.floe(&boot).ok(), "always\nother");
        let start = ["start", "--all", "--filter", "should-start-on-boot=true"];
        assert_eq!(floe.floe(&start).ok().lines().count(), 2);
        floe.floe(&["stop", "-t", "0", "other"]).ok();
        assert_eq!(floe.floe(&boot).ok(), "always");
        floe.floe(&["start", "other"]).ok();
        assert_eq!(floe.floe(&boot).ok(), "always\nother");
    });
}

#[test]
fn a_detached_one_is_removed_at_its_end_if_it_was_made_so() {
    machine(|floe| {
        floe.run(&["-d", "--rm", "--name", "short"], &["sleep", "0.2"])
            .ok();
        until("it is gone", || floe.listed(&["-a"]).is_empty());
        until("nothing of it is left", || floe.pods().is_empty());
        floe.run(&["-d", "--rm", "--name", "long"], &["sleep", "1000"])
            .ok();
        floe.floe(&["stop", "-t", "0", "long"]).ok();
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
        floe.run(&["-d", "--rm", "--timeout", "1"], &["sleep", "1000"])
            .ok();
        until("it is killed and gone", || floe.listed(&["-a"]).is_empty());
    });
}

#[test]
fn signals_pauses_and_waits() {
    machine(|floe| {
        let script = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.1; done";
        floe.background("box", script);
        until("it is ready", || {
            floe.floe(&["logs", "box"]).out.contains("ready")
        });
        assert_eq!(floe.floe(&["pause", "box"]).ok(), "box");
        assert_eq!(floe.state("box"), "paused");
        assert_eq!(floe.told("box", "{{.State.Paused}}"), "true");
        floe.floe(&["pause", "box"]).failed(
            125,
            &["is not running, can't pause: container state improper"],
        );
        floe.floe(&["start", "box"]).failed(125, &["paused"]);
        assert_eq!(floe.floe(&["unpause", "-a"]).ok().len(), 64);
        assert_eq!(
            floe.floe(&["wait", "--condition", "running", "box"]).ok(),
            "-1"
        );
        let waits = floe.command(&["wait", "box"]).spawn().unwrap();
        floe.floe(&["kill", "-s", "SIGUSR1", "box"]).ok();
        let said = crate::cli::Said::from(waits.wait_with_output().unwrap());
        assert_eq!(said.ok(), "7");
        floe.floe(&["kill", "box"]).failed(
            125,
            &[
                "can only kill running containers",
                "container state improper",
            ],
        );
        floe.floe(&["kill", "-s", "NONE", "box"])
            .failed(125, &["invalid signal: NONE"]);
        floe.create(&["--name", "never"], &["true"]);
        assert_eq!(floe.floe(&["wait", "never"]).ok(), "0");
        floe.floe(&["kill", "-s", "65", "box"])
            .failed(125, &["valid signals are 1 through 64"]);
        let filtered = ["start", "--filter", "status=running", "never"];
        assert_eq!(floe.floe(&filtered).ok(), "");
        floe.floe(&["start", "--all", "never"])
            .failed(125, &["either start all containers or"]);
        floe.floe(&["wait", "nobody"])
            .failed(125, &["no such container"]);
        assert_eq!(floe.floe(&["wait", "--ignore", "nobody"]).ok(), "-1");
        floe.floe(&["start"])
            .failed(125, &["you must provide at least one name or id"]);
    });
}

#[test]
fn another_name_is_another_name_everywhere() {
    machine(|floe| {
        floe.background("old", "sleep 1000");
        floe.create(&["--name", "other"], &["true"]);
        floe.floe(&["rename", "old", "other"])
            .failed(125, &["other"]);
        floe.floe(&["rename", "old", "-bad"]).failed(125, &[]);
        floe.floe(&["rename", "old", "new"]).ok();
        assert_eq!(floe.listed(&[]), ["new"]);
        // The old one is free.
        floe.create(&["--name", "old"], &["true"]);
        floe.floe(&["stop", "-t", "0", "new"]).ok();
        std::fs::remove_dir_all(floe.node.path("run")).unwrap();
        let mut names = floe.listed(&["-a"]);
        names.sort();
        assert_eq!(names, ["new", "old", "other"]);
    });
}

#[test]
fn restarts_and_ports() {
    machine(|floe| {
        let image = floe.image.clone();
        let run = [
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "127.0.0.1:18081:80",
            &image,
            "sleep",
            "1000",
        ];
        floe.floe(&run).ok();
        assert_eq!(
            floe.floe(&["port", "web"]).ok(),
            "80/tcp -> 127.0.0.1:18081"
        );
        assert_eq!(floe.floe(&["port", "web", "80"]).ok(), "127.0.0.1:18081");
        floe.floe(&["port", "web", "81/udp"])
            .failed(125, &["failed to find published port \"81/udp\""]);
        let pid = floe.told("web", "{{.State.Pid}}");
        assert_eq!(floe.floe(&["restart", "-t", "0", "web"]).ok(), "web");
        assert_ne!(floe.told("web", "{{.State.Pid}}"), pid);
        floe.floe(&["stop", "-t", "0", "web"]).ok();
        // Its port is free while it does not run.
        let other = ["run", "--rm", "-p", "127.0.0.1:18081:80", &image, "true"];
        floe.floe(&other).ok();
        floe.floe(&["restart", "web"]).ok();
        assert_eq!(floe.listed(&[]), ["web"]);
        assert_eq!(floe.floe(&["restart", "--running"]).ok().len(), 64);
    });
}

#[test]
fn keys_leave_a_terminal_and_attach_comes_back() {
    machine(|floe| {
        let image = floe.image.clone();
        let mut terminal = floe.on_terminal(&[
            "run",
            "-it",
            "--network",
            "none",
            "--name",
            "shell",
            &image,
            "sh",
        ]);
        terminal.wait_for("# ");
        terminal.type_in("X=kept\r");
        terminal.wait_for("# ");
        terminal.type_in("\u{10}\u{11}");
        let (_, code) = terminal.end();
        assert_eq!(code, 0);
        assert_eq!(floe.state("shell"), "running");
        let mut terminal = floe.on_terminal(&["attach", "--detach-keys", "ctrl-a", "shell"]);
        terminal.type_in("echo is-$X\r");
        terminal.wait_for("is-kept");
        terminal.type_in("\u{1}");
        assert_eq!(terminal.end().1, 0);
        floe.floe(&["kill", "shell"]).ok();
        until("it has ended", || floe.state("shell") == "exited");
        floe.floe(&["attach", "shell"])
            .failed(125, &["you can only attach to running containers"]);
    });
}

/// Whatever moment it is killed at, a start leaves a container that can be started, and never takes its files.
#[test]
fn a_start_that_is_killed_harms_nothing() {
    machine(|floe| {
        floe.create(&["--name", "box"], &["sh", "-c", "cat /kept; sleep 1000"]);
        std::fs::write(floe.node.path("kept"), "kept\n").unwrap();
        let kept = floe.node.path("kept");
        floe.floe(&["cp", kept.to_str().unwrap(), "box:/kept"]).ok();
        for step in 0..12 {
            let mut starts = floe.command(&["start", "box"]).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(step * 4));
            starts.kill().unwrap();
            starts.wait().unwrap();
            floe.floe(&["stop", "-t", "0", "box"]).ok();
        }
        floe.floe(&["start", "box"]).ok();
        until("it says what it has", || {
            floe.floe(&["logs", "--tail", "1", "box"]).out == "kept\n"
        });
        floe.floe(&["container", "prune", "-f"]).ok();
        assert_eq!(floe.listed(&[]), ["box"]);
        floe.floe(&["stop", "-t", "0", "box"]).ok();
        let pruned = floe.floe(&["container", "prune", "-f"]).ok();
        assert_eq!(pruned.lines().count(), 1);
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}
