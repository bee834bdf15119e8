//! The intermediate process, between the runtime and a process of the container. It has the host's rights while it
//! needs them: joins the namespaces, opens what is to be mounted, becomes the container's user. Only then
//! it clones its successor, as a child of the runtime, into the container's PID namespace: so nothing that
//! the container can see, trace or stop has ever had more than the container's own root and rights
//! (a pod's other containers, and a container with CAP_SYS_PTRACE, look into every process they see).
//!
//! It never executes anything, and ends as soon as its successor lives.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::guard::ChildGuard;
use crate::message::{Channel, FromInit};
use crate::sys::{self, Forked};

/// Clones the successor into new namespaces (CLONE_NEW* in `flags`) and into a v2 cgroup, and ends;
/// returns only in the successor, whose parent is the runtime. `ready` is what [`FromInit::Born`] says.
pub(crate) fn succeed(
    channel: &Channel,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    ready: Option<Vec<String>>,
) -> Result<(), Errno> {
    match sys::clone_sibling(flags, cgroup)? {
        Forked::Child => Ok(()),
        Forked::Parent { pidfd, .. } => {
            // If the runtime is gone, the successor learns it by itself.
            let _ = channel.send(&FromInit::Born { ready }, Some(pidfd.as_fd()));
            sys::exit(0)
        }
    }
}

/// The runtime's side: the successor whose pidfd came with [`FromInit::Born`].
///
/// # Errors
/// It has ended already.
pub(crate) fn successor(pidfd: OwnedFd) -> Result<(ChildGuard, OwnedFd)> {
    Ok((ChildGuard::of(pid_of(&pidfd)?), pidfd))
}

/// The process id that a pidfd stands for, as the caller's /proc has it.
fn pid_of(pidfd: &OwnedFd) -> Result<i32> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Io {
        operation: "read",
        path: path.into(),
        source,
    })?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    let pid = pid.and_then(|pid| pid.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or(Error::Vanished {
        doing: "entering its user namespace",
    })
}
