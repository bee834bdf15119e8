//! What the tests of the command line share: a bundle of Debian's busybox-static in a private
//! directory, with a private state directory and cgroup. Everything is gone when it is dropped,
//! and that is checked.

#![allow(unreachable_pub, reason = "shared by the tests of this program")]

#[macro_use]
pub mod criu;
#[macro_use]
pub mod systemd;

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

static COUNTER: AtomicU32 = AtomicU32::new(0);

const APPLETS: &str = "sh sleep cat echo printf seq kill head stty id true false dd tail test env hostname usleep \
    touch wc tr ls mkdir mknod stat grep pwd mount readlink rm chmod sort ps sync ln tty ip";

const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The program that is tested.
pub fn program() -> &'static str {
    static PROGRAM: LazyLock<String> = LazyLock::new(|| {
        let path = testkit::runtime(env!("CARGO_BIN_EXE_floe-runtime")).unwrap();
        path.into_os_string().into_string().unwrap()
    });
    &PROGRAM
}

/// What the first of these files says that is in one of these directories; nothing if there is none.
pub fn first_of(dirs: &[PathBuf], names: &[&str]) -> String {
    let files = dirs
        .iter()
        .flat_map(|dir| names.iter().map(move |name| dir.join(name)));
    let text = files
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .next();
    text.unwrap_or_default().trim().to_owned()
}

/// What a call of the program, or of a container's process, came to.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
    out_file: PathBuf,
}

impl Done {
    /// Its output, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.out
    }

    /// It must have failed with these words.
    #[track_caller]
    pub fn fails(self, words: &str) -> String {
        let said = self.err.replace("\\\"", "\"");
        assert!(
            self.code != 0 && said.contains(words),
            "{self:#?} without {words:?}"
        );
        said
    }

    /// What a process that got this call's output has written to it by now.
    pub fn by_now(&self) -> String {
        std::fs::read_to_string(&self.out_file).unwrap()
    }
}

/// A bundle, a state directory and a cgroup of one test.
pub struct Lab {
    pub dir: PathBuf,
    /// config.json, written before each call.
    pub config: Value,
    name: String,
}

impl Lab {
    pub fn new() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("floe-runtime-test-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        let bin = dir.join("bundle/rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir(dir.join("out")).unwrap();
        for inside in ["proc", "dev", "sys", "tmp", "etc", "root"] {
            std::fs::create_dir(dir.join("bundle/rootfs").join(inside)).unwrap();
        }
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in APPLETS.split_whitespace() {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let config = config(&name);
        Self { dir, config, name }
    }

    /// Names its directory and its cgroup.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One whose process is a shell with this script.
    pub fn sh(script: &str) -> Self {
        let mut lab = Self::new();
        lab.script(script);
        lab
    }

    pub fn script(&mut self, script: &str) -> &mut Self {
        self.config["process"]["args"] = json!(["sh", "-c", script]);
        self
    }

    /// A further one of busybox's programs.
    pub fn applet(&self, name: &str) {
        std::os::unix::fs::symlink("busybox", self.rootfs("bin").join(name)).unwrap();
    }

    /// A place in the root file system.
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("bundle/rootfs").join(path)
    }

    /// Removes a namespace from the configuration, or gives it a path.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) {
        let list = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != kind);
        if let Some(path) = path {
            list.push(json!({ "type": kind, "path": path }));
        }
    }

    /// Adds a mount.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        let mount = json!({ "destination": destination, "type": kind, "source": source, "options": options });
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// A directory of the host with a file in it.
    pub fn host_dir(&self, name: &str) -> String {
        let dir = self.dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("file"), "of the host\n").unwrap();
        dir.to_str().unwrap().to_owned()
    }

    /// What a file of the cgroup of the container `c` says, in whichever hierarchy has it.
    pub fn cgroup_file(&self, names: &[&str]) -> String {
        first_of(&self.cgroups("c"), names)
    }

    /// The container's cgroup in the hierarchies that have it.
    pub fn cgroups(&self, id: &str) -> Vec<PathBuf> {
        self.hierarchies()
            .map(|mount| mount.join(&self.name).join(id))
            .filter(|dir| dir.exists())
            .collect()
    }

    fn hierarchies(&self) -> impl Iterator<Item = PathBuf> {
        let below = std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let all: Vec<PathBuf> = below
            .map(|entry| entry.path())
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .collect();
        all.into_iter()
    }

    /// The program with these arguments; its output goes to files, which containers may keep open.
    pub fn command(&self, arguments: &[&str]) -> (Command, PathBuf, PathBuf) {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let number = CALLS.fetch_add(1, Ordering::Relaxed);
        std::fs::write(self.dir.join("bundle/config.json"), self.config.to_string()).unwrap();
        let (out, err) = (
            self.dir.join(format!("out/{number}")),
            self.dir.join(format!("out/{number}.err")),
        );
        let mut command = Command::new(program());
        command
            .arg("--root")
            .arg(self.dir.join("state"))
            .args(arguments)
            .current_dir(self.dir.join("bundle"));
        command
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        (command, out, err)
    }

    /// Calls the program.
    pub fn call(&self, arguments: &[&str]) -> Done {
        self.call_as(arguments, |_| {})
    }

    /// Calls the program with a change of how it is called.
    pub fn call_as(&self, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Done {
        let (mut command, out, err) = self.command(arguments);
        change(&mut command);
        let status = command.status().unwrap();
        done(status.code().unwrap_or(-1), out, &err)
    }

    /// Starts the program without waiting for it.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).0.spawn().unwrap()
    }

    /// `run` in the foreground.
    pub fn run(&self) -> Done {
        self.call(&["run", "c"])
    }

    /// `run` of a script in the foreground; what it printed.
    #[track_caller]
    pub fn prints(&mut self, script: &str) -> String {
        self.script(script).run().ok()
    }

    /// Creates and starts a container that sleeps.
    pub fn sleeper(&mut self, id: &str) {
        self.config["process"]["args"] = json!(["sleep", "1000"]);
        self.config["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", self.name));
        self.call(&["run", "-d", id]).ok();
    }

    /// `state` of a container.
    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.call(&["state", id]).ok()).unwrap()
    }

    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    pub fn pid(&self, id: &str) -> i32 {
        i32::try_from(self.state(id)["pid"].as_i64().unwrap()).unwrap()
    }

    /// Processes of this lab's containers, wherever they are: known by their root or program.
    pub fn processes(&self) -> Vec<String> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let ours = |dir: &Path| {
            let cgroup = std::fs::read_to_string(dir.join("cgroup")).unwrap_or_default();
            let command = std::fs::read(dir.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            // A zombie has no command line any more; init(1) reaps it when it likes.
            let known = cgroup.contains(&self.name) || command.contains(&self.name);
            (known && !command.is_empty()).then_some(command)
        };
        entries.filter_map(|entry| ours(&entry.path())).collect()
    }

    /// Nothing may be left of containers: state, cgroup, mount.
    pub fn is_clean(&self) -> Result<(), String> {
        let left: Vec<PathBuf> = std::fs::read_dir(self.dir.join("state"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .chain(
                self.hierarchies()
                    .flat_map(|mount| directories(&mount.join(&self.name))),
            )
            .collect();
        if !left.is_empty() {
            return Err(format!("left behind: {left:?}"));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        match mounts.lines().find(|line| line.contains(&self.name)) {
            Some(mount) => Err(format!("left behind: {mount}")),
            None => Ok(()),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let state = self.dir.join("state");
        for entry in std::fs::read_dir(&state).into_iter().flatten().flatten() {
            let id = entry.file_name().into_string().unwrap();
            let done = self.call(&["delete", "--force", &id]);
            if done.code != 0 {
                eprintln!("delete {id}: {}", done.err);
            }
        }
        let clean = self.is_clean();
        for mount in self.hierarchies() {
            let _ = std::fs::remove_dir(mount.join(&self.name));
        }
        let removed = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert_eq!(clean, Ok(()));
            removed.unwrap();
        }
    }
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn done(code: i32, out_file: PathBuf, err: &Path) -> Done {
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    Done {
        code,
        out: read(&out_file),
        err: read(err),
        out_file,
    }
}

/// Waits for what another process does soon.
#[track_caller]
pub fn soon(what: &str, mut happens: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happens() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn config(name: &str) -> Value {
    let namespaces =
        ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["true"],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "lab",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ],
        "linux": { "cgroupsPath": format!("/{name}/c"), "namespaces": namespaces },
    })
}

/// Takes the one descriptor that comes over the socket, and its name.
pub fn receive(listener: &UnixListener) -> (File, String) {
    let (socket, _) = listener.accept().unwrap();
    let mut bytes = [0; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let count = recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        .unwrap()
        .bytes;
    let master = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (
        master.unwrap().into(),
        String::from_utf8_lossy(&bytes[..count]).into_owned(),
    )
}

/// Reads until `words` have come, or the far side is closed.
pub fn read_until(master: &mut File, words: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains(words) {
        match master.read(&mut buffer) {
            Ok(count) if count > 0 => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            _ => break,
        }
    }
    text
}
