//! Whether each layer is there and, unless the check is quick, is what its archive says.
//!
//! A layer that is a directory is unpacked once more to be compared, and of one that is an archive the digest is
//! read and the index made once more: what a disk or a person changed in it shows.

use std::collections::HashMap;
use std::os::fd::AsFd;

use image::{Descriptor, Digest};
use rusqlite::Connection;
use rustix::fs::{Mode, openat};
use rustix::io::Errno;

use super::{Check, Flaw, Report, Subject, compare};
use crate::error::{Error, Result};
use crate::layer::{Fresh, Home, Layer, LayerRow, forms, indexed, read_row};
use crate::layout::DIRECTORY;
use crate::{Form, Store, db};

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
            let flaw = match (layer.form(), self.directory_flaw(&layer)) {
                (_, Some(flaw)) => Some(flaw),
                (Form::Erofs, None) if check.quick => indexed::seal_flaw(&layer)?,
                (_, None) if check.quick => None,
                (Form::Erofs, None) => layer.verify()?,
                (Form::Directory, None) => match blobs.get(&diff_id) {
                    Some(blob) => self.content_flaw(&layer, blob)?,
                    None => None,
                },
            };
            if let Some(flaw) = flaw
                && self.db().read(|db| is_ready(db, id))?
            {
                report.found(Subject::Layer(id, diff_id), flaw);
            }
        }
        Ok(())
    }

    fn directory_flaw(&self, layer: &Layer) -> Option<Flaw> {
        match openat(
            self.layout().layers(),
            layer.name(),
            DIRECTORY,
            Mode::empty(),
        ) {
            Ok(dir) => match layer.form() {
                Form::Directory => None,
                Form::Erofs => indexed::quick_flaw(dir.as_fd()),
            },
            Err(Errno::LOOP | Errno::NOTDIR) => Some(Flaw::Kind),
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
        let fresh = match self.made_again(layer.diff_id(), blob, Form::Directory) {
            Ok(Some(fresh)) => fresh.dir,
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

    /// A layer made of its blob once more, in `tmp/`.
    pub(super) fn made_again<'a>(
        &'a self,
        diff_id: &Digest,
        blob: &'a Descriptor,
        form: Form,
    ) -> Result<Option<Fresh<'a>>> {
        let Some((file, _)) = self.open_blob(&blob.digest)? else {
            return Ok(None);
        };
        let (_, fresh) = self.make_layer(blob, diff_id, file, false, form)?;
        Ok(Some(fresh))
    }
}

fn ready_layers(db: &Connection) -> Result<Vec<LayerRow>> {
    const LAYERS: &str = "SELECT id, diff_id, bytes, inodes FROM layers WHERE ready = 1";
    let read = || {
        let mut statement = db.prepare(LAYERS)?;
        let rows = statement.query_map([], read_row)?;
        rows.collect::<rusqlite::Result<Vec<LayerRow>>>()
    };
    let mut rows = read().map_err(Error::db("read the layers"))?;
    forms::fill(db, &mut rows)?;
    Ok(rows)
}

fn is_ready(db: &Connection, id: i64) -> Result<bool> {
    db::exists(
        db,
        "SELECT 1 FROM layers WHERE id = ?1 AND ready = 1",
        &[&id],
    )
}
