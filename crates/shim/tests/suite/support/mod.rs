//! A pod of Debian's containerd-shim-runc-v2 in a private directory, with a private namespace, state
//! directory of runc and cgroup. All of it is gone when it is dropped, and that is checked.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use serde_json::{Value, json};
use shim::task::{self, Streams};
use shim::{Mount, Options, Program, Shim};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// How long anything of a test may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PROGRAM: &str = "/usr/bin/containerd-shim-runc-v2";

/// Ends a test that cannot run on this host, with its reason.
macro_rules! needs_shim {
    () => {
        testkit::needs_host!("/usr/bin/containerd-shim-runc-v2" from "containerd");
    };
}

/// A directory, a namespace and the shim's program of one test.
pub struct Pod {
    pub dir: PathBuf,
    pub name: String,
    pub program: Program,
    layer: PathBuf,
    shims: Vec<(Shim, i32)>,
    containers: Vec<String>,
    log: Option<File>,
}

impl Pod {
    pub fn new() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("floe-shim-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir(&dir).unwrap();
        let layer = dir.join("layer");
        for directory in ["bin", "proc", "dev", "tmp"] {
            std::fs::create_dir_all(layer.join(directory)).unwrap();
        }
        std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "echo", "kill", "stty", "head", "tail"] {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
        }
        let program = Program {
            path: PROGRAM.into(),
            namespace: name.clone(),
            events: dir.join("events"),
            publisher: "/bin/true".into(),
            options: None,
        };
        Self {
            layer,
            dir,
            name,
            program,
            shims: Vec::new(),
            containers: Vec::new(),
            log: None,
        }
    }

    pub fn bundle(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// Writes a bundle whose program is a shell's script; the pipes are there and held open.
    pub fn write(&self, id: &str, script: &str, change: impl FnOnce(&mut Value)) -> Pipes {
        let bundle = self.bundle(id);
        for directory in ["rootfs", "upper", "work"] {
            std::fs::create_dir_all(bundle.join(directory)).unwrap();
        }
        let mut config = self.config(id, script);
        change(&mut config);
        let text = serde_json::to_vec(&config).unwrap();
        std::fs::write(bundle.join("config.json"), text).unwrap();
        make_pipe(&bundle.join("log"));
        Pipes::new(&bundle, "")
    }

    fn config(&self, id: &str, script: &str) -> Value {
        let namespaces =
            ["pid", "mount", "ipc", "uts", "network"].map(|kind| json!({"type": kind}));
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/sh", "-c", script],
                "env": ["PATH=/bin"],
                "cwd": "/",
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "annotations": {"io.kubernetes.cri.sandbox-id": self.name},
            "linux": {
                "cgroupsPath": format!("/{}/{id}", self.name),
                "namespaces": namespaces,
                "resources": {"memory": {"limit": 64 << 20}},
            },
        })
    }

    /// Takes events and forgets them: a shim whose events nobody takes needs long to end.
    fn take_events(&self) {
        let (path, namespace) = (self.program.events.clone(), self.name.as_str().into());
        let (ready, listens) = std::sync::mpsc::channel();
        // Ends with the test's process; a runtime of its own, as the test may be in one.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (_file, listener) = shim::events::listen(&path).unwrap().unwrap();
                ready.send(()).unwrap();
                let (to, mut events) = tokio::sync::mpsc::channel(1);
                let serving = tokio::spawn(shim::events::serve(listener, namespace, to));
                while events.recv().await.is_some() {}
                serving.abort();
            });
        });
        listens.recv().unwrap();
    }

    /// Begins the shim, or finds it.
    pub fn start(&mut self, id: &str) -> Shim {
        if !self.program.events.exists() {
            self.take_events();
        }
        if self.log.is_none() {
            self.log = Some(open_pipe(&self.bundle(id).join("log")));
        }
        let shim = self.program.start(id, &self.bundle(id)).unwrap();
        let pid = shim.ask(task::connect(&shim, id)).map(|it| it.shim_pid);
        if let Ok(Some(pid)) = pid
            && !self.shims.iter().any(|(_, known)| *known == pid)
        {
            self.shims.push((shim.clone(), pid));
        }
        shim
    }

    pub fn create_request(&self, id: &str, streams: Streams) -> task::Create {
        let bundle = self.bundle(id);
        let layers = [self.layer.clone()];
        let root = Mount::overlay(&layers, bundle.join("upper"), bundle.join("work"));
        task::Create {
            id: id.to_owned(),
            rootfs: vec![root.unwrap()],
            streams,
            checkpoint: None,
            options: Some(Options::Runc {
                binary: String::new(),
                root: self.dir.join("runc").to_string_lossy().into_owned(),
                systemd_cgroup: false,
            }),
            bundle,
        }
    }

    /// Makes the container; the answer is its process id.
    pub fn create(&mut self, shim: &Shim, id: &str, pipes: &Pipes) -> i32 {
        let request = self.create_request(id, pipes.streams.clone());
        self.containers.push(id.to_owned());
        let made = shim.ask(task::create(shim, request));
        made.unwrap_or_else(|error| panic!("{error}\n{}", self.said()))
            .unwrap()
    }

    /// What the shim has logged.
    pub fn said(&mut self) -> String {
        let mut said = Vec::new();
        if let Some(log) = &mut self.log {
            drain(log, &mut said);
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for id in &self.containers {
            // What is gone already needs no clean-up.
            let _ = self
                .program
                .clean_up(id, &self.bundle(id), shim::PROGRAM_LIMIT);
            let rootfs = self.bundle(id).join("rootfs");
            let _ = rustix::mount::unmount(&rootfs, rustix::mount::UnmountFlags::DETACH);
        }
        for (shim, pid) in &self.shims {
            if is_alive(*pid) {
                let process = rustix::process::Pid::from_raw(*pid).unwrap();
                let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
            let _ = std::fs::remove_file(shim.address());
        }
        remove_cgroups(&self.name);
        let removed = until(|| std::fs::remove_dir_all(&self.dir).is_ok());
        if !std::thread::panicking() {
            assert!(removed, "{} stays", self.dir.display());
            assert_eq!(mounts_below(&self.dir), 0);
        }
    }
}

fn mounts_below(dir: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let dir = dir.to_string_lossy().into_owned();
    mounts.lines().filter(|line| line.contains(&dir)).count()
}

fn remove_cgroups(name: &str) {
    let Ok(hierarchies) = std::fs::read_dir("/sys/fs/cgroup") else {
        return;
    };
    let places = hierarchies.flatten().map(|entry| entry.path().join(name));
    for place in places.chain([Path::new("/sys/fs/cgroup").join(name)]) {
        if !place.is_dir() {
            continue;
        }
        let gone = until(|| {
            for child in std::fs::read_dir(&place).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(child.path());
            }
            std::fs::remove_dir(&place).is_ok() || !place.exists()
        });
        assert!(
            gone || std::thread::panicking(),
            "{} stays",
            place.display()
        );
    }
}

/// Does the process live? A zombie does not.
pub fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}

/// Waits until it is so; false if it does not come to be.
pub fn until(mut so: impl FnMut() -> bool) -> bool {
    let limit = Instant::now() + PATIENCE;
    while !so() {
        if Instant::now() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// The streams of a process: our ends never block, and are open for both, so that nobody waits.
pub struct Pipes {
    pub streams: Streams,
    pub stdin: Option<File>,
    out: File,
    err: Option<File>,
    heard: [Vec<u8>; 2],
}

impl Pipes {
    pub fn new(dir: &Path, prefix: &str) -> Self {
        let path = |name: &str| dir.join(format!("{prefix}{name}"));
        let [stdin, stdout, stderr] = ["stdin", "stdout", "stderr"].map(path);
        for path in [&stdin, &stdout, &stderr] {
            make_pipe(path);
        }
        Self {
            stdin: Some(open_pipe(&stdin)),
            out: open_pipe(&stdout),
            err: Some(open_pipe(&stderr)),
            streams: Streams {
                terminal: false,
                stdin: Some(stdin),
                stdout: Some(stdout),
                stderr: Some(stderr),
            },
            heard: Default::default(),
        }
    }

    /// As one terminal.
    pub fn terminal(mut self) -> Self {
        self.streams.terminal = true;
        self.streams.stderr = None;
        self.err = None;
        self
    }

    /// What was written so far.
    pub fn heard(&mut self) -> [String; 2] {
        drain(&mut self.out, &mut self.heard[0]);
        if let Some(err) = &mut self.err {
            drain(err, &mut self.heard[1]);
        }
        [0, 1].map(|number| String::from_utf8_lossy(&self.heard[number]).into_owned())
    }

    /// Waits for words on stdout.
    #[track_caller]
    pub fn expect(&mut self, words: &str) {
        let came = until(|| self.heard()[0].contains(words));
        assert!(came, "{words:?} does not come: {:?}", self.heard());
    }
}

fn make_pipe(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
}

fn open_pipe(path: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .unwrap()
}

fn drain(file: &mut File, into: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = file.read(&mut buffer) {
        into.extend_from_slice(&buffer[..count]);
    }
}
