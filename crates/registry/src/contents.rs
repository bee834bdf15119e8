//! What a registry serves, wherever it lies: its own directory, or the node's store.
//!
//! Life of an answer: the name is resolved, the bytes are opened, and from then on they stay
//! readable whatever is deleted meanwhile. All calls block; the server makes them on threads for it.

use std::fs::File;

use image::{Descriptor, Digest};

use crate::error::Result;
use crate::name::{Name, Target};

/// A manifest with its bytes.
#[derive(Debug, Clone)]
pub(crate) struct StoredManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// The readable half of a registry.
pub(crate) trait Contents: Send + Sync {
    /// All repositories, sorted by byte.
    fn repositories(&self) -> Result<Vec<String>>;

    /// All tags of a repository, sorted by byte. Errors with `NameUnknown`.
    fn tags(&self, name: &Name) -> Result<Vec<String>>;

    /// A manifest. Errors with `ManifestUnknown` or `NameUnknown`.
    fn manifest(&self, name: &Name, target: &Target) -> Result<StoredManifest>;

    /// A blob, opened, and its size. Errors with `BlobUnknown`.
    fn blob(&self, name: &Name, digest: &Digest) -> Result<(File, u64)>;

    /// A blob that no repository has yet, opened, and its size. Errors with `BlobUnknown`.
    fn loose_blob(&self, name: &Name, digest: &Digest) -> Result<(File, u64)> {
        self.blob(name, digest)
    }

    /// Descriptors of all that refers to a manifest, which need not exist; sorted by digest.
    fn referrers(&self, name: &Name, digest: &Digest) -> Result<Vec<Descriptor>>;
}
