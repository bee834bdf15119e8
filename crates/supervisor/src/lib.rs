//! The supervisor crate.
