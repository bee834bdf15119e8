//! What all tests of the supervisor share: a pod of their own in a private directory, with a
//! supervisor that is this crate's example program, and containers of Debian's busybox-static.
//! Everything is gone when the pod is dropped, also after a failed test.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use supervisor::{
    ANSWER_LIMIT, Client, ContainerState, CreateContainer, LogTarget, PodSetup, RootfsSource,
    Status, SupervisorInfo, launch,
};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The applets that containers can call by name.
const APPLETS: &str = "sh sleep cat echo printf seq kill yes head stty id true false dd tail test env hostname usleep touch wc tr mv";

/// The supervisor's program: this crate's example, or that of the crate whose tests these are.
pub fn program() -> PathBuf {
    if let Some(own) = option_env!("CARGO_BIN_EXE_floe-runtime") {
        return own.into();
    }
    let tests = std::env::current_exe().unwrap();
    tests
        .parent()
        .unwrap()
        .with_file_name("examples")
        .join("floe-supervise")
}

/// A pod with its supervisor.
pub struct Pod {
    pub setup: PodSetup,
    pub info: SupervisorInfo,
    name: String,
}

impl Pod {
    /// A pod with namespaces of its own and nothing special.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A pod that differs from [`Pod::new`].
    pub fn with(change: impl FnOnce(&mut PodSetup)) -> Self {
        let setup = Self::setup(change);
        let (_client, info) = launch(&program(), &setup, None, ANSWER_LIMIT).unwrap();
        Self {
            name: setup.id.clone(),
            setup,
            info,
        }
    }

    /// The set-up of a pod whose directory exists.
    pub fn setup(change: impl FnOnce(&mut PodSetup)) -> PodSetup {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let id = format!("floe-sv-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        std::fs::create_dir(&dir).unwrap();
        let mut setup = PodSetup {
            dir,
            id,
            new_net: true,
            new_ipc: true,
            new_uts: true,
            shm_size: 1 << 20,
            ..PodSetup::default()
        };
        change(&mut setup);
        setup
    }

    /// A pod that somebody else has started.
    pub fn adopt(setup: PodSetup, info: SupervisorInfo) -> Self {
        Self {
            name: setup.id.clone(),
            setup,
            info,
        }
    }

    pub fn dir(&self) -> &Path {
        &self.setup.dir
    }

    pub fn client(&self) -> Client {
        Client::connect(self.dir()).unwrap()
    }

    /// A container that is not made yet.
    pub fn container(&self, id: &str, script: &str) -> Container {
        let bundle = self.dir().join("containers").join(id);
        std::fs::create_dir_all(&bundle).unwrap();
        let rootfs = self.rootfs();
        let mut namespaces = vec![json!({"type": "mount"})];
        namespaces.push(match self.info.pod_init {
            Some(pid) => json!({"type": "pid", "path": format!("/proc/{pid}/ns/pid")}),
            None => json!({"type": "pid"}),
        });
        for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            let path = format!("/proc/{}/ns/{name}", self.info.pid);
            namespaces.push(json!({"type": kind, "path": path}));
        }
        let config = json!({
            "ociVersion": "1.2.0",
            "root": {"path": rootfs},
            "process": {
                "args": ["/bin/sh", "-c", script],
                "cwd": "/",
                "env": ["PATH=/bin"],
                "user": {"uid": 0, "gid": 0},
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": format!("/{}/{id}", self.name),
            },
        });
        Container {
            config,
            request: CreateContainer {
                id: id.to_owned(),
                bundle: bundle.clone(),
                rootfs: RootfsSource::Path(rootfs),
                log: Some(LogTarget {
                    beneath: None,
                    path: bundle.join("0.log"),
                    max_size: None,
                    limit: None,
                    reserve: None,
                }),
                terminal: false,
                stdin: false,
                stdin_once: false,
                program: None,
                on_exit: None,
                run_limit: None,
                check: None,
            },
            dir: bundle,
        }
    }

    fn rootfs(&self) -> PathBuf {
        let rootfs = self.dir().join("rootfs");
        if rootfs.exists() {
            return rootfs;
        }
        for dir in ["bin", "proc", "dev", "tmp"] {
            std::fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        for applet in APPLETS.split(' ') {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        rootfs
    }

    /// Runs a script to its end.
    pub fn run(&self, id: &str, script: &str) -> (Container, ContainerState) {
        let container = self.container(id, script);
        container.create(self);
        let mut client = self.client();
        client.start(id).unwrap();
        (container, client.wait(id).unwrap())
    }

    /// A container whose script runs.
    pub fn running(&self, id: &str, script: &str) -> Container {
        let container = self.container(id, script);
        container.create(self);
        self.client().start(id).unwrap();
        container
    }

    /// The supervisor's own words.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("supervisor.log")).unwrap_or_default()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("supervisor.log:\n{}", self.log());
        }
        if let Ok(mut client) = Client::connect(self.dir()) {
            let _ = client.shutdown();
        }
        let _ = self.info.kill();
        if let Ok(cgroup) = runtime::cgroup::Cgroup::open(&self.name) {
            let _ = cgroup.kill_all();
            let _ = cgroup.delete();
        }
        let _ = supervisor::clean_after_death(self.dir());
        let _ = std::fs::remove_dir_all(self.dir());
    }
}

/// A container as a test describes it.
pub struct Container {
    pub config: Value,
    pub request: CreateContainer,
    pub dir: PathBuf,
}

impl Container {
    pub fn write_config(&self) {
        std::fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
    }

    /// Makes it; it waits at its gate then.
    pub fn create(&self, pod: &Pod) {
        self.write_config();
        pod.client().create(&self.request).unwrap();
    }

    /// What its `state.json` says.
    pub fn state(&self) -> ContainerState {
        ContainerState::read(&self.dir).unwrap().unwrap()
    }

    /// The lines of its log without their times.
    pub fn log_lines(&self) -> Vec<String> {
        let text = std::fs::read(self.dir.join("0.log")).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.split_terminator('\n')
            .map(|line| line[31..].to_owned())
            .collect()
    }
}

/// The exit code of a state that has one.
pub fn code(state: &ContainerState) -> i32 {
    match state.status {
        Status::Exited { exit_code, .. } => exit_code,
        _ => panic!("not exited: {state:?}"),
    }
}

/// Waits until something is so; a test that waits in vain fails with `what`.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "in vain waited for: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Does a process live, as anything but a zombie?
pub fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .starts_with('Z')
    })
}
