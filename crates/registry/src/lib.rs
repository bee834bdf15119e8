//! A Distribution server (OCI Distribution spec v1.1: pull, push, discovery, management, referrers).
//!
//! It serves a [`Directory`] of its own, or the node's store to peers on the LAN, read-only. A request
//! goes through `listen.rs` (connections, TLS, time) and `http/` (who asks, what for, the answer) to
//! `contents`; files are read and written on threads for it.
//!
//! | file | what |
//! | --- | --- |
//! | `listen.rs` | connections: TLS (the crate `tls`), HTTP/1.1 and HTTP/2, time limits, the end |
//! | `route.rs`, `name.rs` | what a URL names; the one gate between clients and file names |
//! | `auth/` | htpasswd and bearer tokens |
//! | `http/` | the endpoints, one file per category of the specification; the pages for people |
//! | `directory/` | a registry on disk, and its garbage collection |
//! | `mirror.rs` | the node's store |
//! | `peers.rs` | what is on its way to the node's store, for peers |
//!
//! Clients are hostile: names are checked by the grammar before anything else, sizes and times are
//! bounded by [`Limits`], and nothing has its digest's name before it was hashed here.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that unwraps fails as it should")
)]

mod auth;
mod contents;
mod directory;
mod error;
mod http;
mod limits;
mod listen;
mod metrics;
mod mirror;
mod name;
mod peers;
mod route;

pub use auth::{AuthOptions, TokenOptions};
pub use directory::{Collected, Directory, Grace};
pub use error::{Error, Result};
pub use limits::Limits;
pub use listen::{Options, Server, What};
pub use peers::{Arrival, Arriving};
pub use tls::{Rules as TlsRules, TlsOptions};
