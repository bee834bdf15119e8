//! Signals: caught for a foreground container by signalfd(2), sent, and read from text.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::cmd::Failure;

/// The signals of this process, as a descriptor.
pub(crate) struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks everything that can be blocked; it is read with [`Signals::next`] from then on. The
    /// runtime library unblocks all in what it clones.
    pub(crate) fn catch() -> Result<Self, Failure> {
        // SAFETY: an all-zero sigset is valid storage, and sigfillset initialises it.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `all` outlives the calls, which take it by reference; signalfd returns a new fd.
        let fd = unsafe {
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
            libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(Failure::at("signalfd")(std::io::Error::last_os_error()));
        }
        // SAFETY: signalfd returned it just now; nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// The number of a signal that has come; `None` if none has.
    pub(crate) fn next(&self) -> Option<i32> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.fd, &mut info).ok()?;
        // The number is the structure's first field.
        (read == info.len())
            .then(|| i32::try_from(u32::from_ne_bytes([info[0], info[1], info[2], info[3]])).ok())?
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        debug_assert!(self.fd.as_raw_fd() >= 0);
        self.fd.as_fd()
    }
}

/// kill(2); real-time signals too.
pub(crate) fn send(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill takes integers.
    check(unsafe { libc::kill(pid, signal) }.into())
}

/// As [`send`], to the process that `pidfd` stands for and to no other.
pub(crate) fn send_to(pidfd: impl AsFd, signal: i32) -> Result<(), Errno> {
    let none = std::ptr::null::<libc::siginfo_t>();
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the call takes integers and no siginfo.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) })
}

fn check(result: libc::c_long) -> Result<(), Errno> {
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// `TERM`, `SIGTERM`, `15`; 0 asks whether the process is there.
pub(crate) fn parse(text: &str) -> Option<i32> {
    match text {
        "0" => Some(0),
        _ => base::signal::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_numbers_and_real_time_signals_are_read() {
        assert_eq!(parse("KILL"), Some(9));
        assert_eq!(parse("sigterm"), Some(15));
        assert_eq!(parse("SIGSYS"), Some(31));
        assert_eq!(parse("RTMIN+1"), Some(35));
        assert_eq!(parse("SIGRTMAX-2"), Some(62));
        assert_eq!(parse("65"), None);
        assert_eq!(parse("SIGNOPE"), None);
    }
}
