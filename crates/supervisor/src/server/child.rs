//! Work that waits is done by a child beside the loop: a fork of the supervisor, which says how it went in a pipe and
//! with its exit code. Must never return into the loop.

use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::setpgid;

use crate::error::{Error, Result};
use crate::sys::process::{Fork, exit_now, fork};
use crate::sys::signal::unblock_all;

/// A child that does `work`, for `what`, and ends with the code that it returns. What it wrote into the pipe that it is
/// given can be read when it has ended, or earlier.
///
/// # Errors
/// No pipe, no child.
pub(super) fn in_child(
    what: &'static str,
    work: impl FnOnce(&OwnedFd) -> i32,
) -> Result<(i32, OwnedFd)> {
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (read, write) = pipe_with(flags).map_err(Error::io("make a pipe for", what))?;
    match fork(0, None).map_err(Error::io("fork", format!("for {what}")))? {
        Fork::Parent(pid) => Ok((pid.as_raw_nonzero().get(), read)),
        Fork::Child => {
            unblock_all();
            // Nothing is dropped: the work may have closed what it did not open.
            exit_now(work(&write))
        }
    }
}

/// The same, and it leads a process group, to be killed with all that it starts.
///
/// # Errors
/// As [`in_child`].
pub(super) fn in_group(
    what: &'static str,
    work: impl FnOnce(&OwnedFd) -> i32,
) -> Result<(i32, OwnedFd)> {
    let (pid, said) = in_child(what, |write| {
        // Both do: whoever comes later finds it done.
        let _ = setpgid(None, None);
        work(write)
    })?;
    let group = rustix::process::Pid::from_raw(pid);
    let _ = setpgid(group, group);
    Ok((pid, said))
}
