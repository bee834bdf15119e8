//! The way to and from registries (OCI Distribution specification): where an image really comes from,
//! who one is there, and the transfer of its documents and blobs.
//!
//! To pull: read [`Registries`], [`AuthFiles`] and a [`Policy`](trust::Policy); give the name a meaning
//! with [`Registries::candidates`]; ask what [`Policy::demands`](trust::Policy::demands); get the
//! manifest or index by [`Client::manifest`] and what it points to by [`Client::manifest_beside`], and hold
//! each, with its [`Client::signatures`], against these demands, which nothing here does; then
//! [`Client::blob`] for each layer. The crate `transfer` does it all.
//!
//! This crate never writes below the store's root, never unpacks a layer, and never trusts a byte
//! whose digest it has not computed itself.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that unwraps fails as it should")
)]

pub mod auth;
mod client;
mod error;
#[cfg(test)]
#[path = "../../image/tests/support/fuzz.rs"]
mod mutator;
mod progress;
pub mod registries;

pub use auth::{AuthFiles, Credentials};
#[cfg(any(test, feature = "fuzz"))]
pub use client::fuzz;
pub use client::{
    BlobBody, BlobContent, BlobStream, Client, ClientConfig, Fetched, Offer, Opened, Proxies,
    Retry, TlsDetails, Warnings, show_warnings,
};
pub use error::{At, Attempt, Error, ProtocolFlaw, RedirectFlaw, Result};
pub use progress::{BlobStep, BlobWatch};
pub use registries::{Registries, RegistriesPaths, Source};
