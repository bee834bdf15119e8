//! The listener of a seccomp filter (seccomp_unotify(2)).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// `SECCOMP_IOCTL_NOTIF_RECV`: `_IOWR('!', 0, struct seccomp_notif)`.
const RECEIVE: u64 = request(0, size_of::<libc::seccomp_notif>());
/// `SECCOMP_IOCTL_NOTIF_SEND`: `_IOWR('!', 1, struct seccomp_notif_resp)`.
const SEND: u64 = request(1, size_of::<libc::seccomp_notif_resp>());

const fn request(number: u64, size: usize) -> u64 {
    3 << 30 | (size as u64) << 16 | (b'!' as u64) << 8 | number
}

/// A call that waits for its decision.
pub(crate) struct SeccompCall {
    /// By which it is answered.
    pub(crate) id: u64,
    /// `AUDIT_ARCH_*`
    pub(crate) arch: u32,
    /// Its number there.
    pub(crate) number: i32,
}

/// Takes a call. Waits unless one is there.
pub(crate) fn seccomp_receive(listener: impl AsFd) -> Result<SeccompCall, Errno> {
    // The kernel wants it to be zero.
    let mut call = MaybeUninit::<libc::seccomp_notif>::zeroed();
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one `seccomp_notif` where the pointer leads, and keeps nothing of it.
    let done = unsafe { libc::ioctl(fd, RECEIVE as _, call.as_mut_ptr()) };
    if done < 0 {
        return Err(last_error());
    }
    // SAFETY: all zeros is a value of it, and the kernel has written a whole one.
    let call = unsafe { call.assume_init() };
    Ok(SeccompCall {
        id: call.id,
        arch: call.data.arch,
        number: call.data.nr,
    })
}

/// Has a call fail.
pub(crate) fn seccomp_refuse(listener: impl AsFd, id: u64, errno: Errno) -> Result<(), Errno> {
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: -errno.raw_os_error(),
        flags: 0,
    };
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one `seccomp_notif_resp` where the pointer leads, and keeps nothing of it.
    let done = unsafe { libc::ioctl(fd, SEND as _, &raw mut answer) };
    match done < 0 {
        true => Err(last_error()),
        false => Ok(()),
    }
}

fn last_error() -> Errno {
    let number = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(number.unwrap_or(libc::EIO))
}
