//! Sockets that belong to a pod's network namespace, whoever uses them.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sys::netns::Netns;
use crate::{Error, Result};

/// TCP sockets of one network namespace, not connected, and such that no call on them waits.
#[derive(Debug)]
pub struct TcpSockets {
    /// For IPv4.
    pub v4: TcpStream,
    /// For IPv6, if the kernel has that.
    pub v6: Option<TcpStream>,
}

impl TcpSockets {
    /// Of the network namespace at `netns`: whatever they connect to is in there, from any thread.
    ///
    /// # Errors
    /// [`Error::Netns`] when the namespace is gone, or has no socket to give.
    pub fn inside(netns: &Path) -> Result<Self> {
        let netns = Netns::open(netns)?;
        let made = netns.run(|| {
            let v6 = match tcp(AddressFamily::INET6) {
                Err(Errno::AFNOSUPPORT) => None,
                made => Some(made?),
            };
            Ok((tcp(AddressFamily::INET)?, v6))
        })?;
        let (v4, v6) = made.map_err(|errno: Errno| Error::Netns {
            path: netns.path().to_owned(),
            operation: "make a socket in",
            source: errno.into(),
        })?;
        Ok(Self {
            v4: v4.into(),
            v6: v6.map(TcpStream::from),
        })
    }
}

fn tcp(family: AddressFamily) -> std::result::Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None)
}
