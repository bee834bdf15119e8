//! `floe pod`: pods of people's own, and containers that share one.

use crate::cli::{Machine, machine, until};

impl Machine {
    fn pod(&self, arguments: &[&str]) -> crate::cli::Said {
        self.floe(&[&["pod"], arguments].concat())
    }

    /// Starts a container in a pod.
    fn in_pod(&self, pod: &str, name: &str, script: &str) -> String {
        let run = [
            "run",
            "-d",
            "--pod",
            pod,
            "--name",
            name,
            &self.image,
            "sh",
            "-c",
            script,
        ];
        self.floe(&run).ok()
    }

    fn pod_state(&self, pod: &str) -> String {
        self.pod(&["inspect", "--format", "{{.State}}", pod]).ok()
    }
}

#[test]
fn containers_of_a_pod_share_its_network_and_come_and_go() {
    machine(|floe| {
        let id = floe
            .pod(&[
                "create",
                "--name",
                "web",
                "-p",
                "127.0.0.1:18082:80",
                "-l",
                "a=1",
            ])
            .ok();
        assert_eq!(floe.pod_state("web"), "Created");
        floe.in_pod(
            "web",
            "server",
            "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w",
        );
        let image = floe.image.clone();
        let ask = [
            "run",
            "--rm",
            "--pod",
            "web",
            &image,
            "sh",
            "-c",
            "for i in $(seq 150); do wget -qO- http://127.0.0.1/ && exit; sleep 0.2; done; exit 1",
        ];
        assert_eq!(floe.floe(&ask).ok(), "hello");
        assert_eq!(floe.listed(&["-a"]), ["server"]);
        assert_eq!(floe.pod_state("web"), "Running");
        let host = |name: &str| floe.floe(&["exec", name, "hostname"]).ok();
        floe.in_pod("web", "other", "sleep 1000");
        assert_eq!(host("server"), host("other"));
        let table = floe
            .pod(&[
                "ps",
                "--format",
                "{{.Name}} {{.Status}} {{.NumberOfContainers}}",
            ])
            .ok();
        assert_eq!(table, "web Running 2");
        assert_eq!(
            floe.pod(&["ps", "-q", "--no-trunc", "-f", "label=a=1"])
                .ok(),
            id
        );
        // What is the pod's is not a container's to say.
        let publish = ["run", "--pod", "web", "-p", "1:1", &image, "true"];
        floe.floe(&publish).failed(
            125,
            &["network cannot be configured when it is shared with a pod"],
        );
        floe.floe(&["run", "--pod", "none", &image, "true"])
            .failed(125, &["no such pod"]);
        // Names are everybody's.
        floe.floe(&["create", "--name", "server", &image])
            .failed(125, &["already in use"]);
        floe.floe(&["create", "--name", "web", &image])
            .failed(125, &["already in use"]);
        floe.pod(&["create", "web"])
            .failed(125, &["pod already exists"]);
        floe.pod(&["rm", "web"])
            .failed(2, &["container state improper"]);
        assert_eq!(floe.pod(&["rm", "-f", "-t", "0", "web"]).ok(), id);
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
        floe.pod(&["rm", "web"]).failed(1, &["no such pod"]);
        floe.pod(&["rm", "-t", "0", "--all", "--force", "--ignore"])
            .ok();
        assert_eq!(floe.pod(&["exists", "web"]).code, 1);
    });
}

#[test]
fn a_pod_is_stopped_and_started_as_a_whole_and_is_there_after_a_reboot() {
    machine(|floe| {
        floe.pod(&["create", "--name", "p", "--share", "ipc,net,uts,pid"])
            .ok();
        floe.in_pod("p", "a", "echo run >> /runs; sleep 1000");
        floe.in_pod("p", "b", "sleep 1000");
        // Both are in one namespace of processes.
        let seen = floe.floe(&["exec", "b", "ps"]).ok();
        assert!(seen.matches("sleep 1000").count() >= 2, "{seen}");
        floe.pod(&["pause", "p"]).ok();
        assert_eq!(floe.pod_state("p"), "Paused");
        floe.pod(&["unpause", "p"]).ok();
        floe.pod(&["stop", "-t", "0", "p"]).ok();
        assert_eq!(floe.pod_state("p"), "Exited");
        std::fs::remove_dir_all(floe.node.path("run")).unwrap();
        assert_eq!(floe.pod_state("p"), "Created");
        floe.pod(&["start", "p"]).ok();
        assert_eq!(floe.pod_state("p"), "Running");
        until("it has run twice", || {
            floe.floe(&["exec", "a", "cat", "/runs"]).out == "run\nrun\n"
        });
        floe.pod(&["kill", "p"]).ok();
        until("both have ended", || floe.pod_state("p") == "Exited");
        // A container that has ended leaves its pod as it is, and can be started alone.
        floe.floe(&["start", "a"]).ok();
        assert_eq!(floe.pod_state("p"), "Degraded");
        floe.floe(&["rm", "-f", "-t", "0", "a"]).ok();
        assert_eq!(floe.listed(&["-a"]), ["b"]);
        floe.pod(&["stop", "p"]).ok();
        assert_eq!(floe.pod(&["prune", "-f"]).ok().len(), 64);
        assert_eq!(floe.pod(&["ps", "-q"]).ok(), "");
        let image = floe.image.clone();
        let run = |options: &[&str]| {
            let script = ["grep", "-c", "192.0.2.8", "/etc/resolv.conf"];
            let own = [&["run", "--rm"], options, &[&image], &script].concat();
            floe.floe(&own)
        };
        let network = ["--network", "none", "--dns", "192.0.2.8"];
        let new = [&["--pod", "new:fresh"][..], &network].concat();
        assert_eq!(run(&new).ok(), "1");
        assert_eq!(floe.pod(&["exists", "fresh"]).code, 0);
        assert_eq!(run(&["--pod", "fresh"]).ok(), "1");
        let joined = [&["--pod", "fresh"][..], &network].concat();
        run(&joined).failed(125, &["shared with a pod"]);
        floe.pod(&["rm", "fresh"]).ok();
        floe.pod(&["create", "--share", "net", "x"])
            .failed(125, &["not offered"]);
        floe.pod(&["start"])
            .failed(125, &["you must provide at least one pod"]);
    });
}
