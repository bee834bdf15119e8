//! Kubernetes' streams: `kubectl exec`, `attach` and `port-forward`, as kubelet and crictl ask a CRI
//! runtime for them. The CRI call gives a URL ([`Urls`]); the client comes to the [`Server`] with it, and
//! changes HTTP/1.1 for SPDY/3.1 or a WebSocket.
//!
//! ```text
//!  Exec ─▶ Urls::exec ─▶ http://127.0.0.1:PORT/exec/TOKEN
//!                                   │ the client, once
//!  Server ─▶ http ─▶ spdy │ websocket ─▶ remote (exec, attach) ─▶ Backend::exec ─▶ Process
//!                                      └▶ forward (ports)      ─▶ Backend::connect
//! ```
//! What runs the process is the [`Backend`]'s; nothing here knows of pods. A client that leaves takes its
//! command along: whatever it had is dropped.
//!
//! | file | what |
//! | --- | --- |
//! | `server.rs`, `http.rs` | connections, and what they ask for |
//! | `token.rs` | the right to one stream |
//! | `spdy/`, `websocket.rs` | the two transports; `queue.rs` bounds what is not read |
//! | `client/` | the other side: who comes with a URL |
//! | `remote.rs`, `process.rs` | a client's streams and a process's |
//! | `forward.rs` | ports |
//! | `activity.rs` | connections that carry nothing |
//! | `fuzz.rs` | what must hold for the bytes of any client |
//!
//! Protocols: k8s.io/streaming and k8s.io/apimachinery/pkg/util/remotecommand.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod activity;
pub mod client;
mod forward;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod http;
#[cfg(test)]
#[path = "../../image/tests/support/fuzz.rs"]
mod mutator;
mod outbox;
mod process;
mod queue;
mod remote;
mod server;
mod spdy;
mod token;
mod websocket;

use tokio::net::TcpStream;

pub use process::{Process, Resize, Sink, Size, Source};
pub use server::{Full, Options, Server, Urls};

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    /// It sends stdin.
    pub stdin: bool,
    /// It gets stdout.
    pub stdout: bool,
    /// It gets stderr; never with a terminal.
    pub stderr: bool,
    /// The process has a terminal, whose size the client sets.
    pub tty: bool,
}

/// A command in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The container's id.
    pub container: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// What the client wants of it.
    pub streams: Streams,
}

/// A container's own streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The container's id.
    pub container: String,
    /// What the client wants of them.
    pub streams: Streams,
}

/// Connections to ports of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForward {
    /// The pod's id.
    pub pod: String,
    /// The ports that were named when it was asked for. Clients with SPDY name them as they go.
    pub ports: Vec<u16>,
}

/// Whoever runs containers. Errors are words for the client.
pub trait Backend: Send + Sync + 'static {
    /// Runs a command; its client is there.
    fn exec(&self, exec: &Exec) -> impl Future<Output = Result<Process, String>> + Send;

    /// Joins a container's streams. The process's exit is the container's.
    fn attach(&self, attach: &Attach) -> impl Future<Output = Result<Process, String>> + Send;

    /// Connects to a TCP port in the pod, on its loopback.
    fn connect(
        &self,
        pod: &str,
        port: u16,
    ) -> impl Future<Output = Result<TcpStream, String>> + Send;
}

/// What a client comes for.
#[derive(Debug)]
enum Request {
    Exec(Exec),
    Attach(Attach),
    PortForward(PortForward),
}

#[cfg(test)]
mod tests;
