//! Leases: what is being added belongs to nobody yet, and garbage collection must not take it.
//!
//! A lease ends when it is dropped or when its process is dead; never by a clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::Digest;
use rusqlite::{Connection, params};

use crate::db::Durability;
use crate::error::{Error, Result};
use crate::extract::Omissions;
use crate::{Core, Store};

/// Keeps the blobs and layers that were added or asked for under it from garbage collection.
#[derive(Debug)]
pub struct Lease {
    core: Arc<Core>,
    id: i64,
    /// The layers that are added under it are unpacked, whatever the store's choice is.
    unpacked: AtomicBool,
    /// What was left out of the layers that were added under it, by blob.
    omissions: Mutex<Vec<(Digest, Omissions)>>,
}

impl Lease {
    pub(crate) fn begin(core: &Arc<Core>) -> Result<Lease> {
        if core.layout.is_read_only() {
            // Nobody removes anything there.
            let core = Arc::clone(core);
            return Ok(Lease::new(core, 0));
        }
        let owner = core.layout.owner().to_string();
        let id = core.db.write(Durability::Ordered, |tx| {
            tx.execute("INSERT INTO leases(owner) VALUES(?1)", [owner])
                .map_err(Error::db("begin a lease"))?;
            Ok(tx.last_insert_rowid())
        })?;
        Ok(Lease::new(Arc::clone(core), id))
    }

    fn new(core: Arc<Core>, id: i64) -> Lease {
        let omissions = Mutex::default();
        Lease {
            core,
            id,
            unpacked: AtomicBool::new(false),
            omissions,
        }
    }

    /// Has the layers that are added under it from now on unpacked, whatever [form](Store::set_layer_form) is wanted.
    pub fn unpack_layers(&self) {
        self.unpacked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn unpacks_layers(&self) -> bool {
        self.unpacked.load(Ordering::Relaxed)
    }

    /// Remembers what was left out of a layer until it is known which image it is of.
    pub(crate) fn note(&self, layer: &Digest, omissions: Omissions) {
        if !omissions.is_empty() {
            self.noted().push((layer.clone(), omissions));
        }
    }

    /// Says what was left out of an image.
    pub(crate) fn tell_omissions(&self, image: &str) {
        for (layer, omissions) in std::mem::take(&mut *self.noted()) {
            tracing::warn!("store: image {image}, layer {layer}: left out {omissions}");
        }
    }

    fn noted(&self) -> MutexGuard<'_, Vec<(Digest, Omissions)>> {
        // A panic elsewhere leaves the list as good as it was.
        self.omissions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.core.layout.is_read_only() {
            return;
        }
        let ended = self.core.db.remove(Durability::Ordered, |tx| {
            tx.execute("DELETE FROM leases WHERE id = ?1", [self.id])
                .map_err(Error::db("end a lease"))
        });
        if let Err(e) = ended {
            tracing::warn!(lease = self.id, "lease kept until this process ends: {e}");
        }
    }
}

impl Store {
    /// Begins a lease. Errors when the database cannot be written.
    pub fn lease(&self) -> Result<Lease> {
        Lease::begin(self.core())
    }
}

/// Puts a blob under a lease, whether it is there yet or not.
pub(crate) fn hold_blob(tx: &Connection, lease: i64, digest: &str) -> Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO lease_blobs(lease, digest) VALUES(?1, ?2)")
        .and_then(|mut statement| statement.execute(params![lease, digest]))
        .map_err(Error::db("hold a blob"))?;
    Ok(())
}

/// Puts a layer under a lease.
pub(crate) fn hold_layer(tx: &Connection, lease: i64, layer: i64) -> Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO lease_layers(lease, layer) VALUES(?1, ?2)")
        .and_then(|mut statement| statement.execute(params![lease, layer]))
        .map_err(Error::db("hold a layer"))?;
    Ok(())
}
