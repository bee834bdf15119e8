//! Adding a layer: one pass over the compressed stream makes the blob and the unpacked directory.
//!
//! A layer is found by its diff_id and lies under a short number. Must never give it that number's
//! name, or the blob its digest's, before both digests were verified.

use std::collections::BTreeMap;
use std::io::Read;

use image::{Descriptor, Digest};
use rusqlite::{Connection, OptionalExtension, params};

use crate::db::{Durability, signed, unsigned};
use crate::error::{Error, Result};
use crate::extract::Unpacked;
use crate::keep::record_dropped;
use crate::layout::{TempDir, TempFile};
use crate::lease::{Lease, hold_layer};
use crate::records::{self, LayerFacts};
use crate::{KeepBlobs, Store, implicit_directories, tree};

use super::seal::Seal;
use super::{Form, forms, indexed, pipeline};

impl Store {
    /// Whether a layer is unpacked. It may be gone at the next moment: see [`Store::hold_layer`].
    pub fn has_layer(&self, diff_id: &Digest) -> Result<bool> {
        self.db().read(|db| Ok(ready_layer(db, diff_id)?.is_some()))
    }

    /// Whether a layer is unpacked; if so it stays at least as long as the lease.
    pub fn hold_layer(&self, lease: &Lease, diff_id: &Digest) -> Result<bool> {
        self.db().write(Durability::Ordered, |tx| {
            let layer = ready_layer(tx, diff_id)?;
            if let Some((id, _)) = layer {
                hold_layer(tx, lease.id(), id)?;
            }
            Ok(layer.is_some())
        })
    }

    /// Adds a layer in the [form](Store::set_layer_form) that is wanted, and keeps the compressed blob, from one
    /// pass over `reader`.
    ///
    /// What is there already is not made again; if the blob is, `reader` is not read. The blob is not kept
    /// where that is [not wanted](Store::set_keep_blobs). Nothing is kept
    /// unless the blob's size and digest and the unpacked content's `diff_id` are right. The same
    /// layer may be added by several threads and processes at once. Memory does not depend on the
    /// layer's size.
    ///
    /// Errors with [`Error::BlobRead`] (the source failed), [`Error::SizeMismatch`],
    /// [`Error::DigestMismatch`], and [`Error::Layer`] for all else that is wrong with the layer or
    /// with writing it (see [`Error::is_no_space`]).
    pub fn add_layer(
        &self,
        lease: &Lease,
        descriptor: &Descriptor,
        diff_id: &Digest,
        reader: impl Read,
    ) -> Result<()> {
        let has_blob = self.hold_blob(lease, &descriptor.digest)?;
        let unpack = !self.hold_layer(lease, diff_id)?;
        if has_blob && !unpack {
            return Ok(());
        }
        // A recorded blob whose file somebody deleted is fetched like a missing one.
        if has_blob && let Some((file, _)) = self.open_blob(&descriptor.digest)? {
            return self.take_in(lease, descriptor, diff_id, file, false);
        }
        let keep = self.keep_blobs() != KeepBlobs::UntilUnpacked;
        match unpack {
            true => self.take_in(lease, descriptor, diff_id, reader, keep)?,
            false => {
                let check = pipeline::check;
                let (blob, ()) = pipeline::run(self, descriptor, diff_id, reader, keep, check)?;
                self.publish_blob(descriptor, blob)?;
            }
        }
        match keep {
            true => Ok(()),
            false => self.db().write(Durability::Ordered, |tx| {
                record_dropped(tx, &descriptor.digest.to_string(), descriptor.size)
            }),
        }
    }

    fn take_in(
        &self,
        lease: &Lease,
        descriptor: &Descriptor,
        diff_id: &Digest,
        reader: impl Read,
        keep: bool,
    ) -> Result<()> {
        let form = match lease.unpacks_layers() || names_unpacked(&descriptor.annotations) {
            true => Form::Directory,
            false => self.form_of_new_layers(),
        };
        let (blob, fresh) = self.make_layer(descriptor, diff_id, reader, keep, form)?;
        self.publish_blob(descriptor, blob)?;
        self.publish_layer(lease, descriptor, diff_id, fresh)
    }

    /// A layer of this form in `tmp/`; unpacked where it cannot have that. With `keep`, the blob as well.
    pub(crate) fn make_layer<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        diff_id: &Digest,
        reader: impl Read,
        keep: bool,
        form: Form,
    ) -> Result<(Option<TempFile<'a>>, Fresh<'a>)> {
        if form == Form::Erofs {
            return indexed::make(self, descriptor, diff_id, reader, keep);
        }
        let dir = TempDir::create(self.layout())?;
        let work = |stream: pipeline::Chunks<'_>| {
            pipeline::unpack(stream, self.layout(), dir.fd(), self.limits())
        };
        let (blob, facts) = pipeline::run(self, descriptor, diff_id, reader, keep, work)?;
        Ok((
            blob,
            Fresh {
                dir,
                form,
                facts,
                seal: None,
            },
        ))
    }

    pub(super) fn publish_blob(
        &self,
        descriptor: &Descriptor,
        blob: Option<TempFile<'_>>,
    ) -> Result<()> {
        let Some(blob) = blob else {
            return Ok(());
        };
        let digest = &descriptor.digest;
        let (dir, path) = (
            self.layout().blobs(digest.algorithm()),
            self.blob_path(digest),
        );
        blob.commit(dir, digest.hex(), &path)?;
        self.db()
            .write(Durability::Ordered, |tx| self.insert_blob(tx, descriptor))
    }

    /// Reserves a number, gives the directory its name, then declares it ready. Whoever adds the
    /// same layer meanwhile and is ready first wins; this one's directory is dropped then.
    pub(super) fn publish_layer(
        &self,
        lease: &Lease,
        blob: &Descriptor,
        diff_id: &Digest,
        fresh: Fresh<'_>,
    ) -> Result<()> {
        let integrity = integrity(blob);
        let record = fresh.record(diff_id, integrity);
        let Fresh {
            dir, form, facts, ..
        } = fresh;
        let id = self
            .db()
            .write(Durability::Ordered, |tx| reserve(tx, lease.id(), diff_id))?;
        let mut reserved = Reserved {
            store: self,
            id,
            kept: false,
        };
        // A power cut may have given the number back, but not removed what had it.
        for form in forms::ALL {
            let name = std::ffi::CString::new(forms::name(id, form)).unwrap_or_default();
            tree::remove(self.layout(), self.layout().layers(), &name)
                .map_err(Error::sys("remove", self.layer_path(id, form)))?;
        }
        records::keep_layer(self.layout(), id, &record)?;
        let (name, path) = (forms::name(id, form), self.layer_path(id, form));
        dir.commit(self.layout().layers(), &name, &path)?;
        lease.note(&blob.digest, facts.omissions.clone());
        reserved.kept = self.db().write(Durability::Ordered, |tx| {
            let first = ready_layer(tx, diff_id)?;
            hold_layer(tx, lease.id(), first.map_or(id, |(first, _)| first))?;
            if first.is_none() {
                declare_ready(tx, id, &facts, &self.layout().temp_name())?;
                implicit_directories::keep(tx, id, &facts.implied)?;
                forms::record(tx, id, form)?;
            }
            Ok(first.is_none())
        })?;
        Ok(())
    }
}

/// A layer that is complete, and has no name yet.
pub(crate) struct Fresh<'a> {
    pub dir: TempDir<'a>,
    pub form: Form,
    pub facts: Unpacked,
    /// What the kernel holds its files to, if to anything.
    pub seal: Option<Seal>,
}

impl Fresh<'_> {
    /// What is written down of it.
    pub(crate) fn record(&self, diff_id: &Digest, integrity: Option<String>) -> LayerFacts {
        let Unpacked {
            usage,
            opaque,
            implied,
            ..
        } = &self.facts;
        let text = |path: &Vec<u8>| String::from_utf8(path.clone()).ok();
        LayerFacts {
            implied: implied.iter().filter_map(text).collect(),
            form: self.form,
            integrity,
            seal: self.seal.clone(),
            ..LayerFacts::new(diff_id.to_string(), *usage, *opaque)
        }
    }
}

/// Whether the annotations of a layer, or of its manifest, want it unpacked: `io.floe.layer-form`.
#[must_use]
pub fn names_unpacked(annotations: &BTreeMap<String, String>) -> bool {
    let form = annotations.get("io.floe.layer-form");
    form.is_some_and(|form| form.parse() == Ok(Form::Directory))
}

/// The root of a dm-verity tree that the manifest names for a layer, as Kata's tools write it. It says nothing
/// of the unpacked form, and is for whoever makes or gets a verified one.
fn integrity(blob: &Descriptor) -> Option<String> {
    const ROOT_HASH: &str = "io.katacontainers.dm-verity.root-hash";
    let root = blob.annotations.get(ROOT_HASH)?;
    // Up to SHA-512.
    let good = (1..=128).contains(&root.len()) && root.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| root.to_ascii_lowercase())
}

/// A number for a layer; the row and the directory go unless the layer was declared ready.
struct Reserved<'a> {
    store: &'a Store,
    id: i64,
    kept: bool,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let layout = self.store.layout();
        records::drop_layer(layout, &self.id.to_string());
        let mut removed = Ok(());
        for form in forms::ALL {
            let doomed = layout.temp_name();
            let name = forms::name(self.id, form);
            let moved = rustix::fs::renameat(layout.layers(), name, layout.tmp(), &doomed);
            // Else not renamed into place yet, or left to gc.
            if let (Ok(()), Ok(name)) = (moved, std::ffi::CString::new(doomed)) {
                removed = removed.and(tree::remove(layout, layout.tmp(), &name));
            }
        }
        let forgotten = self.store.db().remove(Durability::Ordered, |tx| {
            tx.execute("DELETE FROM layers WHERE id = ?1 AND ready = 0", [self.id])
                .map_err(Error::db("forget a layer"))
        });
        if removed.is_err() || forgotten.is_err() {
            tracing::warn!(layer = self.id, "half-made layer left for the next gc");
        }
    }
}

fn reserve(tx: &Connection, lease: i64, diff_id: &Digest) -> Result<i64> {
    tx.execute(
        "INSERT INTO layers(diff_id, ready, lease, bytes, inodes) VALUES(?1, 0, ?2, 0, 0)",
        params![diff_id.to_string(), lease],
    )
    .map_err(Error::db("reserve a layer"))?;
    Ok(tx.last_insert_rowid())
}

fn declare_ready(tx: &Connection, id: i64, unpacked: &Unpacked, mark: &str) -> Result<()> {
    let Unpacked { usage, opaque, .. } = unpacked;
    tx.execute(
        "UPDATE layers SET ready = 1, lease = NULL, bytes = ?2, inodes = ?3, opaque = ?4, unsettled = ?5
         WHERE id = ?1",
        params![id, signed(usage.bytes), signed(usage.inodes), opaque, mark],
    )
    .map_err(Error::db("record a layer"))?;
    Ok(())
}

/// The id and the unpacked bytes of a layer that is ready.
pub(crate) fn ready_layer(db: &Connection, diff_id: &Digest) -> Result<Option<(i64, u64)>> {
    db.prepare_cached("SELECT id, bytes FROM layers WHERE diff_id = ?1 AND ready = 1")
        .and_then(|mut statement| {
            let row = statement.query_row([diff_id.to_string()], |row| {
                Ok((row.get(0)?, unsigned(row.get(1)?)))
            });
            row.optional()
        })
        .map_err(Error::db("look up a layer"))
}
