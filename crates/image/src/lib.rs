//! The image crate.
