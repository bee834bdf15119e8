//! Container images outside the store: their names, documents, and the way to and from a registry.
//!
//! To pull: read [`Registries`], [`AuthFiles`] and [`Policy`]; give the name a meaning with
//! [`Registries::candidates`]; ask what [`Policy::demands`]; get the manifest by [`Client::image`] and
//! let [`Client::admit`] hold it against these demands, which nothing else does; then [`Client::blob`]
//! for each layer.
//!
//! One file per specification chapter. The pure half ([`Digest`], [`Reference`], [`manifest`],
//! [`platform`], [`config`]) does no I/O and is what the other crates build on.
//!
//! This crate never writes below the store's root, never unpacks a layer, and never trusts a byte
//! whose digest it has not computed itself.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that unwraps fails as it should")
)]

pub mod auth;
mod client;
pub mod config;
mod digest;
mod error;
pub mod manifest;
#[cfg(test)]
#[path = "../tests/support/fuzz.rs"]
mod mutator;
pub mod platform;
pub mod policy;
mod progress;
mod reference;
pub mod registries;
pub mod registries_d;
pub mod signature;
mod strict_json;
mod text;

pub use auth::{AuthFiles, Credentials};
#[cfg(any(test, feature = "fuzz"))]
pub use client::fuzz;
pub use client::{
    BlobBody, BlobContent, BlobStream, Client, ClientConfig, Fetched, ImageManifest, Offer, Opened,
    Proxies, Retry, Warnings, show_warnings,
};
pub use config::ImageConfig;
pub use digest::{Algorithm, Digest, DigestFlaw, Hasher, Verifier};
pub use error::{At, Attempt, Error, ManifestFlaw, ProtocolFlaw, RedirectFlaw, Result};
pub use manifest::{AnyManifest, Compression, Descriptor, Index, Manifest, MediaType};
pub use platform::Platform;
pub use policy::{Demands, Policy};
pub use progress::{BlobStep, BlobWatch};
pub use reference::{Reference, ReferenceFlaw};
pub use registries::{Registries, RegistriesPaths, Source};
pub use registries_d::RegistriesD;
pub use signature::{Signature, SignatureFlaw};
pub use text::printable;
