//! Working layers of builds: writable layers on any stack of layers, that come to be layers themselves or go.
//!
//! ```text
//! working_layer ─▶ root: mounted and written to, by steps and by containers ─▶ commit: a blob and a layer
//!                                                                          └─▶ drop: nothing is left
//! ```
//! One belongs to the process that made it, which its name tells: what a killed build leaves is removed by
//! [`Store::clear_working_layers`] and by the next collection. Must never make a layer of what something may still
//! write to: whoever commits has no mount of it, and no container on it.

use std::io::{self, BufReader, Write};

use flate2::write::GzEncoder;
use image::{Descriptor, Digest, Hasher, MediaType};
use rusqlite::{Connection, OptionalExtension};

use crate::diff::{Difference, Times};
use crate::error::{Error, Result};
use crate::layer::{Home, Layer, forms, read_row};
use crate::layout::TempFile;
use crate::lease::Lease;
use crate::owner::Owner;
use crate::{RootFilesystem, Store};

const PREFIX: &str = "build-";
/// Fast, as the layer is likely to be built again before anybody fetches it.
const GZIP_LEVEL: u32 = 3;

/// A writable layer of this process.
#[derive(Debug)]
pub struct WorkingLayer {
    store: Store,
    name: String,
    root: RootFilesystem,
}

/// A layer that was made of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLayer {
    /// The blob.
    pub blob: Descriptor,
    /// The digest of what it unpacks to.
    pub diff_id: Digest,
    /// What is in it.
    pub difference: Difference,
}

impl Store {
    /// Makes a writable layer on these layers, the lowest first, which somebody holds meanwhile: an image or a
    /// lease. They stay as long as it is.
    ///
    /// Errors with [`Error::LayerLost`] when one of them is nowhere.
    pub fn working_layer(&self, below: &[Digest]) -> Result<WorkingLayer> {
        let name = format!("{PREFIX}{}", self.layout().temp_name());
        let root = self.layer_on(&name, below)?;
        Ok(WorkingLayer {
            store: self.clone(),
            name,
            root,
        })
    }

    /// Makes a writable layer of that name on these layers, the lowest first.
    pub(crate) fn layer_on(&self, name: &str, below: &[Digest]) -> Result<RootFilesystem> {
        self.make_writable_layer(name, "", |db| {
            let layers = self.stack(db, name, below)?;
            let here = layers.iter().filter(|layer| layer.home() == Home::Here);
            let ids = here.map(Layer::id).collect();
            Ok((layers, ids))
        })
    }

    /// The root file system of these layers, the lowest first: to be read only, for as long as somebody holds them.
    ///
    /// Errors as [`working_layer`](Self::working_layer).
    pub fn layers_root(&self, layers: &[Digest]) -> Result<RootFilesystem> {
        let layers = self.db().read(|db| self.stack(db, "of a build", layers))?;
        Ok(RootFilesystem::of_layers(self, layers))
    }

    /// Removes the working layers of processes that have ended; how many.
    pub fn clear_working_layers(&self) -> Result<usize> {
        let mut cleared = 0;
        for name in self.layout().container_ids()? {
            let Some(owner) = name.strip_prefix(PREFIX).and_then(Owner::parse) else {
                continue;
            };
            if !owner.is_alive(self.layout().owner()) {
                self.remove_writable_layer(&name)?;
                cleared += 1;
            }
        }
        Ok(cleared)
    }

    /// This process as [`owner_lives`](Self::owner_lives) takes it.
    ///
    /// Errors with [`Error::Io`] when the process cannot be looked at.
    pub fn owner_text() -> Result<String> {
        Ok(Owner::current()?.to_string())
    }

    /// Whether the process of that [text](Self::owner_text) still runs; what is no such text is nobody.
    pub fn owner_lives(&self, owner: &str) -> bool {
        Owner::parse(owner).is_some_and(|owner| owner.is_alive(self.layout().owner()))
    }

    /// Whether a writable layer is a build's.
    pub(crate) fn is_of_build(name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    /// Layers for an overlay, top first: each once, and none below one that hides all others.
    fn stack(&self, db: &Connection, whose: &str, lowest_first: &[Digest]) -> Result<Vec<Layer>> {
        let mut layers: Vec<Layer> = Vec::new();
        for diff_id in lowest_first.iter().rev() {
            if layers.iter().any(|above| above.diff_id() == diff_id) {
                continue;
            }
            let found = self.found(db, diff_id)?;
            let (layer, opaque) = found.ok_or_else(|| Error::LayerLost {
                container: whose.to_owned(),
                diff_id: diff_id.to_string(),
            })?;
            layers.push(layer);
            if opaque {
                break;
            }
        }
        Ok(layers)
    }

    /// A layer, and whether its root hides all layers below.
    fn found(&self, db: &Connection, diff_id: &Digest) -> Result<Option<(Layer, bool)>> {
        const LAYER: &str = "
            SELECT id, diff_id, bytes, inodes, opaque FROM layers WHERE diff_id = ?1 AND ready = 1";
        let row = db.prepare_cached(LAYER).and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| Ok((read_row(row)?, row.get(4)?));
            statement.query_row([diff_id.to_string()], read).optional()
        });
        match row.map_err(Error::db("look up a layer"))? {
            Some((row, opaque)) => {
                let mut rows = [row];
                forms::fill(db, &mut rows)?;
                let [row] = rows;
                Ok(Some((self.layer_of(Home::Here, row)?, opaque)))
            }
            None => Ok(self.additional_layer(diff_id)?.map(|layer| (layer, false))),
        }
    }
}

impl WorkingLayer {
    /// Its name among writable layers: [`Store::mount_container`] takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The root file system that it is the top of.
    pub fn root(&self) -> &RootFilesystem {
        &self.root
    }

    /// Makes a layer of what was written, under `lease`. Where that is possible the files become it as they lie;
    /// they are read once, for the blob.
    ///
    /// Errors as [`RootFilesystem::write_difference`] and [`Store::add_layer`].
    pub fn commit(self, lease: &Lease, times: Times) -> Result<NewLayer> {
        let store = &self.store;
        let mut file = TempFile::create(store.layout())?;
        let path = file.path();
        let mut out = Blob::new(&mut file);
        let difference = self.root.write_difference_with(times, &mut out)?;
        let (blob, diff_id) = out.finish().map_err(Error::io("write", &path))?;
        let layer = NewLayer {
            blob,
            diff_id,
            difference,
        };
        let as_it_lies = times == Times::Kept && difference.sockets == 0;
        match as_it_lies {
            true => store.adopt_layer(lease, &layer.blob, &layer.diff_id, file, &self.name)?,
            false => add(store, lease, &layer, &file)?,
        }
        Ok(layer)
    }
}

impl Drop for WorkingLayer {
    fn drop(&mut self) {
        if let Err(error) = self.store.remove_writable_layer(&self.name) {
            tracing::warn!(layer = %self.name, "working layer left for the next collection: {error}");
        }
    }
}

impl Store {
    /// Makes a layer of an archive that `write` writes, uncompressed, under `lease`.
    ///
    /// Errors as [`Store::add_layer`], and what `write` says.
    pub fn write_layer(
        &self,
        lease: &Lease,
        write: impl FnOnce(&mut dyn Write) -> Result<Difference>,
    ) -> Result<NewLayer> {
        let mut file = TempFile::create(self.layout())?;
        let path = file.path();
        let mut out = Blob::new(&mut file);
        let difference = write(&mut out)?;
        let (blob, diff_id) = out.finish().map_err(Error::io("write", &path))?;
        let layer = NewLayer {
            blob,
            diff_id,
            difference,
        };
        add(self, lease, &layer, &file)?;
        Ok(layer)
    }
}

/// Unpacks the archive as any other.
fn add(store: &Store, lease: &Lease, layer: &NewLayer, file: &TempFile<'_>) -> Result<()> {
    let again = std::fs::File::open(file.path()).map_err(Error::io("read", file.path()))?;
    store.add_layer(lease, &layer.blob, &layer.diff_id, BufReader::new(again))
}

/// Writes a compressed blob, and knows the digests of it and of what was written.
struct Blob<W: Write> {
    content: Hasher,
    encoder: GzEncoder<Counted<W>>,
}

struct Counted<W: Write> {
    to: io::BufWriter<W>,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Blob<W> {
    fn new(to: W) -> Blob<W> {
        let to = Counted {
            to: io::BufWriter::with_capacity(128 << 10, to),
            hasher: Digest::hasher(),
            size: 0,
        };
        Blob {
            content: Digest::hasher(),
            encoder: GzEncoder::new(to, flate2::Compression::new(GZIP_LEVEL)),
        }
    }

    fn finish(self) -> io::Result<(Descriptor, Digest)> {
        let Counted {
            mut to,
            hasher,
            size,
        } = self.encoder.finish()?;
        to.flush()?;
        let blob = Descriptor::new(MediaType::OciLayerGzip, hasher.finish(), size);
        Ok((blob, self.content.finish()))
    }
}

impl<W: Write> Write for Blob<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.encoder.write(bytes)?;
        self.content.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
