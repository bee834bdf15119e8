//! The process between the runtime and a process of another user namespace. It still has the
//! host's rights, and does with them what its successor could not: it joins cgroups and namespaces
//! of the host, raises limits, opens what is to be mounted. Then it is in the user namespace (or
//! about to make it) and clones its successor as a child of the runtime.
//!
//! It never executes anything, and ends as soon as its successor lives.

use std::os::fd::{AsFd, OwnedFd};

use crate::container::ChildGuard;
use crate::error::{Error, InitFailure, Result};
use crate::message::{Channel, FromInit};
use crate::sys::{self, Forked};

/// Clones the successor into new namespaces (CLONE_NEW* in `flags`) and ends; returns only in the
/// successor, whose parent is the runtime.
pub(crate) fn succeed(channel: &Channel, flags: u64) -> Result<(), InitFailure> {
    match sys::clone_sibling(flags).map_err(InitFailure::at("clone"))? {
        Forked::Child => Ok(()),
        Forked::Parent { pidfd, .. } => {
            // If the runtime is gone, the successor learns it by itself.
            let _ = channel.send(&FromInit::Born, Some(pidfd.as_fd()));
            sys::exit(0)
        }
    }
}

/// The runtime's side: waits for the successor of `between`, which is reaped.
///
/// # Errors
/// What the process between failed at.
pub(crate) fn successor(channel: &Channel, between: ChildGuard) -> Result<(ChildGuard, OwnedFd)> {
    let born = channel
        .receive::<FromInit>()
        .map_err(Error::io("read from", "init"))?;
    let pidfd = match born {
        Some((FromInit::Born, Some(pidfd))) => pidfd,
        Some((FromInit::Failed(failure), _)) => return Err(Error::Init(failure)),
        _ => {
            return Err(Error::Vanished {
                doing: "entering its user namespace",
            });
        }
    };
    drop(between);
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
