//! Thin, safe faces of the system calls that rustix does not have, each named after its man page.
//! All `unsafe` of process creation and mounts is here and in the files beside; no policy.

mod fd;
mod mount;
mod process;
mod scheduling;
mod seccomp;

pub(crate) use fd::{adopt, cloexec_from, close_all_but, receive, send};
pub(crate) use mount::{MountAttr, fanotify_pre_content, mount_setattr, open_tree_fd};
pub(crate) use process::{
    CLONE_NEWTIME, Forked, Holder, SUCCESSOR_FLAGS, clone_process, clone_sibling, end_on_signals,
    execve, execveat, exit, forget_environment, forget_signals, join_session_keyring,
    keep_capabilities, no_new_privs, not_dumpable, set_controlling_terminal, setns,
    unshare_cgroups, unshare_mounts, unshare_rights, unshare_time,
};
pub(crate) use scheduling::{
    SchedAttr, set_affinity, set_io_priority, set_memory_policy, set_personality, set_scheduler,
};
pub(crate) use seccomp::{seccomp_receive, seccomp_refuse};
