//! Moving images between places: registries, image layouts, archives, directories and floe's store, and
//! out of the stores of other tools (containers-transports(5)).
//!
//! ```text
//! Location::parse ──▶ Source::open ─┐
//!                                   ├─▶ copy ──▶ the target's new manifest
//! Location::parse ──▶ Target::open ─┘
//! ```
//!
//! One file per transport, with its reading and its writing half. This crate knows nothing of
//! containers, and must never hold a layer in memory.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that unwraps fails as it should")
)]

mod chunks;
mod compression;
mod containers_storage;
mod contents;
mod convert;
mod copy;
mod dir;
mod docker_archive;
mod document;
mod error;
mod import;
mod layers;
mod layout;
mod list;
#[cfg(test)]
#[path = "../../image/tests/support/fuzz.rs"]
mod mutator;
mod name;
mod peers;
mod recode;
mod registry;
mod sign;
mod source;
mod stored;
mod target;
mod temporary;

pub use containers_storage::StoragePlace;
pub use contents::{Content, contents};
pub use convert::Format;
pub use copy::{Event, Instances, Options, Watch, copy};
pub use docker_archive::{ArchiveWriter, docker_archive_names};
pub use document::Document;
pub use error::{Error, Result};
pub use import::{Import, import};
pub use layers::layers;
pub use list::{Change, List};
pub use name::{ArchiveEntry, Location};
pub use peers::{PORT as PEER_PORT, PeerOptions, Peers, Standing};
pub use sign::Signing;
pub use source::{Access, Source};
pub use target::Target;
pub use temporary::{PrivateDir, set_temporary_dir};
