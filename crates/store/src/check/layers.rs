//! Whether each layer is unpacked and, unless the check is quick, is what its blob unpacks to.
//!
//! A layer is unpacked once more to be compared: what a disk or a person changed in it shows.

use std::collections::HashMap;

use image::{AnyManifest, Descriptor, Digest, ImageConfig};
use rusqlite::Connection;
use rustix::fs::{AtFlags, FileType, Mode, openat, statat};
use rustix::io::Errno;

use super::{Check, Flaw, Report, Subject, compare};
use crate::error::{Error, Result};
use crate::layer::unpack;
use crate::layout::{DIRECTORY, TempDir};
use crate::{Store, db};

/// Larger documents are none of an image's.
const MAX_DOCUMENT: u64 = 16 << 20;

impl Store {
    pub(super) fn check_layers(&self, check: Check, report: &mut Report) -> Result<()> {
        let layers = self.db().read(ready_layers)?;
        report.layers = layers.len();
        let blobs = match check.quick {
            true => HashMap::new(),
            false => self.layer_blobs()?,
        };
        for (id, text) in layers {
            let Ok(diff_id) = Digest::parse(&text) else {
                let flaw = Flaw::Database(format!("{text:?} is no digest of a layer"));
                report.found(Subject::Database, flaw);
                continue;
            };
            let flaw = match (self.directory_flaw(id), blobs.get(&diff_id)) {
                (None, Some(blob)) => self.content_flaw(id, &diff_id, blob)?,
                (flaw, _) => flaw,
            };
            if let Some(flaw) = flaw
                && self.db().read(|db| is_ready(db, id))?
            {
                report.found(Subject::Layer(id, diff_id), flaw);
            }
        }
        Ok(())
    }

    fn directory_flaw(&self, id: i64) -> Option<Flaw> {
        let dir = self.layout().layers();
        match statat(dir, id.to_string(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => None,
            Ok(_) => Some(Flaw::Kind),
            Err(Errno::NOENT) => Some(Flaw::Missing),
            Err(errno) => Some(Flaw::Read(errno.to_string())),
        }
    }

    /// The blob of each layer, as a manifest of an image has it; only blobs that are good.
    pub(super) fn layer_blobs(&self) -> Result<HashMap<Digest, Descriptor>> {
        const MANIFESTS: &str = "
            SELECT m.digest, i.config FROM manifests m JOIN images i ON i.id = m.image";
        let documents = self.db().read(|db| {
            let read = || {
                let mut statement = db.prepare(MANIFESTS)?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect::<rusqlite::Result<Vec<(String, Vec<u8>)>>>()
            };
            read().map_err(Error::db("read the manifests"))
        })?;
        let mut blobs = HashMap::new();
        for (manifest, config) in documents {
            // What cannot be read is a finding of its own, of the blob or the image.
            let manifest = Digest::parse(&manifest).ok();
            let bytes = manifest.and_then(|digest| self.read_blob(&digest, MAX_DOCUMENT).ok());
            let Some(bytes) = bytes.flatten() else {
                continue;
            };
            let (Ok(AnyManifest::Manifest(manifest)), Ok(config)) = (
                AnyManifest::parse(None, &bytes),
                ImageConfig::parse(&config),
            ) else {
                continue;
            };
            for (layer, diff_id) in manifest.layers.into_iter().zip(config.rootfs.diff_ids) {
                if !blobs.contains_key(&diff_id)
                    && self.blob_flaw(&layer.digest, layer.size, true).is_none()
                {
                    blobs.insert(diff_id, layer);
                }
            }
        }
        Ok(blobs)
    }

    fn content_flaw(&self, id: i64, diff_id: &Digest, blob: &Descriptor) -> Result<Option<Flaw>> {
        let fresh = match self.unpacked_again(diff_id, blob) {
            Ok(Some(fresh)) => fresh,
            // Of a blob that is damaged the check of the blobs tells.
            Ok(None) | Err(Error::Layer { .. } | Error::DigestMismatch { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let name = id.to_string();
        let old = match openat(self.layout().layers(), &name, DIRECTORY, Mode::empty()) {
            Ok(old) => old,
            Err(Errno::NOENT) => return Ok(Some(Flaw::Missing)),
            Err(errno) => return Ok(Some(Flaw::Read(errno.to_string()))),
        };
        let difference = compare::difference(&old, fresh.fd());
        Ok(match difference {
            Ok(path) => path.map(|path| Flaw::Differs(String::from_utf8_lossy(&path).into_owned())),
            Err(errno) => Some(Flaw::Read(errno.to_string())),
        })
    }

    /// A layer unpacked into a directory of its own.
    pub(super) fn unpacked_again(
        &self,
        diff_id: &Digest,
        blob: &Descriptor,
    ) -> Result<Option<TempDir<'_>>> {
        let Some((file, _)) = self.open_blob(&blob.digest)? else {
            return Ok(None);
        };
        let fresh = TempDir::create(self.layout())?;
        unpack(self, blob, diff_id, file, fresh.fd())?;
        Ok(Some(fresh))
    }
}

fn ready_layers(db: &Connection) -> Result<Vec<(i64, String)>> {
    let read = || {
        let mut statement = db.prepare("SELECT id, diff_id FROM layers WHERE ready = 1")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("read the layers"))
}

fn is_ready(db: &Connection, id: i64) -> Result<bool> {
    db::exists(
        db,
        "SELECT 1 FROM layers WHERE id = ?1 AND ready = 1",
        &[&id],
    )
}
