//! Making processes and namespaces without executing a program. Only for a process with a single
//! thread, which the supervisor is from its first instruction to its last: no lock can be held by
//! a thread that the child does not have.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use base::clone::clone3;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// The caller; the child has that pid.
    Parent(Pid),
    /// The new process.
    Child,
}

/// fork(2) with the child in new namespaces (CLONE_NEW*) and in a v2 cgroup, without the wait that
/// a move into it would cost (clone3(2)).
///
/// # Errors
/// As clone3(2).
pub(crate) fn fork(namespaces: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    let flags = u64::from(namespaces.cast_unsigned());
    // SAFETY: the process has one thread (see the module), and the flags make namespaces alone.
    match unsafe { clone3(flags, libc::SIGCHLD, cgroup) }? {
        None => Ok(Fork::Child),
        Some(child) => Pid::from_raw(child.pid)
            .map(Fork::Parent)
            .ok_or_else(|| io::ErrorKind::InvalidData.into()),
    }
}

/// Moves the process into new namespaces.
///
/// # Errors
/// As unshare(2).
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: unsharing the file table could make other threads' descriptors invalid; there are
    // no other threads (see the module), and no caller asks for CLONE_FILES.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Closes every descriptor from `first` on. For descriptors that were inherited: a value that owns
/// one of them must not be used or dropped afterwards.
///
/// # Errors
/// As close_range(2).
pub(crate) fn close_inherited(first: u32) -> io::Result<()> {
    // SAFETY: as the caller promises, no value that owns one of them is used or dropped afterwards,
    // so that none can act on a descriptor that came to that number later.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process at once, without flushing or dropping anything that its parent also has.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(code) }
}

/// fork(2) whose child is the caller's sibling, in new namespaces: its parent learns of its end as of the
/// caller's.
///
/// # Errors
/// As clone3(2).
pub(crate) fn fork_sibling(namespaces: i32) -> io::Result<Fork> {
    let flags = u64::from((namespaces | libc::CLONE_PARENT).cast_unsigned());
    // SAFETY: the process has one thread (see the module), and the flags share no memory.
    match unsafe { clone3(flags, 0, None) }? {
        None => Ok(Fork::Child),
        Some(child) => Pid::from_raw(child.pid)
            .map(Fork::Parent)
            .ok_or_else(|| io::ErrorKind::InvalidData.into()),
    }
}

/// Joins a user namespace (setns(2)).
///
/// # Errors
/// As setns(2).
pub(crate) fn join_users(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes integers; what this single thread may do breaks no memory rule.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWUSER) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Becomes user and group `id`, without any other group; not root's, without any capability either.
///
/// # Errors
/// As setgroups(2), setresgid(2) and setresuid(2).
pub(crate) fn become_user(id: u32) -> io::Result<()> {
    // SAFETY: an empty list is read by nobody.
    let groups = unsafe { libc::setgroups(0, std::ptr::null()) };
    // SAFETY: no precondition.
    let group = unsafe { libc::setresgid(id, id, id) };
    // SAFETY: no precondition.
    let user = unsafe { libc::setresuid(id, id, id) };
    match (groups, group, user) {
        (0, 0, 0) => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A child of this process, until it is reaped: its pid, and a descriptor that means that very
/// process and never a later one with the same pid.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

impl Process {
    /// The child `pid`, which `pidfd` stands for.
    pub(crate) fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// Its pid as this process sees it.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// What stands for it.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal by number, real-time signals included (pidfd_send_signal(2)). A process that
    /// has ended and is not yet reaped takes any signal.
    ///
    /// # Errors
    /// EINVAL for a number that is no signal.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        let null = std::ptr::null::<libc::siginfo_t>();
        let fd = self.pidfd.as_raw_fd();
        // SAFETY: the descriptor is open as long as self; a null siginfo is as kill(2).
        match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, null, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Kills it and, if it leads a process group, that group. Only before it is reaped: until then
    /// no other process or group can have its number.
    pub(crate) fn kill_with_group(&self) {
        if let Some(group) = Pid::from_raw(self.pid) {
            // ESRCH: it leads no group.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.signal(libc::SIGKILL);
    }
}

/// A child that has ended and is not reaped yet, if there is one; it stays so (waitid(2) with WNOWAIT).
pub(crate) fn ended_child() -> Option<i32> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: an all-zero siginfo_t is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the structure outlives the call, which writes nothing else.
    let done = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves them zero.
    let pid = unsafe { info.si_pid() };
    (done == 0 && pid > 0).then_some(pid)
}
