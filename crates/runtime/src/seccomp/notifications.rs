//! seccomp_unotify(2): whoever holds the listener of a filter with SCMP_ACT_NOTIFY decides the calls that it
//! hands over. Here they are only taken and refused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::arch::Arch;
use super::names;
use crate::sys;

/// The listener of a filter.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A call that waits for its decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    id: u64,
    /// What is called, as libseccomp names it; `None`: this program knows no call of that number.
    pub name: Option<&'static str>,
    /// Its number in the caller's architecture.
    pub number: i32,
}

/// What a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A call.
    Call(Notification),
    /// None now.
    Nothing,
    /// None ever: no process has the filter any more.
    Over,
}

impl Listener {
    /// The listener that a descriptor is.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Takes a call that waits, and waits for none.
    ///
    /// # Errors
    /// A descriptor that is no listener.
    pub fn receive(&self) -> io::Result<Heard> {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut polled, Some(&now))?;
        let found = polled[0].revents();
        if !found.contains(PollFlags::IN) {
            return Ok(match found.intersects(PollFlags::HUP | PollFlags::ERR) {
                true => Heard::Over,
                false => Heard::Nothing,
            });
        }
        match sys::seccomp_receive(&self.0) {
            Ok(call) => Ok(Heard::Call(Notification {
                id: call.id,
                name: name(call.arch, call.number),
                number: call.number,
            })),
            // Its caller was killed meanwhile.
            Err(Errno::NOENT | Errno::INTR) => Ok(Heard::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the call fail with that errno. A caller that was killed meanwhile is fine.
    ///
    /// # Errors
    /// A descriptor that is no listener.
    pub fn refuse(&self, call: Notification, errno: Errno) -> io::Result<()> {
        match sys::seccomp_refuse(&self.0, call.id, errno) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a number means in an architecture of the kernel's.
fn name(audit: u32, number: i32) -> Option<&'static str> {
    let mut all = Arch::ALL.into_iter();
    let arch = all.find(|arch| arch.audit() == audit)?;
    names::of_number(arch, u32::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_its_name_in_its_callers_architecture() {
        let swapoff = i32::try_from(libc::SYS_swapoff).unwrap();
        assert_eq!(name(Arch::NATIVE.audit(), swapoff), Some("swapoff"));
        assert_eq!(name(Arch::X86.audit(), 1), Some("exit"));
        assert_eq!(name(Arch::NATIVE.audit(), -1), None);
        assert_eq!(name(Arch::NATIVE.audit(), 1_000_000), None);
        assert_eq!(name(7, 1), None);
    }

    #[test]
    fn what_is_no_listener_is_an_error_or_over() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        assert_eq!(
            Listener::new(read.try_clone().unwrap()).receive().unwrap(),
            Heard::Nothing
        );
        rustix::io::write(&write, b"x").unwrap();
        assert!(Listener::new(read.try_clone().unwrap()).receive().is_err());
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(write);
        assert_eq!(Listener::new(read).receive().unwrap(), Heard::Over);
    }
}
