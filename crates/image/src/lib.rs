//! What images are made of: their names, digests, documents and platforms.
//!
//! One file per specification chapter. Pure: no I/O but of this machine's architecture, and no
//! network below it. Whom to trust is the crate `trust`, the way to and from registries
//! `distribution`, what is on this machine `store`.
//!
//! Everything that is parsed here comes from strangers. Must never take one document for two things,
//! and never accept a name or digest in more than one spelling: they become file names.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that unwraps fails as it should")
)]

mod artifact;
pub mod config;
mod digest;
mod error;
pub mod manifest;
pub mod platform;
pub mod reference;
mod text;

pub use config::ImageConfig;
pub use digest::{Algorithm, Digest, DigestFlaw, Hasher, Verifier};
pub use error::{Error, ManifestFlaw, Result};
pub use manifest::{AnyManifest, Compression, Descriptor, Index, Manifest, MediaType};
pub use platform::Platform;
pub use reference::{Reference, ReferenceFlaw};
pub use text::printable;
