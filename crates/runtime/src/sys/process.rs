//! clone3(2), setns(2), execve(2), prctl(2) and their like.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use base::clone::{Child, clone3};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// Which side of a clone this is.
pub(crate) enum Forked {
    /// The new process. It must end by [`execve`] or [`exit`], never by returning to its caller's caller.
    Child,
    /// The old one.
    Parent { pid: i32, pidfd: OwnedFd },
}

/// clone3(2) of a process with `flags` (CLONE_NEW*) and a pidfd, born in the v2 cgroup whose
/// directory is given; SIGCHLD tells of its end.
///
/// The caller must have one thread: a lock that another thread holds stays locked for ever in
/// the child, the allocator's too.
pub(crate) fn clone_process(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    clone(flags, libc::SIGCHLD, cgroup)
}

/// The flags of clone(2) by which a process under a filter makes its successor.
pub(crate) const SUCCESSOR_FLAGS: u64 = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;

/// As [`clone_process`], but the new process is a child of the caller's parent, which learns of its
/// end as it learns of the caller's. Without flags and cgroup also under a filter that has no clone3(2).
pub(crate) fn clone_sibling(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    let plain = flags == 0 && cgroup.is_none();
    match clone(flags | libc::CLONE_PARENT as u64, 0, cgroup) {
        Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) if plain => old_clone(SUCCESSOR_FLAGS),
        other => other,
    }
}

/// A process that does nothing but keep a new user namespace, and ends when this is dropped.
pub(crate) struct Holder {
    pid: i32,
    pidfd: OwnedFd,
}

impl Holder {
    /// Makes it. The caller may have threads, unlike that of [`clone_process`]: the new process makes
    /// system calls alone.
    pub(crate) fn of_users() -> Result<Self, Errno> {
        let flags = (libc::CLONE_NEWUSER | libc::CLONE_PIDFD) as u64;
        let maker = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: the new process runs `hold`, which is async-signal-safe; the flags share no memory.
        let child = unsafe { clone3(flags, libc::SIGCHLD, None) }?;
        let Some(Child { pid, pidfd }) = child else {
            hold(maker)
        };
        let pidfd = pidfd.ok_or(Errno::BADF)?;
        Ok(Self { pid, pidfd })
    }

    /// Its pid as this process sees it.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let ended = || waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        while let Err(Errno::INTR) = ended() {}
    }
}

/// What a [`Holder`] does: it keeps no file of its maker's open, and ends with it.
fn hold(maker: i32) -> ! {
    // SAFETY: integers only, and calls that are async-signal-safe; nothing here allocates or locks.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        while libc::getppid() == maker {
            libc::pause();
        }
        libc::_exit(0)
    }
}

/// clone(2), the call before clone3(2), on a copy of this stack.
fn old_clone(flags: u64) -> Result<Forked, Errno> {
    let mut pidfd: i32 = -1;
    // SAFETY: as in `clone`; the kernel stores the descriptor in `pidfd`, which outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_u64, &raw mut pidfd, 0_u64, 0_u64) };
    forked(pid, pidfd)
}

fn clone(flags: u64, signal: i32, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    // SAFETY: every caller of this module has one thread; its flags share no memory.
    let child = unsafe { clone3(flags | libc::CLONE_PIDFD as u64, signal, cgroup) }?;
    match child {
        None => Ok(Forked::Child),
        Some(Child { pid, pidfd }) => {
            let pidfd = pidfd.ok_or(Errno::BADF)?;
            Ok(Forked::Parent { pid, pidfd })
        }
    }
}

/// The answer of clone(2) and its like; `pidfd` is what the kernel stored.
fn forked(pid: libc::c_long, pidfd: i32) -> Result<Forked, Errno> {
    match i32::try_from(pid) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) if pid > 0 => {
            // SAFETY: the kernel stored a new descriptor there, and nobody else knows of it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid, pidfd })
        }
        _ => Err(last()),
    }
}

/// setns(2): joins the namespaces that `fd` stands for (a namespace file, or a pidfd with several kinds).
pub(crate) fn setns(fd: impl AsFd, kinds: i32) -> Result<(), Errno> {
    // SAFETY: takes integers; changing namespaces of this single thread breaks no memory rule.
    check(unsafe { libc::setns(fd.as_fd().as_raw_fd(), kinds) })
}

/// CLONE_NEWTIME, which libc lacks.
pub(crate) const CLONE_NEWTIME: i32 = 0x80;

/// unshare(CLONE_NEWTIME): the next children are in a new time namespace, the caller is not.
pub(crate) fn unshare_time() -> Result<(), Errno> {
    // SAFETY: takes an integer; the caller's own clocks stay as they are.
    check(unsafe { libc::unshare(CLONE_NEWTIME) })
}

/// unshare(CLONE_NEWNS): the caller, which has one thread, has a mount namespace of its own.
pub(crate) fn unshare_mounts() -> Result<(), Errno> {
    // SAFETY: takes an integer; where paths of this single thread lead breaks no memory rule.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })
}

/// unshare(CLONE_NEWCGROUP): where the caller is now is the root of what it sees of cgroups.
pub(crate) fn unshare_cgroups() -> Result<(), Errno> {
    // SAFETY: takes an integer; how cgroups are called breaks no memory rule.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })
}

/// unshare(CLONE_NEWUSER | CLONE_NEWNS): the caller, which has one thread, has no rights but in namespaces
/// of its own.
pub(crate) fn unshare_rights() -> Result<(), Errno> {
    // SAFETY: takes an integer; what this single thread may do breaks no memory rule.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })
}

/// As execve(2) and its like want a list; valid as long as the strings are.
fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    let pointers = list.iter().map(|text| text.as_ptr());
    pointers.chain([std::ptr::null()]).collect()
}

/// execveat(2) of the file that `file` stands for; returns only if it failed.
pub(crate) fn execveat(file: impl AsFd, arguments: &[CString], environment: &[CString]) -> Errno {
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: the fd is open, the path is empty and NUL-terminated, both arrays end in null and hold
    // pointers to NUL-terminated strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last()
}

/// execve(2); returns only if it failed.
pub(crate) fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in null and hold pointers to NUL-terminated strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last()
}

/// _exit(2): no destructors, no buffers flushed: they belong to the parent.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: ends the process; nothing can be observed after it.
    unsafe { libc::_exit(code) }
}

/// Default actions for all signals and none blocked, as a new program expects them. By the system
/// calls themselves: the C library keeps two signals to itself, and a caller may have ignored them.
pub(crate) fn forget_signals() {
    // struct sigaction of the kernel (handler, flags, restorer, mask) and its sigset_t, all zero:
    // the default action, no flag, no signal.
    let default = [0_u64; 4];
    let none = 0_u64;
    let set = size_of_val(&none);
    // SAFETY: both structures outlive the calls and have the kernel's layout and size; the default
    // action needs no handler or restorer; signals that cannot be changed are refused.
    unsafe {
        for signal in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                set,
            );
        }
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut::<u64>(),
            set,
        );
    }
}

/// Overwrites the environment of the caller: a container that may trace its own processes could read
/// it in `/proc/PID/environ` until execve. Only ever called in a process made by [`clone_process`].
pub(crate) fn forget_environment() {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: this process has one thread and its own copy of the memory; `environ` is null or ends
    // in null, and its strings are NUL-terminated and writable (environ(7)). They stay valid strings.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let length = libc::strlen(*entry);
            std::ptr::write_bytes(*entry, 0, length);
            entry = entry.add(1);
        }
    }
}

/// Ends at signals that ask for it, although the first process of a PID namespace is spared those
/// without a handler. Until execve, which makes them what they were.
pub(crate) fn end_on_signals() {
    extern "C" fn end(_: libc::c_int) {
        exit(1)
    }
    // SAFETY: an all-zero sigaction is valid: no flag, an empty mask. The handler only calls _exit,
    // which is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = (end as extern "C" fn(libc::c_int)) as usize;
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// PR_SET_DUMPABLE 0: no other process may look into this one or open its /proc files.
pub(crate) fn not_dumpable() -> Result<(), Errno> {
    // SAFETY: prctl with integer arguments.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
}

/// PR_SET_KEEPCAPS: keep permitted capabilities over the change of user.
pub(crate) fn keep_capabilities(keep: bool) -> Result<(), Errno> {
    // SAFETY: prctl with integer arguments.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0) })
}

/// PR_SET_NO_NEW_PRIVS, for ever.
pub(crate) fn no_new_privs() -> Result<(), Errno> {
    // SAFETY: prctl with integer arguments.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// keyctl(KEYCTL_JOIN_SESSION_KEYRING): a session keyring of its own, named after the container.
pub(crate) fn join_session_keyring(name: &CStr) -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if done < 0 { Err(last()) } else { Ok(()) }
}

/// TIOCSCTTY: the terminal becomes the session's.
pub(crate) fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the request takes an integer.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })
}

fn check(result: i32) -> Result<(), Errno> {
    if result < 0 { Err(last()) } else { Ok(()) }
}

pub(super) fn last() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
