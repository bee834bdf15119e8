//! The way to the servers that know all other names: sockets of the host's network namespace, as it is the host's
//! servers that are asked. The process is in that namespace only while it makes a socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The port of DNS.
const PORT: u16 = 53;

/// The network namespaces that sockets are made in.
pub(super) struct Namespaces {
    /// The host's.
    pub(super) host: OwnedFd,
    /// The pod's, which this process is in.
    pub(super) own: OwnedFd,
}

impl Namespaces {
    /// Does something in the host's namespace.
    fn on_the_host<T>(&self, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let enter =
            |to: &OwnedFd| move_into_link_name_space(to.as_fd(), Some(LinkNameSpaceType::Network));
        enter(&self.host)?;
        let made = make();
        if let Err(error) = enter(&self.own) {
            // It must never go on in a namespace that is not the pod's.
            eprintln!("back into the pod's network: {error}");
            std::process::abort();
        }
        made
    }

    /// A socket that only `server` answers, at a port that the kernel chose at random.
    pub(super) fn udp(&self, server: IpAddr) -> io::Result<UdpSocket> {
        let own: SocketAddr = match server {
            IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        self.on_the_host(|| {
            let socket = UdpSocket::bind(own)?;
            socket.set_nonblocking(true)?;
            socket.connect((server, PORT))?;
            Ok(socket)
        })
    }

    /// A connection that is being made.
    pub(super) fn tcp(&self, server: IpAddr) -> io::Result<OwnedFd> {
        let family = match server {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        self.on_the_host(|| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
            match rustix::net::connect(&socket, &SocketAddr::new(server, PORT)) {
                Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
                Err(error) => Err(error.into()),
            }
        })
    }
}
