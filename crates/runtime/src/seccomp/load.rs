//! Loading a filter: seccomp(2) with SECCOMP_SET_MODE_FILTER. The only unsafe code of the module.
//!
//! Allocates nothing when it succeeds, and does not set no_new_privs: whether a container has it
//! is the specification's decision, and with CAP_SYS_ADMIN it is not needed.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::{Error, Filter};

/// SECCOMP_FILTER_FLAG_TSYNC.
pub(super) const TSYNC: u64 = 1;
/// SECCOMP_FILTER_FLAG_LOG.
pub(super) const LOG: u64 = 1 << 1;
/// SECCOMP_FILTER_FLAG_SPEC_ALLOW.
pub(super) const SPEC_ALLOW: u64 = 1 << 2;
/// SECCOMP_FILTER_FLAG_NEW_LISTENER.
pub(super) const NEW_LISTENER: u64 = 1 << 3;
/// SECCOMP_FILTER_FLAG_TSYNC_ESRCH.
pub(super) const TSYNC_ESRCH: u64 = 1 << 4;
/// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
pub(super) const WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// SECCOMP_SET_MODE_FILTER.
const SET_MODE_FILTER: libc::c_ulong = 1;

impl Filter {
    /// Installs the filter in the calling thread (in all threads with TSYNC). From here on it
    /// applies, so this is the last thing before execve(2).
    ///
    /// Needs CAP_SYS_ADMIN or no_new_privs. Returns the listener if the profile notifies an agent.
    pub fn load(&self) -> Result<Option<OwnedFd>, Error> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.program.len()).map_err(|_| self.refused(Errno::INVAL))?,
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: `program` points to `len` initialised sock_filter values owned by self, which
        // outlive the call; the kernel copies them and writes to none, despite the pointer's type.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                SET_MODE_FILTER,
                self.flags,
                &raw const program,
            )
        };
        match i32::try_from(result) {
            Ok(-1) => Err(self.refused(last_errno())),
            Ok(fd) if self.notifies() => Ok(Some(own(fd))),
            Ok(0) => Ok(None),
            Ok(thread) => Err(Error::OtherThread { thread }),
            Err(_) => Err(self.refused(Errno::INVAL)),
        }
    }

    fn refused(&self, errno: Errno) -> Error {
        Error::Load {
            length: self.program.len(),
            flags: self.flags,
            errno,
        }
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: seccomp(2) with NEW_LISTENER returned this descriptor just now; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
