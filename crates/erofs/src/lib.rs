//! EROFS images that hold names and attributes, and point into another file for content.
//!
//! ```text
//!  Tree ──write──▶ image: super block, device table, inodes, directories
//!                         │
//!                         └─ a file's data: extents of device 1, a file in blocks of 512 bytes (a tar archive)
//! ```
//! A [`Tree`] is a file system in memory, which is built name by name; [`write()`] lays it out. The image is mounted
//! with the other file as its `device=`, and the kernel reads both in place. Deterministic: the same tree gives the
//! same bytes.
//!
//! Knows no archives and no layers, and must never read what it points to. The format is the kernel's
//! (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h); what is used of it is what Linux 6.12 reads from
//! a file: extended inodes, chunk-based data with indexes, plain and inline data, inline xattrs.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod directory;
mod error;
mod format;
mod layout;
mod tree;
mod write;
mod xattr;

pub use error::{Error, Result};
pub use tree::{Attributes, Content, Extent, Id, Tree, Xattr};
pub use write::{Summary, write};
pub use xattr::fits;

/// The size of a block of the image, and the unit in which content is pointed to: an archive's.
pub const BLOCK: u64 = 512;
