//! The node's own store, served to peers on the LAN.
//!
//! Repositories are the store's, with their registry: as first part of the path, or beside it as
//! `ns` (Distribution spec, "Registry Proxying"), as containerd asks its mirrors. Must never write:
//! it has no way to.

use std::fs::File;

use image::{AnyManifest, Descriptor, Digest};
use store::Store;

use crate::contents::{Contents, StoredManifest};
use crate::error::{Error, Result};
use crate::name::{Name, Target};

/// More than that is no manifest.
const LARGEST_MANIFEST: u64 = 4 << 20;

/// A store to be served.
#[derive(Debug)]
pub(crate) struct Mirror(pub(crate) Store);

impl Mirror {
    fn has(&self, name: &Name, digest: &Digest) -> Result<bool> {
        Ok(self.0.repository_has(&name.reference()?, digest)?)
    }

    fn resolve(&self, name: &Name, target: &Target) -> Result<Option<Digest>> {
        match target {
            Target::Digest(digest) => Ok(self.has(name, digest)?.then(|| digest.clone())),
            Target::Tag(tag) => {
                let reference = name.reference()?.with_tag(tag);
                let reference = reference.map_err(|source| Error::TagInvalid(Box::new(source)))?;
                Ok(self.0.tagged_manifest(&reference)?)
            }
        }
    }
}

impl Contents for Mirror {
    fn repositories(&self) -> Result<Vec<String>> {
        Ok(self.0.repositories()?)
    }

    fn tags(&self, name: &Name) -> Result<Vec<String>> {
        let tags = self.0.repository_tags(&name.reference()?)?;
        tags.ok_or_else(|| Error::NameUnknown(name.to_string()))
    }

    fn manifest(&self, name: &Name, target: &Target) -> Result<StoredManifest> {
        let unknown = || Error::ManifestUnknown {
            name: name.to_string(),
            target: target.to_string(),
        };
        let digest = self.resolve(name, target)?.ok_or_else(unknown)?;
        let bytes = match self.0.read_blob(&digest, LARGEST_MANIFEST) {
            Ok(bytes) => bytes.ok_or_else(unknown)?,
            // A layer, by its digest.
            Err(store::Error::TooLarge { .. }) => return Err(unknown()),
            Err(e) => return Err(e.into()),
        };
        // A config or layer is no manifest, though the repository has it.
        let parsed = AnyManifest::parse(None, &bytes).map_err(|_| unknown())?;
        Ok(StoredManifest {
            digest,
            media_type: parsed.media_type().to_string(),
            bytes,
        })
    }

    fn blob(&self, name: &Name, digest: &Digest) -> Result<(File, u64)> {
        let opened = match self.has(name, digest)? {
            true => self.0.open_blob(digest)?,
            false => None,
        };
        opened.ok_or_else(|| Error::BlobUnknown {
            name: name.to_string(),
            digest: digest.clone(),
        })
    }

    fn loose_blob(&self, name: &Name, digest: &Digest) -> Result<(File, u64)> {
        let opened = self.0.open_blob(digest)?;
        opened.ok_or_else(|| Error::BlobUnknown {
            name: name.to_string(),
            digest: digest.clone(),
        })
    }

    /// The store holds images, not what refers to them.
    fn referrers(&self, _: &Name, _: &Digest) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }
}
