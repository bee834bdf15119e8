//! What a client may cost.

use std::time::Duration;

/// Limits of a server. Each has a default that suits a machine room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest manifest in bytes; the specification asks for at least 4 MiB.
    pub manifest: u64,
    /// The largest blob in bytes.
    pub blob: u64,
    /// Uploads that may be open at once.
    pub uploads: usize,
    /// Those of one client: a user, or else an address.
    pub uploads_of_one: usize,
    /// How long an upload may lie untouched before it is forgotten.
    pub upload_idle: Duration,
    /// How long a client may be silent in the middle of a request or an answer.
    pub idle: Duration,
    /// Connections at once; for one more the one that has been idle the longest is closed.
    pub connections: usize,
    /// Bytes of all headers of a request.
    pub headers: usize,
    /// How long requests that run when the server ends may go on.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            manifest: 4 << 20,
            blob: 64 << 30,
            uploads: 256,
            uploads_of_one: 64,
            upload_idle: Duration::from_secs(3600),
            idle: Duration::from_secs(60),
            connections: 1024,
            headers: 32 << 10,
            grace: Duration::from_secs(10),
        }
    }
}
