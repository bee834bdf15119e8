//! What podman's command line asks of a container and CRI has no words for.

use std::path::PathBuf;

use super::health::HealthCheck;
use crate::secret::SecretUse;

/// Further wishes of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// File systems of their own, mounted before what the request mounts from the node.
    pub filesystems: Vec<Filesystem>,
    /// Limits of the process, in place of the configuration's of the same kind.
    pub rlimits: Vec<Rlimit>,
    /// The process's mask for new files.
    pub umask: Option<u32>,
    /// Variables of the image that the process is not to have; the request's own stay.
    pub unset_env: Unset,
    /// Paths at which the pod's files (`/etc/hosts`, …) are not to be shown.
    pub hidden_files: Vec<PathBuf>,
    /// The zone of the container's clock, or `local`, in place of the configuration's.
    pub time_zone: Option<String>,
    /// A namespace of cgroups of its own, or the node's; `None`: as it is usual.
    pub own_cgroups: Option<bool>,
    /// Soft limit of memory in bytes.
    pub memory_reservation: Option<i64>,
    /// 0 to 100 (cgroup v1).
    pub memory_swappiness: Option<u64>,
    /// Let processes wait for memory instead of killing them (cgroup v1).
    pub oom_kill_disable: bool,
    /// Paths to be shown although others of their kind are hidden or read-only; `None` of an entry: all.
    pub unmask: Vec<Option<PathBuf>>,
    /// Further paths to be hidden.
    pub mask: Vec<PathBuf>,
    /// Limits of block devices.
    pub block_io: BlockIo,
    /// Whether it runs again when it has ended.
    pub restart: RestartPolicy,
    /// It is removed when it has ended.
    pub remove: bool,
    /// It is killed when it has run for so many seconds.
    pub run_limit: Option<u64>,
    /// A person has stopped it since it was started: see [`RestartPolicy::UnlessStopped`].
    pub stopped: bool,
    /// Secrets that it is given.
    pub secrets: Vec<SecretUse>,
    /// How its health is checked, if it is.
    pub health: Option<Box<HealthCheck>>,
}

/// When a container that has ended runs again, unless somebody has stopped it (podman's `--restart`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Always, and when the node starts.
    Always,
    /// The same, but for one that was stopped before the node was.
    UnlessStopped,
    /// When its code is not 0.
    OnFailure {
        /// So many times at the most.
        most: Option<u32>,
    },
}

impl Extras {
    /// Is it to run again when the node starts?
    #[must_use]
    pub fn starts_with_the_node(&self) -> bool {
        match self.restart {
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !self.stopped,
            RestartPolicy::No | RestartPolicy::OnFailure { .. } => false,
        }
    }
}

impl From<RestartPolicy> for ::supervisor::Restart {
    fn from(policy: RestartPolicy) -> Self {
        match policy {
            RestartPolicy::No => Self::No,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => Self::Always,
            RestartPolicy::OnFailure { most } => Self::OnFailure { most },
        }
    }
}

/// A file system of the container's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// `tmpfs`, `devpts`, `ramfs`.
    pub kind: String,
    /// Absolute path inside.
    pub container_path: PathBuf,
    /// mount(8) options; `tmpcopyup` begins with what the image has there.
    pub options: Vec<String>,
}

/// One of setrlimit(2)'s limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// Such as `RLIMIT_NOFILE`.
    pub kind: String,
    /// What holds.
    pub soft: u64,
    /// What it may be raised to.
    pub hard: u64,
}

/// Which variables are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unset {
    /// These, by their names.
    Names(Vec<String>),
    /// All.
    All,
}

impl Default for Unset {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

/// Limits of block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// The same for one device.
    pub weight_device: Vec<(DeviceNumber, u16)>,
    /// Bytes per second read.
    pub read_bps: Vec<(DeviceNumber, u64)>,
    /// Bytes per second written.
    pub write_bps: Vec<(DeviceNumber, u64)>,
    /// Reads per second.
    pub read_iops: Vec<(DeviceNumber, u64)>,
    /// Writes per second.
    pub write_iops: Vec<(DeviceNumber, u64)>,
}

/// The numbers of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}
