//! AF_NETLINK sockets: open with the options that make the kernel's errors readable. netlink(7).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, connect, socket_with, sockopt,
};

/// Answers wait in the socket's queue while a batch is processed; room for those of a few thousand
/// messages.
const RECEIVE_BUFFER: usize = 2 << 20;

/// Opens a netlink socket in the calling thread's network namespace, where it stays. The default
/// protocol, number 0, is NETLINK_ROUTE.
pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let fd = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    // The kernel refuses to queue what others than the peer of a connected socket send: a container
    // with CAP_NET_ADMIN in its network namespace could answer in the kernel's place.
    connect(&fd, &SocketAddrNetlink::new(0, 0))?;
    // A smaller queue only limits the size of a batch, and too large a batch is reported (ENOBUFS).
    if sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER)?;
    }
    for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK] {
        switch_on(&fd, option)?;
    }
    Ok(fd)
}

/// setsockopt(SOL_NETLINK, option, 1).
fn switch_on(fd: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the fd is open for the duration of the borrow, and the kernel reads exactly
    // size_of(c_int) bytes from `on`, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
