//! The network crate.
