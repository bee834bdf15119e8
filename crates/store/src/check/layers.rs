//! Whether each layer is unpacked and, unless the check is quick, is what its blob unpacks to.
//!
//! A layer is unpacked once more to be compared: what a disk or a person changed in it shows.

use std::collections::HashMap;

use image::{Descriptor, Digest};
use rusqlite::Connection;
use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use super::{Check, Flaw, Report, Subject, compare};
use crate::error::{Error, Result};
use crate::layer::{Home, Layer, LayerRow, read_row, unpack};
use crate::layout::TempDir;
use crate::{Store, db};

impl Store {
    pub(super) fn check_layers(&self, check: Check, report: &mut Report) -> Result<()> {
        let layers = self.db().read(ready_layers)?;
        report.layers = layers.len();
        let blobs = match check.quick {
            true => HashMap::new(),
            false => self.layer_blobs()?,
        };
        for row in layers {
            let (id, text) = (row.id, row.diff_id.clone());
            let Ok(layer) = self.layer_of(Home::Here, row) else {
                let flaw = Flaw::Database(format!("{text:?} is no digest of a layer"));
                report.found(Subject::Database, flaw);
                continue;
            };
            let diff_id = layer.diff_id().clone();
            let flaw = match (self.directory_flaw(id), blobs.get(&diff_id)) {
                (None, Some(blob)) => self.content_flaw(&layer, blob)?,
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
            for (layer, diff_id) in self.layers_in(&manifest, &config) {
                if !blobs.contains_key(&diff_id)
                    && self.blob_flaw(&layer.digest, layer.size, true).is_none()
                {
                    blobs.insert(diff_id, layer);
                }
            }
        }
        Ok(blobs)
    }

    /// The first difference between a layer and what its blob unpacks to.
    pub(crate) fn content_flaw(&self, layer: &Layer, blob: &Descriptor) -> Result<Option<Flaw>> {
        let fresh = match self.unpacked_again(layer.diff_id(), blob) {
            Ok(Some(fresh)) => fresh,
            // Of a blob that is damaged the check of the blobs tells.
            Ok(None) | Err(Error::Layer { .. } | Error::DigestMismatch { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let old = match layer.directory() {
            Ok(old) => old,
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Some(Flaw::Missing));
            }
            Err(error) => return Ok(Some(Flaw::Read(error.to_string()))),
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

fn ready_layers(db: &Connection) -> Result<Vec<LayerRow>> {
    const LAYERS: &str = "SELECT id, diff_id, bytes, inodes FROM layers WHERE ready = 1";
    let read = || {
        let mut statement = db.prepare(LAYERS)?;
        let rows = statement.query_map([], read_row)?;
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
