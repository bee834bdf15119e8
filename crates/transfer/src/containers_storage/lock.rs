//! The lock files of a store (`images.lock`, `layers.lock`), taken for reading.
//!
//! The store's own tools lock them by fcntl(2); these locks are of the kind that belongs to the open
//! file, so that two readers in this process do not lose each other's. Must never take one for
//! writing, nor make or change such a file.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody writes.
    pub(super) fn shared(file: File) -> io::Result<Lock> {
        let whole = libc::flock {
            l_type: libc::F_RDLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        loop {
            // SAFETY: the descriptor is `file`'s, which is open, and the kernel only reads the
            // structure, which outlives the call.
            match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &whole) } {
                0.. => return Ok(Lock { _file: file }),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}
