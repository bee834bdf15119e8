//! The client's side of Kubernetes' streams, as crictl and kubectl have it: it takes the URL that a CRI call
//! gave to whoever serves it, and changes HTTP/1.1 for SPDY/3.1 or a WebSocket.
//!
//! Servers are not trusted with more than the streams: what they send is bounded as it is for clients
//! ([`crate::queue`]), and every step before the stream has a limit.
//!
//! | file | what |
//! | --- | --- |
//! | `dial.rs`, `tls.rs` | the connection and its upgrade |
//! | `remote.rs` | exec and attach |
//! | `ports.rs` | port-forward |

mod dial;
mod ports;
mod remote;
mod tls;

use std::io;
use std::path::PathBuf;

pub use ports::Ports;
pub use remote::{Exit, Stdio, run};

/// How the streams travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// SPDY/3.1, which every CRI runtime speaks.
    Spdy,
    /// WebSocket, of newer ones.
    WebSocket,
}

/// What of TLS is used for `https` URLs. Without an authority and an identity nothing is verified, as with
/// crictl: the URL comes from the runtime's own socket.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The name that the server's certificate must have.
    pub server_name: String,
    /// A PEM file of authorities; the machine's own are not asked.
    pub authority: Option<PathBuf>,
    /// PEM files of the client's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Where a stream is, and how it is come by.
#[derive(Debug, Clone)]
pub struct Target {
    /// What the CRI call gave.
    pub url: String,
    /// How the streams travel.
    pub transport: Transport,
    /// What of TLS is used.
    pub tls: Tls,
}

/// Why there is no stream, or how it broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none that can be come to.
    #[error("the stream's URL {url:?}: {why}")]
    Url {
        /// What the CRI call gave.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers there.
    #[error("connect to the stream at {address}: {source}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the kernel or TLS says.
        source: io::Error,
    },
    /// Certificates and keys that cannot be used.
    #[error("TLS of the stream: {0}")]
    Tls(String),
    /// The server does not upgrade the connection.
    #[error("unable to upgrade connection: {status}: {words}")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// What the server says of it.
        words: String,
    },
    /// The connection, or standard input or output, broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The command could not be run, or ended in no known way.
    #[error("{0}")]
    Command(String),
}

#[cfg(test)]
mod tests;
