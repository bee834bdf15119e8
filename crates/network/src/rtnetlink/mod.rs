//! Links, addresses and routes over netlink, and sockets kept open for the next request
//! (rtnetlink(7)). The client itself is the crate `netlink`.

pub(crate) mod address;
pub(crate) mod link;
pub(crate) mod pool;
pub(crate) mod route;

use std::os::fd::AsFd;

use netlink::Socket;

pub(crate) use pool::{Borrowed, Pool};

use crate::{Error, Result, sys};

/// Makes a change of a link's carrier take effect now. The kernel leaves that to a worker, and
/// until it has run, packets are lost: the first one's loss costs the pod a second.
pub(crate) fn settle(socket: &Socket, name: &str) -> Result<()> {
    match sys::ethtool::has_carrier(socket.as_fd(), name) {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Netlink(netlink::Error::Refused {
            operation: "settle link",
            object: name.to_owned(),
            source,
            detail: None,
        })),
    }
}
