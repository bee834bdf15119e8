//! Blobs of a repository: content lies once in `blobs/`, and each repository that has it says so.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use image::Digest;

use super::{Directory, Repository, write};
use crate::error::{Error, Result};
use crate::name::Name;

/// A client that is told that a blob is here soon pushes a manifest that needs it: the blob's age
/// for garbage collection begins anew, but the disk is not written at each question.
const RENEW: Duration = Duration::from_secs(60);

impl Directory {
    /// A blob, opened, and its size. Errors with `BlobUnknown`.
    pub(crate) fn open_blob(&self, name: &Name, digest: &Digest) -> Result<(File, u64)> {
        let unknown = || Error::BlobUnknown {
            name: name.to_string(),
            digest: digest.clone(),
        };
        let link = self.repository(name).link(digest);
        let metadata = match fs::metadata(&link) {
            Ok(metadata) => metadata,
            Err(e) if write::is_absent(&e) => return Err(unknown()),
            Err(e) => return Err(Error::io("look at", &link)(e)),
        };
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        renew(&link, metadata.modified().ok());
        let size = file.metadata().map_err(Error::io("look at", &path))?.len();
        Ok((file, size))
    }

    /// The size of a blob of a repository, if it has it.
    pub(super) fn blob_size(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>> {
        let link = repository.link(digest);
        match link.try_exists().map_err(Error::io("look at", &link))? {
            true => self.content_size(digest),
            false => Ok(None),
        }
    }

    /// The size of what lies in `blobs/`.
    pub(super) fn content_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if write::is_absent(&e) => Ok(None),
            Err(e) => Err(Error::io("look at", &path)(e)),
        }
    }

    /// Gives a repository a blob that lies in `blobs/`; the caller is [`adding`](Directory::adding).
    pub(super) fn link_blob(&self, name: &Name, digest: &Digest) -> Result<()> {
        // Writing it again renews its age.
        write::file(&self.tmp(), &self.repository(name).link(digest), b"")
    }

    /// Gives `name` a blob of `from`; `false` when that has none.
    pub(crate) fn mount_blob(&self, name: &Name, from: &Name, digest: &Digest) -> Result<bool> {
        let _adding = self.adding()?;
        if self.blob_size(&self.repository(from), digest)?.is_none() {
            return Ok(false);
        }
        self.link_blob(name, digest).map(|()| true)
    }

    /// Takes a blob from a repository; gc removes the content. Errors with `BlobUnknown`.
    pub(crate) fn delete_blob(&self, name: &Name, digest: &Digest) -> Result<()> {
        let repository = self.existing(name)?;
        if write::remove(&repository.link(digest))? {
            return Ok(());
        }
        Err(Error::BlobUnknown {
            name: name.to_string(),
            digest: digest.clone(),
        })
    }
}

fn renew(link: &Path, modified: Option<SystemTime>) {
    let now = SystemTime::now();
    let young = modified
        .and_then(|modified| now.duration_since(modified).ok())
        .is_some_and(|age| age < RENEW);
    if young {
        return;
    }
    let renewed = File::options()
        .append(true)
        .open(link)
        .and_then(|file| file.set_modified(now));
    if let Err(e) = renewed {
        // A disk that cannot be written serves what it has.
        tracing::debug!(link = %link.display(), "age not renewed: {e}");
    }
}
