//! Signals as something to read (signalfd(2)), so that the supervisor has no handlers.
//! The blocked mask is inherited by children: whoever executes a program must reset it
//! (crate `runtime` does for what it makes).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A set of all signals, in the form libc wants.
fn all_signals() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset writes the whole set that the pointer names.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: sigfillset has initialised it.
    unsafe { set.assume_init() }
}

/// Blocks every signal for good: each one is read from the descriptor, or stays pending. A write
/// to a pipe without reader is then the error EPIPE and nothing more. Signals that an ancestor
/// ignored are set back, since an ignored SIGCHLD would lose exit codes.
///
/// # Errors
/// As sigprocmask(2).
pub(crate) fn block_all() -> io::Result<()> {
    for signal in [libc::SIGCHLD, libc::SIGPIPE] {
        // SAFETY: SIG_DFL is no function of ours; no handler can run.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let set = all_signals();
    // SAFETY: both pointers are valid for the call, the null one says that the old set is not wanted.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Blocks no signal, before another program is executed, which would have the mask from this one.
pub(crate) fn unblock_all() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset writes the whole set that the pointer names.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised, and null says that the old one is not wanted. It cannot fail.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) };
}

/// A descriptor from which blocked signals are read.
#[derive(Debug)]
pub(crate) struct SignalFd(OwnedFd);

impl SignalFd {
    /// One that reads all signals, without waiting. Call [`block_all`] before.
    ///
    /// # Errors
    /// As signalfd(2).
    pub(crate) fn new() -> io::Result<Self> {
        let set = all_signals();
        // SAFETY: the set is valid for the call; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The number of the next signal that has come, if one has.
    pub(crate) fn next(&self) -> Option<i32> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        let count = rustix::io::read(&self.0, &mut record).ok()?;
        let number = record.get(..count)?.first_chunk::<4>()?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until a blocked SIGCHLD is pending, and takes it.
pub(crate) fn wait_for_child_signal() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset writes the whole set that the pointer names.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has initialised the set.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD) };
    // SAFETY: the set is valid, and null says that the details are not wanted.
    unsafe { libc::sigwaitinfo(set.as_ptr(), std::ptr::null_mut()) };
}
