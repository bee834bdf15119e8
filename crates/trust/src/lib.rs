//! Which images may be used: policies, and the signatures that meet them.
//!
//! Read a [`Policy`]; ask what it [`Demands`] of an image; [`Demands::verify`] holds the image's
//! manifest and its signatures against that, which nothing else does. [`RegistriesD`] says where
//! signatures lie, [`signature`] reads, verifies and makes them.
//!
//! Nothing here asks a registry: who has an image brings its signatures. Must never take a
//! signature's word for anything before it is verified, and never turn what is not understood into
//! permission.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that unwraps fails as it should")
)]

mod error;
pub mod policy;
pub mod registries_d;
pub mod signature;
mod strict_json;

pub use error::{Error, Result};
pub use policy::{Demands, Policy};
pub use registries_d::RegistriesD;
pub use signature::{Signature, SignatureFlaw};
