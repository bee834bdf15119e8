//! From an OCI runtime-spec configuration to a running process on Linux: namespaces, mounts,
//! cgroups, seccomp, capabilities, devices, hooks. A library: the pod supervisor and the command
//! line of `floe-runtime` both call it.
//!
//! [`NewContainer::create`] clones the container's first process and leaves it at a gate;
//! [`Gate::open`] lets it become its program; [`NewExec::start`] runs a further process beside it.
//! Callers have one thread and reap what they make. Inside a root file system all paths are
//! resolved by descriptor. One file per kernel resource; `unsafe` only in `sys/`.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

pub mod apparmor;
pub mod capability;
pub mod cgroup;
pub mod criu;
pub mod hooks;
pub mod kernel;
pub mod resctrl;
pub mod seccomp;
pub mod spec;

mod cgroup_placement;
mod cloned_binary;
mod container;
mod creating;
mod errno;
mod error;
mod exec;
mod features;
mod gate;
mod guard;
mod init;
mod intermediate;
mod labels;
mod message;
mod namespaces;
mod net_devices;
mod notify;
mod procfs;
mod program_root;
mod progress;
mod rootless;
mod scheduling;
mod starting;
mod stdio;
mod sys;
mod users;
mod validate;

pub use cgroup::close_all_but_cgroups;
pub use cgroup_placement::CgroupManager;
pub use cloned_binary::{protect_own_program, read_only_program};
pub use container::{Created, NewContainer, Rootfs};
pub use creating::Creating;
pub use errno::errno_text;
pub use error::{Error, InitFailure, Result};
pub use exec::{NewExec, Started};
pub use features::Features;
pub use gate::{Gate, GateKind};
pub use guard::unmount_shared;
pub use init::rlimit;
pub use labels::selinux as has_selinux;
pub use program_root::mount_for_program;
pub use progress::Progress;
pub use rootless::{in_user_namespace, is_rootless, set_optional_cgroups};
pub use starting::Starting;
pub use stdio::Stdio;
pub use users::{map_users, user_namespace};
