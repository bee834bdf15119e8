//! What the store takes on disk, from counters: asked for every few seconds, so never by a walk
//! or a sum.

use std::os::fd::BorrowedFd;

use crate::db::{state, unsigned};
use crate::error::Result;
use crate::{Store, tree};

/// Disk space and file system objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Files, directories and other inodes.
    pub inodes: u64,
}

impl Usage {
    /// What a directory holds, by a walk over it that follows no link.
    ///
    /// # Errors
    /// A directory in it that cannot be read.
    pub fn of_directory(top: BorrowedFd<'_>) -> std::io::Result<Usage> {
        Ok(tree::usage(top)?)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

impl Store {
    /// What all blobs and unpacked layers take; writable layers are counted by
    /// [`writable_layer_usage`](Store::writable_layer_usage).
    pub fn usage(&self) -> Result<Usage> {
        self.db().read(|db| {
            Ok(Usage {
                bytes: unsigned(state(db, "bytes")?),
                inodes: unsigned(state(db, "inodes")?),
            })
        })
    }
}
