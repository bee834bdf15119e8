//! Health checks of containers: what they come to, who is told, and what follows.

use crate::cli::{Machine, Said, machine, until};

impl Machine {
    /// A container that sleeps, in the background, with these options.
    fn checked(&self, name: &str, options: &[&str]) -> Said {
        let begin = [
            "run",
            "-d",
            "--network",
            "none",
            "--stop-timeout",
            "0",
            "--name",
            name,
        ];
        let end = [
            &self.image,
            "sh",
            "-c",
            "echo run >> /runs; exec sleep 1000",
        ];
        self.floe(&[&begin[..], options, &end].concat())
    }

    /// Runs its check now; what is printed, and the code.
    fn check(&self, arguments: &[&str]) -> (i32, String) {
        let said = self.floe(&[&["healthcheck", "run"], arguments].concat());
        (said.code, said.out)
    }

    fn looked_at(&self, name: &str, format: &str) -> String {
        self.floe(&["inspect", "--format", format, name])
            .out
            .trim()
            .to_owned()
    }

    fn health(&self, name: &str) -> String {
        self.looked_at(name, "{{.State.Health.Status}}")
    }

    fn until_health(&self, name: &str, wanted: &str) {
        until(&format!("{name} is {wanted}"), || {
            self.health(name) == wanted
        });
    }
}

#[test]
fn a_container_is_well_as_long_as_its_check_says_so_and_everybody_sees_it() {
    machine(|floe| {
        let check = "cat /well; test -e /well";
        let options = [
            "--health-cmd",
            check,
            "--health-interval",
            "200ms",
            "--health-retries",
            "2",
        ];
        floe.checked(
            "c",
            &[&options[..], &["--health-max-log-count", "3"]].concat(),
        )
        .ok();
        floe.checked("plain", &[]).ok();
        floe.until_health("c", "unhealthy");
        let status = |filter: &str| {
            let all = [
                "ps",
                "--filter",
                filter,
                "--format",
                "{{.Names}} {{.Status}}",
            ];
            floe.floe(&all).ok()
        };
        assert!(status("health=unhealthy").ends_with("(unhealthy)"));
        assert_eq!(status("health=healthy"), "");
        assert!(status("health=none").starts_with("plain Up"));
        assert_eq!(floe.check(&["c"]), (1, "unhealthy\n".into()));
        assert_eq!(
            floe.check(&["--ignore-result", "c"]),
            (0, "unhealthy\n".into())
        );
        floe.floe(&["exec", "c", "sh", "-c", "echo fine > /well"])
            .ok();
        assert_eq!(
            floe.floe(&["wait", "--condition", "healthy", "c"]).ok(),
            "-1"
        );
        assert_eq!(floe.check(&["c"]), (0, String::new()));
        let last = "{{.State.Health.FailingStreak}} {{with index .State.Health.Log 2}}{{.ExitCode}} {{.Output}}{{end}}";
        assert_eq!(floe.looked_at("c", last), "0 0 fine");
        assert_eq!(floe.looked_at("c", "{{len .State.Health.Log}}"), "3");
        let config = "{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Retries}}";
        assert_eq!(
            floe.looked_at("c", config),
            format!("[CMD-SHELL {check}] 2")
        );
        floe.floe(&["pause", "c"]).ok();
        floe.floe(&["healthcheck", "run", "c"])
            .failed(125, &["paused"]);
        floe.floe(&["unpause", "c"]).ok();
        floe.floe(&["stop", "c"]).ok();
        floe.floe(&["healthcheck", "run", "c"])
            .failed(125, &["exited"]);
        floe.floe(&["healthcheck", "run", "plain"])
            .failed(125, &["has no defined healthcheck"]);
        floe.floe(&["healthcheck", "run", "none"])
            .failed(125, &["no container with name or ID"]);
        // It is checked again when it runs again, and nothing of before counts.
        floe.floe(&["start", "c"]).ok();
        floe.until_health("c", "healthy");
    });
}

#[test]
fn what_follows_when_it_is_unhealthy_is_what_was_asked_for() {
    machine(|floe| {
        let check = [
            "--health-cmd",
            "false",
            "--health-interval",
            "100ms",
            "--health-retries",
            "2",
        ];
        let on = |name: &str, more: &[&str]| {
            floe.checked(name, &[&check[..], more].concat()).ok();
        };
        on(
            "stop",
            &["--health-on-failure", "stop", "--restart", "always"],
        );
        on("kill", &["--health-on-failure", "kill"]);
        on("restart", &["--health-on-failure", "restart"]);
        let state = |name: &str| floe.looked_at(name, "{{.State.Status}} {{.State.ExitCode}}");
        until("one was killed", || state("kill") == "exited 137");
        until("one was stopped", || state("stop") == "exited 137");
        until("one runs again", || {
            floe.floe(&["exec", "restart", "cat", "/runs"])
                .out
                .starts_with("run\nrun\n")
        });
        assert_ne!(floe.looked_at("restart", "{{.RestartCount}}"), "0");
        // Who stops one that is being stopped to run again has the last word.
        let begin = [
            "run",
            "-d",
            "--network",
            "none",
            "--stop-timeout",
            "600",
            "--name",
            "stays",
        ];
        let end = [
            "--health-on-failure",
            "restart",
            &*floe.image,
            "sh",
            "-c",
            "trap '' TERM; while :; do sleep 1; done",
        ];
        floe.floe(&[&begin[..], &check, &end].concat()).ok();
        floe.until_health("stays", "unhealthy");
        floe.floe(&["stop", "-t", "0", "stays"]).ok();
        // A container whose start is never over is begun anew, and its health not asked for.
        let startup = [
            "--health-startup-cmd",
            "test $(wc -l < /runs) = 2",
            "--health-startup-interval",
            "100ms",
        ];
        let startup = [&startup[..], &["--health-startup-retries", "3"]].concat();
        floe.checked("slow", &[&["--health-cmd", "true"][..], &startup].concat())
            .ok();
        floe.until_health("slow", "healthy");
        assert_eq!(
            floe.floe(&["exec", "slow", "cat", "/runs"]).out,
            "run\nrun\n"
        );
        assert_eq!(state("stop"), "exited 137");
        assert_eq!(state("stays"), "exited 137");
    });
}

#[test]
fn a_check_that_hangs_talks_or_cannot_be_run_has_failed_and_holds_up_nothing() {
    machine(|floe| {
        let once = ["--health-interval", "disable", "--health-retries", "1"];
        let output =
            "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}";
        for (name, command, more, code, said) in [
            (
                "hangs",
                "echo begun; sleep 1000",
                &["--health-timeout", "1s"][..],
                -1,
                "begun\nthe check took longer",
            ),
            (
                "talks",
                "yes",
                &["--health-timeout", "1s", "--health-max-log-size", "4"],
                -1,
                "y\ny\nthe check took",
            ),
            ("leaves", "sleep 1000 & exit 3", &[], 3, ""),
            ("is_not_there", r#"["CMD", "/not/there"]"#, &[], -1, ""),
        ] {
            let command = ["--health-cmd", command];
            floe.checked(name, &[&command[..], &once, more].concat())
                .ok();
            assert_eq!(floe.health(name), "starting");
            assert_eq!(floe.check(&[name]), (1, "unhealthy\n".into()), "{name}");
            let found = floe.looked_at(name, output);
            assert!(
                found.starts_with(format!("{code} {said}").trim_end()),
                "{name}: {found}"
            );
        }
        for (options, words) in [
            (&["--health-cmd", ""][..], "no command"),
            (
                &["--health-cmd", "true", "--health-timeout", "10ms"],
                "at least 1 second",
            ),
            (&["--health-cmd", "true", "--health-retries", "0"], "0"),
            (
                &["--health-cmd", "true", "--health-interval", "soon"],
                "or disable",
            ),
            (
                &["--health-cmd", "true", "--no-healthcheck"],
                "cannot be used",
            ),
            (&["--health-on-failure", "kill"], "without a health check"),
            (&["--health-startup-cmd", "true"], "no regular healthcheck"),
            (&["--health-startup-retries", "3"], "--health-startup-cmd"),
        ] {
            floe.checked("wrong", options).failed(125, &[words]);
        }
    });
}

#[test]
fn an_image_says_how_its_containers_are_checked() {
    machine(|floe| {
        let text = format!(
            "FROM {}\nHEALTHCHECK --interval=1s --retries=1 CMD test -e /well\n",
            floe.image
        );
        std::fs::write(floe.node.path("Containerfile"), text).expect("write");
        let dir = floe.node.path("");
        let dir = dir.to_str().expect("a path in UTF-8");
        floe.floe(&["build", "-q", "--format", "docker", "-t", "checked", dir])
            .ok();
        let run = |name: &str, options: &[&str]| {
            let begin = ["run", "-d", "--network", "none", "--name", name];
            let end = ["checked", "sleep", "1000"];
            floe.floe(&[&begin[..], options, &end].concat()).ok();
        };
        run("image", &[]);
        run("own", &["--health-cmd", "true", "--health-retries", "7"]);
        run("none", &["--no-healthcheck"]);
        floe.until_health("image", "unhealthy");
        floe.until_health("own", "healthy");
        assert_eq!(floe.health("none"), "");
        let check = "{{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Retries}}";
        assert_eq!(floe.looked_at("own", check), "1000000000 7");
    });
}

#[test]
fn who_starts_a_container_as_a_service_is_told_when_it_runs_or_is_well() {
    machine(|floe| {
        let path = floe.node.path("notify");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bind");
        socket
            .set_read_timeout(Some(std::time::Duration::from_secs(60)))
            .expect("a limit");
        let mut buffer = [0; 100];
        let mut told = || {
            let read = socket.recv(&mut buffer).expect("told");
            String::from_utf8_lossy(&buffer[..read]).into_owned()
        };
        let run = |arguments: &[&str]| {
            let mut command = floe.command(arguments);
            command.env("NOTIFY_SOCKET", &path);
            Said::from(command.output().expect("run floe"))
        };
        let begin = ["run", "-d", "--network", "none", "--sdnotify"];
        let end = [&*floe.image, "sleep", "1000"];
        let conmon = ["conmon", "--name", "c", "--conmon-pidfile"];
        let pid = floe.node.path("pid");
        let pid = pid.to_str().expect("UTF-8");
        run(&[&begin[..], &conmon, &[pid], &end].concat()).ok();
        let main = std::fs::read_to_string(pid).expect("a process id");
        assert_eq!(told(), format!("MAINPID={}\nREADY=1", main.trim()));
        floe.floe(&["stop", "-t", "0", "c"]).ok();
        run(&["start", "c"]).ok();
        assert!(told().ends_with("\nREADY=1"));
        let check = [
            "--health-cmd",
            "test -e /proc/1",
            "--health-interval",
            "100ms",
        ];
        run(&[&begin[..], &["healthy", "--name", "h"], &check, &end].concat()).ok();
        assert!(told().ends_with("\nREADY=1"));
        assert_eq!(floe.health("h"), "healthy");
        run(&[&begin[..], &["container"], &end].concat()).failed(125, &["conmon or healthy"]);
        // A container that ends before it is well is told of to nobody.
        let ends = ["--health-cmd", "false", &*floe.image, "true"];
        run(&[&begin[..], &["healthy", "--name", "e"], &ends].concat()).ok();
        socket.set_nonblocking(true).expect("set");
        assert!(socket.recv(&mut [0; 10]).is_err());
    });
}
