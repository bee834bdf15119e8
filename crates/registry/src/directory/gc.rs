//! Garbage collection: content that no manifest reaches and nobody has asked for of late.
//!
//! Pulls go on meanwhile; the last step of a push waits. What was pushed, mounted or found there
//! within the grace period stays: a manifest that needs it may be on its way. Must never remove
//! content before every repository has been read whole.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::{Algorithm, AnyManifest, Digest};

use super::manifests::parts;
use super::uploads::is_older;
use super::{Directory, Repository, write};
use crate::error::{Error, Result};

/// How old things must be before they count as garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace {
    /// Content that no manifest reaches.
    pub content: Duration,
    /// Uploads that nobody goes on with.
    pub uploads: Duration,
}

impl Default for Grace {
    fn default() -> Grace {
        let hour = Duration::from_secs(3600);
        Grace {
            content: hour,
            uploads: 24 * hour,
        }
    }
}

/// What garbage collection removed, or would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs and manifests.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads.
    pub uploads: u64,
    /// Repositories that had nothing left.
    pub repositories: u64,
}

impl Directory {
    /// Removes garbage; with `dry_run` it only counts. Safe while servers run on the directory.
    ///
    /// Errors when anything cannot be read, before anything is removed.
    pub fn collect(&self, grace: Grace, dry_run: bool) -> Result<Collected> {
        let _sweeping = self.sweeping()?;
        let mut live = HashSet::new();
        let mut stale = HashSet::new();
        let mut repositories = Vec::new();
        for name in write::names(&self.repositories_path())? {
            let repository = Repository(self.repositories_path().join(name));
            self.mark(&repository, grace, &mut live, &mut stale)?;
            repositories.push(repository);
        }
        let mut collected = Collected::default();
        if !dry_run {
            for link in &stale {
                write::remove(link)?;
            }
        }
        self.sweep(&live, grace, dry_run, &mut collected)?;
        for repository in repositories {
            if is_empty(&repository, &stale)? && is_old(&repository.0, grace.content) {
                collected.repositories += 1;
                if !dry_run {
                    fs::remove_dir_all(&repository.0)
                        .map_err(Error::io("remove", &repository.0))?;
                }
            }
        }
        collected.uploads = self.expire_uploads(grace.uploads, dry_run)?;
        if !dry_run {
            self.clear_temporary()?;
        }
        Ok(collected)
    }

    /// Adds what a repository needs to `live`, and its links that nothing needs to `stale`.
    fn mark(
        &self,
        repository: &Repository,
        grace: Grace,
        live: &mut HashSet<Digest>,
        stale: &mut HashSet<PathBuf>,
    ) -> Result<()> {
        let mut needed = HashSet::new();
        for digest in repository.digests("manifests")? {
            let Some(media_type) = write::read(&repository.manifest(&digest))? else {
                continue;
            };
            let path = self.blob_path(&digest);
            let Some(bytes) = write::read(&path)? else {
                tracing::warn!(%digest, repository = %repository.0.display(), "manifest is lost");
                continue;
            };
            let media_type = String::from_utf8_lossy(&media_type);
            let parsed =
                AnyManifest::parse(Some(&media_type), &bytes).map_err(|e| Error::Damaged {
                    path,
                    reason: e.to_string(),
                })?;
            needed.extend(parts(&parsed).into_iter().map(|part| part.digest.clone()));
            needed.insert(digest);
        }
        for digest in repository.digests("blobs")? {
            let link = repository.link(&digest);
            if !needed.contains(&digest) && is_old(&link, grace.content) {
                stale.insert(link);
            } else {
                needed.insert(digest);
            }
        }
        live.extend(needed);
        Ok(())
    }

    fn sweep(
        &self,
        live: &HashSet<Digest>,
        grace: Grace,
        dry_run: bool,
        collected: &mut Collected,
    ) -> Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for hex in write::names(&self.root.join("blobs").join(algorithm.as_str()))? {
                let Ok(digest) = Digest::parse(&format!("{algorithm}:{hex}")) else {
                    continue;
                };
                let path = self.blob_path(&digest);
                if live.contains(&digest) || !is_old(&path, grace.content) {
                    continue;
                }
                let size = fs::metadata(&path)
                    .map_err(Error::io("look at", &path))?
                    .len();
                collected.blobs += 1;
                collected.bytes += size;
                if !dry_run {
                    fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    /// Who writes there holds the lock that this excludes: all that is there was left behind.
    fn clear_temporary(&self) -> Result<()> {
        for name in write::names(&self.tmp())? {
            let path = self.tmp().join(name);
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }
}

fn is_old(path: &Path, age: Duration) -> bool {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|modified| is_older(modified, age))
}

fn is_empty(repository: &Repository, stale: &HashSet<PathBuf>) -> Result<bool> {
    let links = repository.digests("blobs")?;
    Ok(repository.digests("manifests")?.is_empty()
        && write::names(&repository.tags())?.is_empty()
        && links
            .iter()
            .all(|digest| stale.contains(&repository.link(digest))))
}
