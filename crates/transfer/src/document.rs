//! Manifests and indexes as they came: the bytes are what has the digest.

use bytes::Bytes;
use image::{AnyManifest, Descriptor, Digest, MediaType};

use crate::error::{Error, Result};

/// The most that a manifest may be, as registries have it.
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// The most that an image config may be.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;

/// A manifest or index.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it is.
    pub media_type: MediaType,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The document, byte for byte.
    pub bytes: Bytes,
}

impl Document {
    /// A document that was made here.
    pub fn new(media_type: MediaType, bytes: impl Into<Bytes>) -> Document {
        let bytes = bytes.into();
        Document {
            digest: Digest::of(&bytes),
            media_type,
            bytes,
        }
    }

    /// Bytes that were asked for by `digest`. Errors when they have another.
    pub(crate) fn checked(
        media_type: MediaType,
        digest: &Digest,
        bytes: Vec<u8>,
    ) -> Result<Document> {
        let mut verifier = digest.verifier();
        verifier.update(&bytes);
        let digest = verifier.finish("manifest")?;
        Ok(Document {
            media_type,
            digest,
            bytes: bytes.into(),
        })
    }

    /// The document, read; its own statement of its type must fit. Errors as [`AnyManifest::parse`].
    pub fn parse(&self) -> Result<AnyManifest> {
        Ok(AnyManifest::parse(
            Some(self.media_type.as_str()),
            &self.bytes,
        )?)
    }

    /// A document whose type only its own bytes tell.
    pub(crate) fn untyped(bytes: Vec<u8>) -> Result<Document> {
        let media_type = AnyManifest::parse(None, &bytes)?.media_type();
        Ok(Document::new(media_type, bytes))
    }

    /// The pointer to it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(
            self.media_type.clone(),
            self.digest.clone(),
            self.bytes.len() as u64,
        )
    }

    pub(crate) fn of<T: serde::Serialize>(media_type: MediaType, value: &T) -> Result<Document> {
        let bytes = serde_json::to_vec(value).map_err(Error::json(media_type.to_string()))?;
        Ok(Document::new(media_type, bytes))
    }
}
