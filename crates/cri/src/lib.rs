//! The Kubernetes Container Runtime Interface v1 of Kubernetes 1.37 (gRPC package `runtime.v1`):
//! its messages, and a client and a server for each of its two services.
//!
//! Messages, clients and servers are generated at build time from `proto/runtime/v1/api.proto`, which
//! is the place to read what each message means. Fields of requests that are not there, as a newer
//! kubelet may send, are told once in the log (`fields.rs`). No other behaviour belongs here: what an
//! RPC does is in the crate `server`, what a pod is in the crate `engine`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use cri::runtime_service_client::RuntimeServiceClient;
//!
//! let mut client = RuntimeServiceClient::connect("unix:///run/floe/floe.sock").await?;
//! let version = client.version(cri::VersionRequest::default()).await?.into_inner();
//! println!("{} {}", version.runtime_name, version.runtime_version);
//! # Ok(())
//! # }
//! ```

mod codec;
mod fields;

mod generated {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::unwrap_used,
        reason = "generated: fields whose name says it all have no comment in the schema"
    )]

    tonic::include_proto!("runtime.v1");
}

use std::fmt;

pub use generated::*;

/// The largest message, in bytes, that either side sends or accepts: 80 MiB. gRPC's own limit of
/// 4 MiB is too small for the output of an exec and for the lists of a full node.
pub const MAX_MESSAGE: usize = 80 * 1024 * 1024;

/// The word that `VersionResponse::runtime_api_version` must be.
pub const API_VERSION: &str = "v1";

/// The schema itself: a `google.protobuf.FileDescriptorSet`, without comments.
pub const SCHEMA: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));

impl fmt::Debug for AuthConfig {
    /// Whose credentials these are, and nothing that could be used.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("server_address", &self.server_address)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
