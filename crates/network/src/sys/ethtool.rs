//! Asking a link for its carrier. ethtool(7) by ioctl(2): its netlink form has no such side effect.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

const ETHTOOL_GLINK: u32 = 0x0a;
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether the link has a carrier. `socket` says in which network namespace it is; any will do. The
/// kernel first does what it would otherwise do later for a change of the carrier: it starts the
/// link's queue, and tells the bridge.
pub(crate) fn has_carrier(socket: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    let mut value = Value {
        command: ETHTOOL_GLINK,
        data: 0,
    };
    // SAFETY: ifreq is a C struct of numbers, bytes and pointers, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the name ends with a zero byte, as it is shorter than its zeroed array; ifru_data points
    // to an ethtool_value, which is what ETHTOOL_GLINK reads and writes, alive until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value.data != 0)
    }
}
