//! A flow of bytes to a TCP port in a pod that has a network namespace on this node: a socket of that
//! namespace, connected to its loopback address as `localhost` is, IPv4 first. What listens on the pod's address
//! alone is not reached, as with every engine of Kubernetes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use network::TcpSockets;
use tokio::net::TcpSocket;

use super::{Pending, PodRef};
use crate::error::{Error, Result};

/// How long whoever listens may take to accept: longer is a queue of connections that nobody takes.
const ACCEPTS: Duration = Duration::from_secs(30);

/// Connects; dropping the answer gives up.
pub(super) fn connect(pod: PodRef<'_>, netns: &Path, port: u16) -> Result<Pending<OwnedFd>> {
    if port == 0 {
        return Err(Error::invalid("port", "must not be 0"));
    }
    let sockets = TcpSockets::inside(netns).map_err(|source| Error::Network {
        pod: pod.id.to_owned(),
        source: Box::new(source),
    });
    let TcpSockets { v4, v6 } = sockets?;
    let place = format!("port {port} of pod {}", pod.id);
    let loopback = [
        (Some(v4), IpAddr::from(Ipv4Addr::LOCALHOST)),
        (v6, Ipv6Addr::LOCALHOST.into()),
    ];
    Ok(Box::pin(async move {
        let connect = async {
            let mut first = None;
            for (socket, address) in loopback {
                let Some(socket) = socket else { continue };
                let socket = TcpSocket::from_std_stream(socket);
                match socket.connect(SocketAddr::new(address, port)).await {
                    Ok(stream) => return stream.into_std(),
                    Err(error) => drop(first.get_or_insert(error)),
                }
            }
            Err(first.unwrap_or_else(|| std::io::ErrorKind::Unsupported.into()))
        };
        let connected = match tokio::time::timeout(ACCEPTS, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        connected
            .map(OwnedFd::from)
            .map_err(Error::io("connect to", place))
    }))
}
