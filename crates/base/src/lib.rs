//! What several crates do with a Linux host and none of them owns: files replaced at once and read
//! within bounds, processes told apart, locks with a limit, sockets with a name, and the words for times, signals and sizes.
//!
//! A leaf: it knows of no pod and no image, depends on libc and rustix alone, and is small, for
//! `floe-runtime` is. Errors are the system's own: callers say what they were about.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that unwraps fails as it should")
)]

pub mod child;
pub mod clone;
pub mod file;
pub mod lock;
pub mod mountinfo;
pub mod process;
pub mod rooted;
pub mod signal;
pub mod size;
pub mod socket;
pub mod time;
