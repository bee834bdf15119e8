//! The state of a container between two calls: `ROOT/ID/state.json` (runc's field names where it
//! has them) and, until it is started, `ROOT/ID/start.sock`, at which its process waits.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use base::file::{Lasts, replace};
use base::process;
use runtime::CgroupManager;
use runtime::cgroup::{Cgroup, Unit};
use runtime::resctrl::Group;
use runtime::spec::{Namespace, NamespaceKind, Resources, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::PidfdFlags;
use serde::{Deserialize, Serialize};

use crate::cli::Global;
use crate::cmd::Failure;
use crate::signals;

const STATE: &str = "state.json";
const GATE: &str = "start.sock";

/// What is kept of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) id: String,
    /// 0 while it is being created.
    pub(crate) init_process_pid: i32,
    /// Clock ticks since boot: with the pid it names a process for ever.
    pub(crate) init_process_start: u64,
    pub(crate) created: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) cgroup_paths: BTreeMap<String, String>,
    /// By the names of clone(2)'s flags, as monitoring tools look them up; empty until it is created.
    #[serde(default)]
    pub(crate) namespace_paths: BTreeMap<String, String>,
    /// Made without root of the host.
    #[serde(default)]
    pub(crate) rootless: bool,
    /// Its group of resctrl, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resctrl: Option<Group>,
    /// What systemd calls its cgroup, if that is systemd's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<Unit>,
    pub(crate) spec: Spec,
    /// What its standard streams were when it was made: empty for a terminal. A restore gives pipes
    /// of its own for those that were pipes.
    #[serde(default)]
    pub(crate) external_descriptors: Vec<String>,
    /// Process id and start time of the `create` or `run` that made it.
    pub(crate) creator: (i32, u64),
}

/// runtime.md, state: status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The directory of one container, made by `create`; dropped uncommitted, it goes.
pub(crate) struct NewDir {
    path: Option<PathBuf>,
}

impl NewDir {
    pub(crate) fn make(global: &Global, id: &str) -> Result<Self, Failure> {
        let path = dir(global, id)?;
        // What is kept of a container holds its environment: nobody else's business.
        let mut private = std::fs::DirBuilder::new();
        private.mode(0o700);
        private
            .recursive(true)
            .create(&global.root)
            .map_err(Failure::at(format_args!(
                "create {}",
                global.root.display()
            )))?;
        match private.recursive(false).create(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::new(format!(
                "container with given ID already exists: {id}"
            ))),
            other => other
                .map(|()| Self {
                    path: Some(path.clone()),
                })
                .map_err(Failure::at(format_args!("create {}", path.display()))),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Writes what is known so far: enough for `delete --force` should this process be killed.
    pub(crate) fn note(&self, state: &State) -> Result<(), Failure> {
        write(self.path(), state)
    }

    pub(crate) fn commit(mut self, state: &State) -> Result<(), Failure> {
        write(self.path(), state)?;
        self.path = None;
        Ok(())
    }

    /// The listening socket of the gate.
    pub(crate) fn gate(&self) -> Result<OwnedFd, Failure> {
        let failed = |errno: rustix::io::Errno| Failure::new(format!("make {GATE}: {errno}"));
        let socket = seqpacket().map_err(failed)?;
        with_gate(self.path(), |address| bind(&socket, address)).map_err(failed)?;
        listen(&socket, 1).map_err(failed)?;
        Ok(socket)
    }
}

impl Drop for NewDir {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// The files of the namespaces that a process is in, by runc's names for their kinds.
pub(crate) fn namespace_paths(pid: i32) -> BTreeMap<String, String> {
    const KINDS: [(&str, &str); 8] = [
        ("NEWCGROUP", "cgroup"),
        ("NEWIPC", "ipc"),
        ("NEWNET", "net"),
        ("NEWNS", "mnt"),
        ("NEWPID", "pid"),
        ("NEWTIME", "time"),
        ("NEWUSER", "user"),
        ("NEWUTS", "uts"),
    ];
    KINDS
        .map(|(kind, file)| (kind.to_owned(), format!("/proc/{pid}/ns/{file}")))
        .into()
}

impl State {
    pub(crate) fn load(global: &Global, id: &str) -> Result<Self, Failure> {
        let path = dir(global, id)?.join(STATE);
        match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Failure::new("container does not exist"))
            }
            Err(e) => Err(Failure::at(format_args!("read {}", path.display()))(e)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Failure::new(format!("{} is damaged: {e}", path.display()))),
        }
    }

    /// All containers below the root that have a state. There are none before the first one is made; but who
    /// names a directory means one that is there.
    pub(crate) fn all(global: &Global) -> Result<Vec<Self>, Failure> {
        let failed = || Failure::at(format!("read {}", global.root.display()));
        let entries = match std::fs::read_dir(&global.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && global.root_is_usual => {
                return Ok(Vec::new());
            }
            other => other.map_err(failed())?,
        };
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        ids.sort();
        Ok(ids
            .iter()
            .filter_map(|id| Self::load(global, id).ok())
            .collect())
    }

    pub(crate) fn status(&self, global: &Global) -> Status {
        let lives = |(pid, start): (i32, u64)| process::start(pid) == Some(start);
        if self.init_process_pid == 0 && lives(self.creator) {
            return Status::Creating;
        }
        if self.init_process_pid == 0 || !lives((self.init_process_pid, self.init_process_start)) {
            return Status::Stopped;
        }
        if let Ok(true) = Cgroup::open(&self.cgroup).and_then(|cgroup| cgroup.is_frozen()) {
            return Status::Paused;
        }
        if dir(global, &self.id).is_ok_and(|dir| dir.join(GATE).exists()) {
            return Status::Created;
        }
        Status::Running
    }

    /// Its first process, if that lives. Who holds this means that one, even if its number is another's by
    /// then.
    pub(crate) fn init(&self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(self.init_process_pid)?;
        let init = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // After it was opened: what it stands for is what was looked at.
        let lives = process::start(self.init_process_pid) == Some(self.init_process_start);
        lives.then_some(init)
    }

    /// Sends a signal to its first process; false if there is none any more.
    pub(crate) fn signal(&self, signal: i32) -> Result<bool, Failure> {
        let Some(init) = self.init() else {
            return Ok(false);
        };
        match signals::send_to(&init, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(errno) => Err(Failure::new(format!("kill {}: {errno}", self.id))),
        }
    }

    /// Its cgroup; `None` if that is gone.
    pub(crate) fn cgroup(&self) -> Result<Option<Cgroup>, Failure> {
        let opened = match &self.unit {
            Some(unit) => Cgroup::open_unit(unit),
            None => Cgroup::open(&self.cgroup),
        };
        match opened {
            Err(error) if error.is_not_found() => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    pub(crate) fn cgroup_manager(&self) -> CgroupManager<'_> {
        match &self.unit {
            Some(unit) => CgroupManager::Systemd(unit),
            None => CgroupManager::Fs,
        }
    }

    /// Opens the gate; returns execve's outcome.
    pub(crate) fn start(&self, global: &Global) -> Result<(), Failure> {
        let dir = dir(global, &self.id)?;
        let failed = |errno: rustix::io::Errno| {
            Failure::new(format!("open the gate of container {}: {errno}", self.id))
        };
        let socket = seqpacket().map_err(failed)?;
        with_gate(&dir, |address| connect(&socket, address)).map_err(failed)?;
        std::fs::remove_file(dir.join(GATE)).map_err(Failure::at(format_args!("remove {GATE}")))?;
        Ok(runtime::Gate::connect(socket).open()?)
    }

    /// Whose its state directory is, by name if there is one.
    pub(crate) fn owner(&self, global: &Global) -> String {
        let of = dir(global, &self.id).and_then(|dir| {
            std::fs::metadata(&dir).map_err(Failure::at(format_args!("stat {}", dir.display())))
        });
        let Ok(stat) = of else {
            return String::new();
        };
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let uid = stat.uid().to_string();
        let named = users
            .lines()
            .find(|line| line.split(':').nth(2) == Some(uid.as_str()));
        let name = named.and_then(|line| line.split(':').next());
        name.map_or_else(|| format!("#{uid}"), str::to_owned)
    }

    /// A namespace that it has got without config.json: an exec joins it too.
    pub(crate) fn add_namespace(&mut self, kind: NamespaceKind) {
        let namespaces = &mut self.spec.linux.get_or_insert_default().namespaces;
        if !namespaces.iter().any(|one| one.kind == kind) {
            namespaces.push(Namespace { kind, path: None });
        }
    }

    /// Has it made a PID namespace, whose processes end with its first one?
    pub(crate) fn has_own_pids(&self) -> bool {
        let mut namespaces = self.spec.linux.iter().flat_map(|linux| &linux.namespaces);
        namespaces.any(|one| one.kind == NamespaceKind::Pid && one.path.is_none())
    }

    /// The limits it was made with, or got since.
    pub(crate) fn resources(&self) -> Resources {
        let linux = self.spec.linux.as_ref();
        linux
            .and_then(|linux| linux.resources.clone())
            .unwrap_or_default()
    }

    pub(crate) fn set_resources(&mut self, resources: Resources) {
        self.spec.linux.get_or_insert_default().resources = Some(resources);
    }

    /// Writes what has changed of a container that exists.
    pub(crate) fn save(&self, global: &Global) -> Result<(), Failure> {
        write(&dir(global, &self.id)?, self)
    }

    pub(crate) fn remove(&self, global: &Global) -> Result<(), Failure> {
        remove(global, &self.id)
    }
}

/// Removes the directory of a container, whole or damaged.
pub(crate) fn remove(global: &Global, id: &str) -> Result<(), Failure> {
    let path = dir(global, id)?;
    match std::fs::remove_dir_all(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::at(format_args!("remove {}", path.display()))(e))
        }
        _ => Ok(()),
    }
}

/// The directory of a container whose id is safe as a file name.
pub(crate) fn dir(global: &Global, id: &str) -> Result<PathBuf, Failure> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id.len() > 1024 || !id.chars().all(safe) || id == "." || id == ".." {
        return Err(Failure::new(format!("invalid container ID format: {id:?}")));
    }
    Ok(global.root.join(id))
}

fn write(dir: &Path, state: &State) -> Result<(), Failure> {
    let failed = || Failure::at(format!("write {STATE}"));
    let bytes =
        serde_json::to_vec(state).map_err(|e| Failure::new(format!("write {STATE}: {e}")))?;
    replace(&dir.join(STATE), &bytes, 0o600, Lasts::UntilBoot).map_err(failed())
}

fn seqpacket() -> rustix::io::Result<OwnedFd> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// A socket address has room for 107 bytes, so the directory is named by descriptor.
fn with_gate(
    dir: &Path,
    act: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let dir = rustix::fs::open(
        dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    act(&SocketAddrUnix::new(format!(
        "/proc/self/fd/{}/{GATE}",
        dir.as_raw_fd()
    ))?)
}
