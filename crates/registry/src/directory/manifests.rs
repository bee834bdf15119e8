//! Manifests, tags and referrers of a repository (Distribution spec, "Pushing Manifests", "Listing
//! Referrers", "Deleting Manifests").
//!
//! A manifest's record is written before the tag that needs it and removed after. Must never record a
//! manifest whose content the repository does not have, unless it was opened as a sparse one.

use image::{AnyManifest, Descriptor, Digest, Manifest, MediaType};

use super::{Directory, Repository, write};
use crate::contents::{Contents, StoredManifest};
use crate::error::{Error, Result};
use crate::name::{Name, Target};

/// A manifest to be stored, and what the client says of it.
#[derive(Debug)]
pub(crate) struct NewManifest {
    pub(crate) media_type: Option<String>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) target: Target,
    /// Tags beside the target.
    pub(crate) tags: Vec<String>,
}

/// What was stored.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) digest: Digest,
    pub(crate) subject: Option<Digest>,
}

impl Directory {
    /// Stores a manifest under its digest and tags.
    ///
    /// Errors with `ManifestInvalid`, `DigestMismatch`, or `ManifestBlobUnknown`.
    pub(crate) fn put_manifest(&self, name: &Name, new: &NewManifest) -> Result<Accepted> {
        let parsed = AnyManifest::parse(new.media_type.as_deref(), &new.bytes)
            .map_err(|e| Error::ManifestInvalid(e.to_string()))?;
        let digest = match &new.target {
            Target::Digest(expected) => {
                let actual = Digest::of_with(expected.algorithm(), &new.bytes);
                if actual != *expected {
                    let expected = expected.clone();
                    return Err(Error::DigestMismatch { expected, actual });
                }
                actual
            }
            Target::Tag(_) => Digest::of(&new.bytes),
        };
        let repository = self.repository(name);
        let _adding = self.adding()?;
        if !repository.exists()? {
            // What is refused makes no repository.
            self.check_parts(name, &repository, &parsed)?;
        }
        write::directory(&repository.0)?;
        let _changing = repository.lock()?;
        self.check_parts(name, &repository, &parsed)?;
        write::file(&self.tmp(), &self.blob_path(&digest), &new.bytes)?;
        let subject = subject(&parsed).map(|subject| subject.digest.clone());
        if let Some(subject) = &subject {
            self.refer(&repository, subject, &parsed, &digest, new.bytes.len())?;
        }
        let record = repository.manifest(&digest);
        let media_type = parsed.media_type();
        write::file(&self.tmp(), &record, media_type.as_str().as_bytes())?;
        let own = match &new.target {
            Target::Tag(tag) => Some(tag),
            Target::Digest(_) => None,
        };
        for tag in own.into_iter().chain(&new.tags) {
            let path = repository.tags().join(tag);
            write::file(&self.tmp(), &path, digest.to_string().as_bytes())?;
        }
        Ok(Accepted { digest, subject })
    }

    /// All that a manifest is made of must be here, unless the registry is sparse, and as large as it
    /// says.
    fn check_parts(
        &self,
        name: &Name,
        repository: &Repository,
        parsed: &AnyManifest,
    ) -> Result<()> {
        let mut missing = Vec::new();
        for part in parts(parsed) {
            let size = match parsed {
                AnyManifest::Index(_) => match write::read(&repository.manifest(&part.digest))? {
                    Some(_) => self.content_size(&part.digest)?,
                    None => None,
                },
                AnyManifest::Manifest(_) => self.blob_size(repository, &part.digest)?,
            };
            match size {
                None => missing.push(part.digest.clone()),
                Some(size) if size != part.size => {
                    let (digest, stated) = (&part.digest, part.size);
                    return Err(Error::ManifestInvalid(format!(
                        "it says that {digest} has {stated} bytes, but it has {size}"
                    )));
                }
                Some(_) => {}
            }
        }
        if missing.is_empty() || self.sparse {
            return Ok(());
        }
        // An answer needs not name thousands.
        missing.truncate(100);
        Err(Error::ManifestBlobUnknown {
            name: name.to_string(),
            missing,
        })
    }

    /// Writes down that a manifest refers to another.
    fn refer(
        &self,
        repository: &Repository,
        subject: &Digest,
        parsed: &AnyManifest,
        digest: &Digest,
        size: usize,
    ) -> Result<()> {
        let mut descriptor = Descriptor::new(parsed.media_type(), digest.clone(), size as u64);
        (descriptor.artifact_type, descriptor.annotations) = match parsed {
            AnyManifest::Manifest(manifest) => {
                (Some(artifact_type(manifest)), manifest.annotations.clone())
            }
            AnyManifest::Index(index) => (
                index.artifact_type.clone().filter(|t| !t.is_empty()),
                index.annotations.clone(),
            ),
        };
        let path = repository.referrers(subject).join(referrer(digest));
        let bytes = serde_json::to_vec(&descriptor).map_err(|e| Error::Damaged {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        write::file(&self.tmp(), &path, &bytes)
    }

    /// Takes a tag away. Errors with `ManifestUnknown`.
    pub(crate) fn delete_tag(&self, name: &Name, tag: &str) -> Result<()> {
        let repository = self.existing(name)?;
        let _changing = repository.lock()?;
        if write::remove(&repository.tags().join(tag))? {
            return Ok(());
        }
        Err(unknown(name, tag))
    }

    /// Takes a manifest away, with all tags that stand for it. Errors with `ManifestUnknown`.
    pub(crate) fn delete_manifest(&self, name: &Name, digest: &Digest) -> Result<()> {
        let repository = self.existing(name)?;
        let _adding = self.adding()?;
        let _changing = repository.lock()?;
        let record = repository.manifest(digest);
        let Some(media_type) = write::read(&record)? else {
            return Err(unknown(name, &digest.to_string()));
        };
        let text = digest.to_string();
        for tag in write::names(&repository.tags())? {
            let path = repository.tags().join(tag);
            if write::read(&path)?.is_some_and(|found| found == text.as_bytes()) {
                write::remove(&path)?;
            }
        }
        if let Some(bytes) = write::read(&self.blob_path(digest))? {
            let media_type = String::from_utf8_lossy(&media_type);
            let parsed = AnyManifest::parse(Some(&media_type), &bytes);
            if let Some(subject) = parsed.ok().as_ref().and_then(subject) {
                let referrers = repository.referrers(&subject.digest);
                write::remove(&referrers.join(referrer(digest)))?;
            }
        }
        write::remove(&record)?;
        Ok(())
    }

    /// What a tag stands for.
    fn tagged(&self, repository: &Repository, tag: &str) -> Result<Option<Digest>> {
        let path = repository.tags().join(tag);
        let Some(bytes) = write::read(&path)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        Digest::parse(&text).map(Some).map_err(|e| Error::Damaged {
            path,
            reason: e.to_string(),
        })
    }
}

impl Contents for Directory {
    fn repositories(&self) -> Result<Vec<String>> {
        let names = write::names(&self.repositories_path())?;
        let mut names: Vec<_> = names.iter().map(|name| name.replace('+', "/")).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn tags(&self, name: &Name) -> Result<Vec<String>> {
        let mut tags = write::names(&self.existing(name)?.tags())?;
        tags.sort_unstable();
        Ok(tags)
    }

    fn manifest(&self, name: &Name, target: &Target) -> Result<StoredManifest> {
        let repository = self.existing(name)?;
        let digest = match target {
            Target::Digest(digest) => digest.clone(),
            Target::Tag(tag) => self
                .tagged(&repository, tag)?
                .ok_or_else(|| unknown(name, tag))?,
        };
        let Some(media_type) = write::read(&repository.manifest(&digest))? else {
            return Err(unknown(name, &target.to_string()));
        };
        let path = self.blob_path(&digest);
        let bytes = write::read(&path)?.ok_or_else(|| unknown(name, &target.to_string()))?;
        if !digest.matches(&bytes) {
            let reason = "the content does not have the digest that is its name".to_owned();
            return Err(Error::Damaged { path, reason });
        }
        Ok(StoredManifest {
            digest,
            media_type: String::from_utf8_lossy(&media_type).into_owned(),
            bytes,
        })
    }

    fn blob(&self, name: &Name, digest: &Digest) -> Result<(std::fs::File, u64)> {
        self.open_blob(name, digest)
    }

    fn referrers(&self, name: &Name, digest: &Digest) -> Result<Vec<Descriptor>> {
        let dir = self.repository(name).referrers(digest);
        let mut names = write::names(&dir)?;
        names.sort_unstable();
        let mut found = Vec::new();
        for name in names {
            let path = dir.join(name);
            // Deleted in between.
            let Some(bytes) = write::read(&path)? else {
                continue;
            };
            found.push(serde_json::from_slice(&bytes).map_err(|e| Error::Damaged {
                path,
                reason: e.to_string(),
            })?);
        }
        Ok(found)
    }
}

/// What a manifest is made of and must be here: all but its subject and layers that lie elsewhere.
pub(super) fn parts(parsed: &AnyManifest) -> Vec<&Descriptor> {
    match parsed {
        AnyManifest::Index(index) => index.manifests.iter().collect(),
        AnyManifest::Manifest(manifest) => {
            let layers = manifest.layers.iter().filter(|layer| !is_foreign(layer));
            std::iter::once(&manifest.config).chain(layers).collect()
        }
    }
}

/// What a manifest refers to.
pub(super) fn subject(parsed: &AnyManifest) -> Option<&Descriptor> {
    match parsed {
        AnyManifest::Manifest(manifest) => manifest.subject.as_ref(),
        AnyManifest::Index(index) => index.subject.as_ref(),
    }
}

fn is_foreign(layer: &Descriptor) -> bool {
    use MediaType::*;
    matches!(
        layer.media_type,
        OciForeignLayer
            | OciForeignLayerGzip
            | OciForeignLayerZstd
            | DockerForeignLayer
            | DockerForeignLayerGzip
    )
}

fn artifact_type(manifest: &Manifest) -> String {
    let own = manifest.artifact_type.as_deref().filter(|t| !t.is_empty());
    own.unwrap_or(manifest.config.media_type.as_str())
        .to_owned()
}

fn referrer(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

fn unknown(name: &Name, target: &str) -> Error {
    Error::ManifestUnknown {
        name: name.to_string(),
        target: target.to_owned(),
    }
}
