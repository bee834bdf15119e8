//! The programs that this machine has, those that lie, and their containers.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use supervisor::{ContainerState, OciProgram, RootfsSource};

use crate::support::{Container, Pod};

/// crun takes a host with both kinds of cgroups only if v2 has no controllers: it is not shown v2 then.
const WITHOUT_V2: &str = "#!/bin/sh
exec unshare --mount --propagation unchanged sh -c \\
  'mount --make-private /sys/fs/cgroup && umount /sys/fs/cgroup/unified && exec \"$0\" \"$@\"' PROGRAM \"$@\"
";

/// A program that is on this machine.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
}

impl Program {
    pub(crate) fn find(name: &str) -> Option<Self> {
        if name == "floe-runtime" {
            let path = testkit::runtime(env!("CARGO_BIN_EXE_floe-runtime")).unwrap();
            return Some(Self { path });
        }
        let dirs = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
        let mut files = dirs.iter().map(|dir| Path::new(dir).join(name));
        let found = files.find(|file| file.exists()).map(|path| Self { path });
        if found.is_none() {
            eprintln!("SKIP: needs {name} (Debian: {name})");
        }
        found
    }

    /// As a pod of its own has it.
    pub(crate) fn of(&self, pod: &Pod) -> OciProgram {
        let mut path = self.path.clone();
        let hybrid = Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists();
        if hybrid && path.ends_with("crun") {
            let script = WITHOUT_V2.replace("PROGRAM", &path.to_string_lossy());
            path = pod.dir().join("crun");
            write_program(&path, &script);
        }
        OciProgram {
            path,
            root: pod.dir().join("state"),
            args: Vec::new(),
            systemd_cgroup: false,
        }
    }

    /// A container of it that is not made yet.
    pub(crate) fn container(&self, pod: &Pod, id: &str, script: &str) -> Container {
        let mut container = pod.container(id, script);
        // The oldest that all of them know.
        container.config["ociVersion"] = json!("1.0.2");
        container.request.program = Some(self.of(pod));
        container
    }

    pub(crate) fn running(&self, pod: &Pod, id: &str, script: &str) -> Container {
        let container = self.container(pod, id, script);
        container.create(pod);
        pod.client().start(id).unwrap();
        container
    }
}

/// An executable script. Written by another process: one that this process has open for writing while it
/// forks elsewhere could not be executed.
pub(crate) fn write_program(path: &Path, script: &str) {
    let mut writer = std::process::Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let written = writer.stdin.take().unwrap().write_all(script.as_bytes());
    written.unwrap();
    assert!(writer.wait().unwrap().success());
}

pub(crate) fn cgroup_exists(container: &Container) -> bool {
    let path = container.config["linux"]["cgroupsPath"].as_str().unwrap();
    runtime::cgroup::Cgroup::open(path).is_ok()
}

/// Nothing tells of the container any more but its log and its configuration.
pub(crate) fn nothing_is_left(pod: &Pod, container: &Container) {
    assert_eq!(ContainerState::read(&container.dir).unwrap(), None);
    assert!(!cgroup_exists(container));
    let files = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    };
    let state = files(&pod.dir().join("state"));
    assert!(!state.contains(&container.request.id), "{state:?}");
    let known = ["config.json", "0.log", "rootfs", "upper", "work"];
    let rest = files(&container.dir);
    assert!(
        rest.iter().all(|file| known.contains(&file.as_str())),
        "{rest:?}"
    );
}

/// A container whose root is an overlay over the pod's usual one.
pub(crate) fn overlay(program: &Program, pod: &Pod, id: &str, script: &str) -> Container {
    let mut container = program.container(pod, id, script);
    container.config["root"]["path"] = json!("rootfs");
    let part = |name: &str| {
        let dir = container.dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        dir
    };
    container.request.rootfs = RootfsSource::Overlay {
        lower: vec![pod.dir().join("rootfs")],
        upper: part("upper"),
        work: part("work"),
    };
    container
}

/// A program that is this script; it finds the verb in `$verb` and the value of `--pid-file` in `$pidfile`.
pub(crate) fn liar(pod: &Pod, name: &str, script: &str) -> Program {
    let path = pod.dir().join(name);
    let text = format!(
        "#!/bin/sh\nverb=; pidfile=\nfor word; do\n case $word in create|start|kill|delete|exec) verb=$word;; esac\n\
         [ \"$last\" = --pid-file ] && pidfile=$word\n last=$word\ndone\n{script}\n"
    );
    write_program(&path, &text);
    Program { path }
}
