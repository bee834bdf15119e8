//! Adding a layer: one pass over the compressed stream makes the blob and the unpacked directory.
//!
//! A layer is found by its diff_id and lies under a short number. Must never give it that number's
//! name, or the blob its digest's, before both digests were verified.

use std::io::Read;
use std::os::fd::BorrowedFd;

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

use super::pipeline;

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

    /// Adds a layer: keeps the compressed blob and unpacks it, from one pass over `reader`.
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
            let plan = pipeline::Plan {
                keep: false,
                unpack,
            };
            return self.take_in(lease, descriptor, diff_id, file, plan);
        }
        let keep = self.keep_blobs() != KeepBlobs::UntilUnpacked;
        let plan = pipeline::Plan { keep, unpack };
        self.take_in(lease, descriptor, diff_id, reader, plan)?;
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
        plan: pipeline::Plan,
    ) -> Result<()> {
        let target = plan
            .unpack
            .then(|| TempDir::create(self.layout()))
            .transpose()?;
        let root = target.as_ref().map(TempDir::fd);
        let (blob, unpacked) = pipeline::run(self, descriptor, diff_id, reader, plan.keep, root)?;
        if let Some(blob) = blob {
            self.publish_blob(descriptor, blob)?;
        }
        if let (Some(target), Some(unpacked)) = (target, unpacked) {
            self.publish_layer(lease, descriptor, diff_id, target, unpacked)?;
        }
        Ok(())
    }

    fn publish_blob(&self, descriptor: &Descriptor, blob: TempFile<'_>) -> Result<()> {
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
    fn publish_layer(
        &self,
        lease: &Lease,
        blob: &Descriptor,
        diff_id: &Digest,
        target: TempDir<'_>,
        unpacked: Unpacked,
    ) -> Result<()> {
        let id = self
            .db()
            .write(Durability::Ordered, |tx| reserve(tx, lease.id(), diff_id))?;
        let mut reserved = Reserved {
            store: self,
            id,
            kept: false,
        };
        let path = self.root().join("layers").join(id.to_string());
        // A power cut may have given the number back, but not removed what had it.
        let name = std::ffi::CString::new(id.to_string()).unwrap_or_default();
        tree::remove(self.layout(), self.layout().layers(), &name)
            .map_err(Error::sys("remove", &path))?;
        let mut facts = LayerFacts::new(diff_id.to_string(), unpacked.usage, unpacked.opaque);
        let implied = unpacked.implied.iter().cloned();
        facts.implied = implied
            .filter_map(|path| String::from_utf8(path).ok())
            .collect();
        facts.integrity = integrity(blob);
        records::keep_layer(self.layout(), id, &facts)?;
        target.commit(self.layout().layers(), &id.to_string(), &path)?;
        lease.note(&blob.digest, unpacked.omissions.clone());
        reserved.kept = self.db().write(Durability::Ordered, |tx| {
            let first = ready_layer(tx, diff_id)?;
            hold_layer(tx, lease.id(), first.map_or(id, |(first, _)| first))?;
            if first.is_none() {
                declare_ready(tx, id, &unpacked, &self.layout().temp_name())?;
                implicit_directories::keep(tx, id, &unpacked.implied)?;
            }
            Ok(first.is_none())
        })?;
        Ok(())
    }
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

/// Unpacks a layer from its blob into an empty directory in `tmp/`, checked as when it was added.
pub(crate) fn unpack(
    store: &Store,
    descriptor: &Descriptor,
    diff_id: &Digest,
    blob: impl Read,
    root: BorrowedFd<'_>,
) -> Result<()> {
    pipeline::run(store, descriptor, diff_id, blob, false, Some(root)).map(drop)
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
        let doomed = layout.temp_name();
        let moved =
            rustix::fs::renameat(layout.layers(), self.id.to_string(), layout.tmp(), &doomed);
        let removed = match (moved, std::ffi::CString::new(doomed)) {
            (Ok(()), Ok(name)) => tree::remove(layout, layout.tmp(), &name),
            // Not renamed into place yet, or left to gc.
            _ => Ok(()),
        };
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
