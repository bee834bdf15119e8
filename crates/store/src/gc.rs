//! Garbage collection: what no image, no writable layer and no live lease reaches.
//!
//! First the rows go, durably; then whatever has no row. Must never unlink a file outside a write
//! transaction that has seen that nobody claims it: another process may be adding the same blob.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::BorrowedFd;

use image::Algorithm;
use rusqlite::Connection;
use rustix::fs::renameat;
use rustix::io::Errno;

use crate::db::{Durability, unsigned};
use crate::error::{Error, Result};
use crate::layout::EMPTY_LAYER;
use crate::owner::Owner;
use crate::{Store, Usage, tree};

impl Store {
    /// Removes what is unreachable and returns what that freed.
    ///
    /// Safe at any time, also while other processes pull or start containers.
    pub fn gc(&self) -> Result<Usage> {
        let freed = self.db().write(Durability::Durable, |tx| {
            self.end_dead_leases(tx)?;
            self.forget_lost_containers(tx)?;
            sweep(tx)
        })?;
        self.forget_configs()?;
        let doomed = self
            .db()
            .write(Durability::Ordered, |tx| self.move_unclaimed(tx))?;
        for name in doomed {
            if let Err(e) = tree::remove(self.layout(), self.layout().tmp(), &name) {
                let path = self.layout().temp_path(&name.to_string_lossy());
                tracing::warn!(path = %path.display(), "store: cannot be removed: {e}");
            }
        }
        Ok(freed)
    }

    fn end_dead_leases(&self, tx: &Connection) -> Result<()> {
        let leases = || {
            let mut statement = tx.prepare("SELECT id, owner FROM leases")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()
        };
        for (id, owner) in leases().map_err(Error::db("read the leases"))? {
            let alive =
                Owner::parse(&owner).is_some_and(|owner| owner.is_alive(self.layout().owner()));
            if !alive {
                tx.execute("DELETE FROM leases WHERE id = ?1", [id])
                    .map_err(Error::db("end a lease"))?;
            }
        }
        Ok(())
    }

    /// A writable layer whose removal was cut off has a row, but no directory.
    fn forget_lost_containers(&self, tx: &Connection) -> Result<()> {
        let known = strings(tx, "SELECT id FROM containers")?;
        let present: HashSet<String> = self.rw_ids()?.into_iter().collect();
        for id in known.into_iter().filter(|id| !present.contains(id)) {
            tx.execute("DELETE FROM containers WHERE id = ?1", [id])
                .map_err(Error::db("forget a container"))?;
        }
        Ok(())
    }

    fn forget_configs(&self) -> Result<()> {
        let images = self.db().read(|db| strings(db, "SELECT id FROM images"))?;
        let images: HashSet<String> = images.into_iter().collect();
        self.configs().retain(|id| images.contains(id));
        Ok(())
    }

    /// Moves blobs and layers without a row to `tmp/`; the caller holds the write lock.
    fn move_unclaimed(&self, tx: &Connection) -> Result<Vec<CString>> {
        let mut doomed = Vec::new();
        let layout = self.layout();
        self.move_others(layout.layers(), &claimed_layers(tx)?, &mut doomed)?;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let claimed = claimed_blobs(tx, algorithm)?;
            self.move_others(layout.blobs(algorithm), &claimed, &mut doomed)?;
        }
        Ok(doomed)
    }

    fn move_others(
        &self,
        dir: BorrowedFd<'_>,
        claimed: &HashSet<String>,
        doomed: &mut Vec<CString>,
    ) -> Result<()> {
        let root = self.root();
        for name in tree::names(dir).map_err(Error::sys("read the directories of", root))? {
            if name.to_str().is_ok_and(|name| claimed.contains(name)) {
                continue;
            }
            let new = self.layout().temp_name();
            match renameat(dir, &name, self.layout().tmp(), &new) {
                Ok(()) => doomed.extend(CString::new(new)),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(Error::sys("rename to", self.layout().temp_path(&new))(e)),
            }
        }
        Ok(())
    }
}

/// The names in `layers/` that somebody claims.
pub(crate) fn claimed_layers(tx: &Connection) -> Result<HashSet<String>> {
    let layers = strings(tx, "SELECT CAST(id AS TEXT) FROM layers")?;
    Ok(layers.into_iter().chain([EMPTY_LAYER.to_owned()]).collect())
}

/// The names in a directory of blobs that somebody claims, whether they are there yet or not.
pub(crate) fn claimed_blobs(tx: &Connection, algorithm: Algorithm) -> Result<HashSet<String>> {
    let blobs = strings(
        tx,
        "SELECT digest FROM blobs UNION SELECT digest FROM lease_blobs",
    )?;
    let prefix = format!("{algorithm}:");
    let hex = blobs
        .iter()
        .filter_map(|digest| digest.strip_prefix(&prefix));
    Ok(hex.map(str::to_owned).collect())
}

pub(crate) fn strings(db: &Connection, sql: &str) -> Result<Vec<String>> {
    let read = || {
        let mut statement = db.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("read what is in use"))
}

/// Deletes the rows of unreachable layers and blobs, and sums what they stand for.
fn sweep(tx: &Connection) -> Result<Usage> {
    const LAYERS: &str = "
        DELETE FROM layers WHERE
          NOT EXISTS (SELECT 1 FROM image_layers WHERE layer = layers.id)
          AND NOT EXISTS (SELECT 1 FROM container_layers WHERE layer = layers.id)
          AND NOT EXISTS (SELECT 1 FROM lease_layers WHERE layer = layers.id)
          AND (ready = 1 OR lease NOT IN (SELECT id FROM leases))
        RETURNING bytes, inodes";
    const BLOBS: &str = "
        DELETE FROM blobs WHERE
          NOT EXISTS (SELECT 1 FROM manifest_blobs WHERE blob = blobs.digest)
          AND digest NOT IN (SELECT digest FROM lease_blobs)
        RETURNING size, 1";
    let mut freed = Usage::default();
    for sql in [LAYERS, BLOBS] {
        let rows = || {
            let mut statement = tx.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(Usage {
                    bytes: unsigned(row.get(0)?),
                    inodes: unsigned(row.get(1)?),
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<Usage>>>()
        };
        for usage in rows().map_err(Error::db("sweep"))? {
            freed += usage;
        }
    }
    Ok(freed)
}
