//! floe under the name `crictl`, against the socket of a node that serves, and against another's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Machine, Said, machine};

/// The link, the socket that it asks, and where its files are.
pub(crate) struct Crictl {
    link: PathBuf,
    socket: PathBuf,
    dir: PathBuf,
    cgroup: String,
    /// The image of its containers.
    pub(crate) image: String,
}

/// Runs a test with floe serving, and its image pulled by crictl.
pub(crate) fn served(test: impl FnOnce(&Machine, &Crictl)) {
    machine(|floe| {
        floe.node.serve().expect("serve");
        let socket = floe.node.socket();
        let crictl = floe.crictl(&socket);
        crictl.ok(&["pull", &floe.image]);
        test(floe, &crictl);
        crictl.ok(&["rmp", "--all", "--force"]);
    });
}

impl Machine {
    /// floe under the name `crictl`, for this socket.
    pub(crate) fn crictl(&self, socket: &Path) -> Crictl {
        let link = self.node.path("crictl");
        let program = testkit::program("floe").expect("floe is built");
        std::os::unix::fs::symlink(program, &link).expect("link");
        Crictl {
            link,
            socket: socket.to_owned(),
            dir: self.node.dir().to_owned(),
            cgroup: self.node.cgroup().to_owned(),
            image: self.image.clone(),
        }
    }
}

impl Crictl {
    /// It without a word of which socket to ask, nor of how long.
    pub(crate) fn bare(&self) -> Command {
        let mut command = Command::new(&self.link);
        for variable in [
            "CRI_CONFIG_FILE",
            "CONTAINER_RUNTIME_ENDPOINT",
            "IMAGE_SERVICE_ENDPOINT",
        ] {
            command.env_remove(variable);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// It with the socket, and with more patience than crictl has: the machine may be busy.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.bare();
        command.env("CONTAINER_RUNTIME_ENDPOINT", self.endpoint());
        command.args(["--timeout", "60s"]).args(words);
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Said {
        self.command(words).output().expect("run").into()
    }

    #[track_caller]
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        self.run(words).ok()
    }

    #[track_caller]
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(words)).expect("JSON")
    }

    /// Writes a file and gives its name.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, text).expect("write");
        path.display().to_string()
    }

    /// The configuration of a pod whose logs are in a directory of its own.
    pub(crate) fn pod_config(&self, name: &str) -> String {
        let logs = self.dir.join("logs").join(name);
        std::fs::create_dir_all(&logs).expect("make");
        let config = json!({
            "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "attempt": 1},
            "log_directory": logs,
            "labels": {"app": name},
            "annotations": {"note": "a <b>"},
            "linux": {"cgroup_parent": self.cgroup},
        });
        self.file(&format!("{name}.json"), &config.to_string())
    }

    /// The configuration of a container that runs a script.
    pub(crate) fn container_config(&self, name: &str, script: &str) -> String {
        let config = json!({
            "metadata": {"name": name},
            "image": {"image": self.image},
            "command": ["/bin/sh", "-c", script],
            "log_path": format!("{name}.0.log"),
            "labels": {
                "io.kubernetes.pod.name": "the-pod",
                "io.kubernetes.pod.namespace": "the-namespace",
                "role": name,
            },
            "linux": {},
        });
        self.file(&format!("container-{name}.json"), &config.to_string())
    }

    /// A pod with a container that runs a script; their ids.
    pub(crate) fn started(&self, name: &str, script: &str) -> (String, String) {
        let pod_config = self.pod_config(name);
        let pod = self.ok(&["runp", &pod_config]);
        let config = self.container_config(name, script);
        let container = self.ok(&["create", &pod, &config, &pod_config]);
        assert_eq!(self.ok(&["start", &container]), container);
        (pod, container)
    }
}
