//! The files of an artifact (image-spec manifest.md, "Guidelines for Artifact Usage") as a root file system.
//!
//! Each is a further name (link(2)) of its blob: no byte is there twice, and none is lost while somebody looks
//! at it. Names are what a stranger wrote: [`image::Manifest::artifact_files`] makes paths of them.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use image::{AnyManifest, Digest};
use rustix::fs::{AtFlags, Mode, chmodat, linkat, mkdirat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::{ImageRecord, RootFilesystem, Store};

/// Largest manifest, in bytes.
const MAX_MANIFEST: u64 = 8 << 20;

impl Store {
    /// The files of an artifact, to be read only, as long as the writable layer `name` is there
    /// ([`remove_writable_layer`](Store::remove_writable_layer)).
    ///
    /// Errors with [`Error::Artifact`] when its files have no names, or such as cannot be.
    pub fn create_file_layer(&self, name: &str, record: &ImageRecord) -> Result<RootFilesystem> {
        let flaw = |why: String| Error::Artifact {
            digest: record.manifest_digest.clone(),
            why,
        };
        if record.read_only {
            let why = "it is in an additional store: pull it into the store itself";
            return Err(flaw(why.to_owned()));
        }
        let bytes = self.read_blob(&record.manifest_digest, MAX_MANIFEST)?;
        let bytes = bytes.ok_or_else(|| Error::ImageNotFound {
            id: record.id.clone(),
        })?;
        let unfit = |source| Error::Document {
            digest: record.manifest_digest.clone(),
            source: Box::new(source),
        };
        let AnyManifest::Manifest(manifest) = AnyManifest::parse(None, &bytes).map_err(unfit)?
        else {
            return Err(flaw("it is an index".to_owned()));
        };
        let files = manifest.artifact_files().map_err(flaw)?;
        if files.is_empty() {
            let why = "none of its files has a name (org.opencontainers.image.title)";
            return Err(flaw(why.to_owned()));
        }
        let root = self.create_writable_layer(name, record)?;
        let filled = root.upper().and_then(|(_, upper)| {
            let mut all = files.iter();
            all.try_for_each(|(path, file)| {
                self.link_blob(record, &file.digest, upper.as_fd(), path)
            })
        });
        if let Err(error) = filled {
            if let Err(left) = self.remove_writable_layer(name) {
                tracing::warn!("store: left for the next collection: {left}");
            }
            return Err(error);
        }
        Ok(root)
    }

    /// A path that leads nowhere else: nobody but this store writes below `dir`.
    fn link_blob(
        &self,
        record: &ImageRecord,
        digest: &Digest,
        dir: BorrowedFd<'_>,
        path: &Path,
    ) -> Result<()> {
        let failed = || Error::sys("link to a file of an artifact", self.blob_path(digest));
        let above = path.parent().into_iter().flat_map(Path::ancestors);
        let mut above: Vec<&Path> = above.filter(|dir| !dir.as_os_str().is_empty()).collect();
        above.reverse();
        for parent in above {
            let mode = Mode::from_raw_mode(0o755);
            match mkdirat(dir, parent, mode) {
                Ok(()) => chmodat(dir, parent, mode, AtFlags::empty()).map_err(failed())?,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(failed()(e)),
            }
        }
        let blobs = self.layout().blobs(digest.algorithm());
        match linkat(blobs, digest.hex(), dir, path, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(Error::MissingBlob {
                manifest: record.manifest_digest.clone(),
                blob: digest.clone(),
            }),
            other => other.map_err(failed()),
        }
    }
}
