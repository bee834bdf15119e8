//! crictl's verbs by floe against Debian's containerd: another's socket, another's server of streams.

use std::io::Write;
use std::process::Stdio;

use crate::cli::{Said, machine, until};

#[test]
fn a_pod_of_containerd_lives_by_floes_crictl() {
    machine(|floe| {
        let pause = floe.image.replace("busybox:1", "pause:1");
        floe.push(&pause, &["sleep", "1000000"]);
        let containerd = testkit::Containerd::start(&pause).expect("containerd");
        let socket = containerd.dir().join("containerd.sock");
        let crictl = floe.crictl(&socket);
        until("its CRI plugin serves", || {
            crictl.run(&["info", "-q"]).code == 0
        });
        let version = crictl.ok(&["version"]);
        assert!(version.contains("RuntimeName:  containerd"), "{version}");
        let info = crictl.json(&["info"]);
        assert!(info["config"].is_object(), "{info}");
        let pulled = crictl.ok(&["pull", &floe.image]);
        assert!(
            pulled.starts_with("Image is up to date for sha256:"),
            "{pulled}"
        );
        assert!(crictl.ok(&["images"]).contains("cli/busybox"));

        let (pod, id) = crictl.started("peer", "echo out; exec sleep 1000");
        let status = crictl.json(&["inspect", &id[..12]]);
        assert_eq!(status["status"]["state"], "CONTAINER_RUNNING");
        assert_eq!(crictl.ok(&["ps", "-q", "--name", "peer"]), id);
        assert_eq!(crictl.ok(&["pods", "-q", "--label", "app=peer"]), pod);
        until("the log has its line", || {
            crictl.run(&["logs", &id]).out == "out\n"
        });
        let said = crictl.run(&["exec", "-s", &id, "echo", "here"]);
        assert_eq!(said.ok(), "here");
        let words = ["exec", "-i", &id, "sh", "-c", "cat; exit 3"];
        let mut child = crictl
            .command(&words)
            .stdin(Stdio::piped())
            .spawn()
            .expect("start");
        child
            .stdin
            .take()
            .expect("its input")
            .write_all(b"typed")
            .expect("write");
        let said = Said::from(child.wait_with_output().expect("wait"));
        assert_eq!((said.code, &*said.out), (1, "typed"), "{}", said.err);
        assert!(
            said.err.contains("command terminated with exit code 3"),
            "{}",
            said.err
        );
        let stats = crictl.json(&["stats", "-o", "json", &id]);
        assert_eq!(stats["stats"][0]["attributes"]["id"], id.as_str());
        assert_eq!(crictl.ok(&["stop", &id]), id);
        assert_eq!(crictl.ok(&["rm", &id]), id);
        let removed = crictl.ok(&["rmp", "-f", &pod]);
        assert_eq!(
            removed,
            format!("Stopped sandbox {pod}\nRemoved sandbox {pod}")
        );
    });
}
