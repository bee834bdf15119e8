//! clone3(2): a copy of this process, in new namespaces and in its cgroup from the first instruction.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// libc's constant is too narrow for the call's flags.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A process that was made.
#[derive(Debug)]
pub struct Child {
    /// Its pid as this process sees it.
    pub pid: i32,
    /// The descriptor that stands for it, where CLONE_PIDFD was asked for.
    pub pidfd: Option<OwnedFd>,
}

/// clone3(2) with these flags (CLONE_*), the signal of the child's end, and the cgroup v2 directory
/// that it begins in. `None` in the new process, which runs on a copy of this stack.
///
/// # Errors
/// As clone3(2).
///
/// # Safety
/// `flags` has neither CLONE_VM, CLONE_SETTLS nor CLONE_*TID, and the caller has one thread, or the new
/// process does only what is async-signal-safe: locks of other threads stay locked in it for ever.
pub unsafe fn clone3(
    flags: u64,
    exit_signal: i32,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Option<Child>, Errno> {
    let mut pidfd: i32 = -1;
    let arguments = libc::clone_args {
        flags: flags | cgroup.map_or(0, |_| CLONE_INTO_CGROUP),
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::try_from(exit_signal).unwrap_or(0),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| u64::try_from(fd.as_raw_fd()).unwrap_or(0)),
    };
    // SAFETY: without CLONE_VM the child has its own copy of memory and continues here on a copy of
    // this stack; `arguments` and `pidfd` outlive the call. The rest is the caller's promise.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => {
            let asked = flags & libc::CLONE_PIDFD as u64 != 0;
            // SAFETY: the kernel stored a new descriptor there, and nobody else knows of it.
            let pidfd = asked.then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
            Ok(Some(Child { pid, pidfd }))
        }
        _ => Err(last_error()),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
