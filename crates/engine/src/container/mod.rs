//! A container: a root file system and a process tree in a pod.
//! This file holds the nouns; one file per verb stands beside it. How a container is written
//! to `container.json` is in `record/container.rs` alone.

mod again;
pub(crate) mod create;
mod declared;
pub(crate) mod definition;
mod exec;
mod exec_streams;
mod exec_sync;
pub(crate) mod extras;
mod files;
mod health;
pub(crate) mod life;
mod on_root;
mod query;
pub(crate) mod record;
pub(crate) mod refused;
mod remove;
mod rename;
mod update;
pub(crate) mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use crate::budget::Share;
pub use exec::ExecOptions;
pub use exec_streams::{ExecStreams, WantedStreams};
pub use exec_sync::ExecSync;
pub use extras::{BlockIo, DeviceNumber, Extras, Filesystem, RestartPolicy, Rlimit, Unset};
pub use health::{Checked, Health, HealthCheck, OnUnhealthy, StartupCheck};
pub use life::{LifeAnswer, LifeCall};
pub use supervisor::HealthRecord;

use crate::pod::{NamespaceModes, UserIds};

/// What a caller asks for: everything that is known before the container exists.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    /// Name, unique in the pod together with attempt.
    pub name: String,
    /// How often kubelet has made this container before.
    pub attempt: u32,
    /// The image: an id, tag or digest reference that is in the store.
    pub image: String,
    /// The image as the pod's author wrote it, for policy and display.
    pub user_specified_image: String,
    /// Replaces the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Replaces the image's command when not empty.
    pub args: Vec<String>,
    /// Replaces the image's working directory when not empty.
    pub working_dir: String,
    /// Added to the image's environment; later wins.
    pub env: Vec<(String, String)>,
    /// Those whose values are no text; no name is in both.
    pub binary_env: Vec<(String, Vec<u8>)>,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// Device nodes of the node.
    pub devices: Vec<Device>,
    /// Devices by their CDI names ([`crate::cdi`]).
    pub cdi_devices: Vec<String>,
    /// Labels, kept byte for byte.
    pub labels: BTreeMap<String, String>,
    /// Annotations, kept byte for byte.
    pub annotations: BTreeMap<String, String>,
    /// The log file, relative to the pod's log directory; `None`: no log is kept.
    pub log_path: Option<PathBuf>,
    /// Keep standard input open for attach.
    pub stdin: bool,
    /// Close standard input after the first attach ends.
    pub stdin_once: bool,
    /// Give the process a terminal.
    pub tty: bool,
    /// Rows and columns of that terminal from the beginning; later sizes come by attach.
    pub console_size: Option<(u16, u16)>,
    /// Limits.
    pub resources: Resources,
    /// Identity and confinement.
    pub security: Security,
    /// Signal number that asks the process to end; `None`: the image's, or SIGTERM.
    pub stop_signal: Option<i32>,
    /// What a person wishes besides.
    pub extras: Option<Box<Extras>>,
}

impl ContainerSpec {
    /// The image as a person would name it: kubelet asks by id once the image is pulled.
    #[must_use]
    pub fn named_image(&self) -> &str {
        match self.user_specified_image.as_str() {
            "" => &self.image,
            named => named,
        }
    }
}

/// A host path or image made visible in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path inside.
    pub container_path: PathBuf,
    /// Absolute path on the node; made as a directory if missing, symlinks followed. Empty with `image`.
    pub host_path: PathBuf,
    /// The files of an image, always read-only, in place of what is at a path.
    pub image: Option<ImageVolume>,
    /// The volume whose directory `host_path` is, of a person's container.
    pub volume: Option<VolumeUse>,
    /// Flags of this mount, of [`MOUNT_OPTIONS`]. Mounts below it keep theirs.
    pub options: Vec<String>,
    /// Not writable from inside.
    pub readonly: bool,
    /// Read-only with everything mounted below it.
    pub recursive_read_only: bool,
    /// How later mounts travel.
    pub propagation: Propagation,
    /// Its files shall have the SELinux label of the container's (no effect on a container that has none).
    pub selinux_relabel: bool,
    /// Its files belong to others outside than in the mount; `None`: to whom they belong.
    pub ids: Option<UserIds>,
}

/// What [`Mount::options`] may say (mount(8); CRI Mount.mount_options).
pub const MOUNT_OPTIONS: [&str; 3] = ["noexec", "nodev", "nosuid"];

/// A volume that a mount shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeUse {
    /// Its name.
    pub name: String,
    /// What the image has there is not copied into it at its first use.
    pub no_copy: bool,
}

/// An image whose files a mount shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageVolume {
    /// The image: an id, tag or digest reference that is in the store.
    pub image: String,
    /// The image as the pod's author wrote it, for policy and display.
    pub user_specified_image: String,
    /// The file or directory of the image to show; empty: all of it. Links lead nowhere outside of the image.
    pub sub_path: PathBuf,
    /// The image's id, once it is known.
    pub id: String,
}

impl ImageVolume {
    /// The image as a person would name it.
    #[must_use]
    pub fn named_image(&self) -> &str {
        match self.user_specified_image.as_str() {
            "" => &self.image,
            named => named,
        }
    }
}

/// CRI MountPropagation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// rprivate
    #[default]
    Private,
    /// rslave
    HostToContainer,
    /// rshared
    Bidirectional,
}

/// A device node of the node given to the container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Path inside.
    pub container_path: PathBuf,
    /// Path on the node.
    pub host_path: PathBuf,
    /// Some of `rwm`.
    pub permissions: String,
}

/// CRI LinuxContainerResources. Zero and empty mean unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// CFS period in µs.
    pub cpu_period: i64,
    /// CFS quota in µs per period.
    pub cpu_quota: i64,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory_limit: i64,
    /// Memory plus swap, bytes; -1 unlimited.
    pub memory_swap_limit: i64,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// Such as `0-1,3`.
    pub cpuset_cpus: String,
    /// NUMA nodes, such as `0`.
    pub cpuset_mems: String,
    /// (page size such as `2MB`, bytes)
    pub hugepage_limits: Vec<(String, u64)>,
    /// cgroup v2 files and values.
    pub unified: BTreeMap<String, String>,
    /// Greatest number of processes; 0 unset.
    pub pids_limit: i64,
}

/// Identity and confinement of a container (CRI LinuxContainerSecurityContext).
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// Capabilities to add; `ALL` and with or without `CAP_`.
    pub add_capabilities: Vec<String>,
    /// Capabilities to take away.
    pub drop_capabilities: Vec<String>,
    /// Ambient capabilities to add.
    pub add_ambient_capabilities: Vec<String>,
    /// All capabilities and devices, nothing masked, no seccomp.
    pub privileged: bool,
    /// Namespaces.
    pub namespaces: NamespaceModes,
    /// Numeric user.
    pub run_as_user: Option<i64>,
    /// Numeric group; needs a user.
    pub run_as_group: Option<i64>,
    /// User by name, looked up in the image.
    pub run_as_username: String,
    /// `USER[:GROUP]`, names or numbers, in place of the image's; empty: the image's.
    pub user: String,
    /// True: a group in `user` or in the image's user is the only one, as the image-spec has it.
    pub image_groups: bool,
    /// Root file system not writable.
    pub readonly_rootfs: bool,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// True: only the groups given here, none from the image's /etc/group.
    pub strict_groups: bool,
    /// no_new_privs
    pub no_new_privs: bool,
    /// Paths hidden; `None` gives none.
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
    /// seccomp
    pub seccomp: Profile,
    /// AppArmor
    pub apparmor: Profile,
    /// user:role:type:level of SELinux, when asked for.
    pub selinux: Option<String>,
}

/// A security profile (CRI SecurityProfile).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Profile {
    /// None.
    #[default]
    Unconfined,
    /// The engine's own.
    RuntimeDefault,
    /// A file (seccomp) or loaded profile (AppArmor) of the node.
    Localhost(String),
}

/// Where a container is in its life, with what is known only there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running {
        /// Nanoseconds since 1970.
        started_at: i64,
    },
    /// Its process has ended, or could not be started.
    Exited {
        /// Nanoseconds since 1970; 0 if it never started.
        started_at: i64,
        /// Nanoseconds since 1970.
        finished_at: i64,
        /// 128 + signal if a signal ended it.
        exit_code: i32,
        /// `Completed`, `Error`, `OOMKilled`, `StartError`, `seccomp killed`.
        reason: &'static str,
        /// More, in words.
        message: String,
    },
    /// Its supervisor is gone, and a process of it may live; or its supervisor is of a newer floe, and
    /// names a state that this one does not know.
    Unknown,
}

/// A container as it is now.
#[derive(Debug, Clone)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its pod's id.
    pub pod_id: String,
    /// What was asked for.
    pub spec: ContainerSpec,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// It is frozen.
    pub paused: bool,
    /// How often it has run again by its policy, since somebody started it.
    pub restarts: u32,
    /// Process id of its first process on the node, while it has one.
    pub pid: Option<i32>,
    /// The image's id (hexadecimal config digest).
    pub image_id: String,
    /// The image's repository digest, or its id if it has none.
    pub image_ref: String,
    /// Absolute path of the log, if one is kept.
    pub log_path: Option<PathBuf>,
    /// What it wrote that is not in that.
    pub log_loss: crate::handler::LogLoss,
    /// User, group and further groups of the first process.
    pub user: ResolvedUser,
    /// Signal number that `stop` sends.
    pub stop_signal: i32,
    /// Its cgroup below each hierarchy's root.
    pub cgroup: String,
    /// What is executed in it: the request's words or the image's.
    pub args: Vec<String>,
    /// The bundle directory: `config.json`, `state.json`.
    pub bundle: PathBuf,
    /// The name of the handler that runs it.
    pub handler: String,
}

/// The numeric identity of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups, the primary one first.
    pub groups: Vec<u32>,
}

impl Container {
    /// Runs its process, frozen or not?
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }

    /// Has it no process at all: not started yet, or ended?
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        match self.state {
            ContainerState::Exited { .. } => true,
            ContainerState::Created => self.pid.is_none(),
            ContainerState::Running { .. } | ContainerState::Unknown => false,
        }
    }

    /// The ids of the images that it uses: its own, and those of its volumes.
    pub(crate) fn images(&self) -> impl Iterator<Item = &str> {
        let volumes = self
            .spec
            .mounts
            .iter()
            .filter_map(|mount| mount.image.as_ref());
        std::iter::once(self.image_id.as_str()).chain(volumes.map(|volume| volume.id.as_str()))
    }
}

/// Which containers to list. Conditions are ANDed; `None` and empty mean any.
#[derive(Debug, Clone, Default)]
pub struct ContainerFilter {
    /// An id or its unambiguous beginning.
    pub id: Option<String>,
    /// The state's variant.
    pub state: Option<StateKind>,
    /// The pod's id.
    pub pod_id: Option<String>,
    /// Labels that must all be there with these values.
    pub labels: BTreeMap<String, String>,
    /// Only containers of pods of this origin.
    pub origin: Option<crate::pod::Origin>,
}

/// [`ContainerState`] without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKind {
    /// See [`ContainerState::Created`].
    Created,
    /// See [`ContainerState::Running`].
    Running,
    /// See [`ContainerState::Exited`].
    Exited,
    /// See [`ContainerState::Unknown`].
    Unknown,
}

/// The reason of an end for want of memory.
pub(crate) const OUT_OF_MEMORY: &str = "OOMKilled";

impl ContainerState {
    /// Why it has ended, if it has.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Exited { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// The variant alone.
    #[must_use]
    pub fn kind(&self) -> StateKind {
        match self {
            Self::Created => StateKind::Created,
            Self::Running { .. } => StateKind::Running,
            Self::Exited { .. } => StateKind::Exited,
            Self::Unknown => StateKind::Unknown,
        }
    }
}

/// What an exec'd command left.
#[derive(Debug)]
pub struct ExecOutput {
    /// Its beginning: with stderr's a little less than 16 MiB; the rest is discarded.
    pub stdout: Vec<u8>,
    /// Its beginning, as stdout's.
    pub stderr: Vec<u8>,
    /// 128 + signal if a signal ended it.
    pub exit_code: i32,
    /// To be kept for as long as the streams are in memory: others have no room for theirs.
    pub memory: crate::budget::Share,
}

/// The exit code of a container that has ended, as a process would give it.
#[must_use]
pub fn exit_code(state: &crate::handler::State) -> Option<u8> {
    match state.status {
        crate::handler::Status::Exited { exit_code, .. } => u8::try_from(exit_code).ok(),
        _ => None,
    }
}
