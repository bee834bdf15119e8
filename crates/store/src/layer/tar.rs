//! The archive of a layer: as it lies, or out of the blob that is kept of what was unpacked from it.

use std::fs::File;
use std::io::{self, BufReader, Read};

use image::{AnyManifest, Descriptor, Digest, ImageConfig};
use rusqlite::Connection;

use super::decompress::{Decoder, detect};
use super::{Form, Layer, indexed};
use crate::Store;
use crate::error::{Error, Result};

/// Larger documents are none of an image's.
const MAX_DOCUMENT: u64 = 16 << 20;
/// Bytes read at once.
const READ: usize = 128 << 10;

/// The bytes of a layer's archive; see [`Layer::tar`].
pub struct LayerTar(Source);

enum Source {
    Blob(Decoder<BufReader<File>>),
    Archive(File),
}

impl Read for LayerTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Blob(blob) => blob.read(buffer),
            Source::Archive(file) => file.read(buffer),
        }
    }
}

impl std::fmt::Debug for LayerTar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LayerTar")
    }
}

pub(super) fn open(layer: &Layer, from: u64) -> Result<LayerTar> {
    if layer.form() == Form::Erofs {
        return Ok(LayerTar(Source::Archive(indexed::tar(layer, from)?)));
    }
    let blob = layer.blob()?;
    let store = layer.store();
    let (file, _) = store
        .open_blob(&blob.digest)?
        .ok_or_else(|| gone(layer.diff_id()))?;
    let failed = |source| Error::BlobRead {
        digest: blob.digest.clone(),
        source,
    };
    let mut file = BufReader::with_capacity(READ, file);
    let magic = io::BufRead::fill_buf(&mut file).map_err(failed)?;
    let compression = detect(&blob.media_type, magic).map_err(|source| Error::Layer {
        layer: blob.digest.clone(),
        source,
    })?;
    let mut tar = LayerTar(Source::Blob(
        Decoder::new(compression, file).map_err(failed)?,
    ));
    let skipped = io::copy(&mut (&mut tar).take(from), &mut io::sink()).map_err(failed)?;
    match skipped == from {
        true => Ok(tar),
        false => Err(failed(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The manifests of the images that have this layer, each with its image's config.
pub(super) fn blobs(db: &Connection, diff_id: &Digest) -> Result<Vec<(String, Vec<u8>)>> {
    const MANIFESTS: &str = "
        SELECT m.digest, i.config FROM manifests m JOIN images i ON i.id = m.image
        WHERE i.id IN (SELECT image FROM image_layers JOIN layers ON layers.id = layer
          WHERE layers.diff_id = ?1)";
    let read = || {
        let mut statement = db.prepare(MANIFESTS)?;
        let rows =
            statement.query_map([diff_id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("read the manifests"))
}

impl Store {
    /// The first blob of a layer that is there, by these manifests and configs.
    pub(super) fn layer_blob(
        &self,
        documents: &[(String, Vec<u8>)],
        diff_id: &Digest,
    ) -> Result<Descriptor> {
        for (manifest, config) in documents {
            for (layer, content) in self.layers_in(manifest, config) {
                if content == *diff_id && self.open_blob(&layer.digest)?.is_some() {
                    return Ok(layer);
                }
            }
        }
        Err(gone(diff_id))
    }

    /// The blobs that a manifest names, each with the digest of its content as the config says. None when
    /// a document cannot be read: that is a finding of its own, of the blob or the image.
    pub(crate) fn layers_in(&self, manifest: &str, config: &[u8]) -> Vec<(Descriptor, Digest)> {
        let manifest = Digest::parse(manifest).ok();
        let bytes = manifest.and_then(|digest| self.read_blob(&digest, MAX_DOCUMENT).ok());
        let Some(bytes) = bytes.flatten() else {
            return Vec::new();
        };
        let (Ok(AnyManifest::Manifest(manifest)), Ok(config)) =
            (AnyManifest::parse(None, &bytes), ImageConfig::parse(config))
        else {
            return Vec::new();
        };
        let diff_ids = config.rootfs.diff_ids;
        manifest.layers.into_iter().zip(diff_ids).collect()
    }
}

fn gone(diff_id: &Digest) -> Error {
    Error::LayerBlobGone {
        diff_id: diff_id.clone(),
    }
}
