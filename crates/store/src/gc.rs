//! Garbage collection: what no image, no writable layer and no live lease reaches.
//!
//! What loses an image, a container or a lease is loose (triggers of the database see to that), and
//! only loose things are looked at: the cost does not depend on the size of the store. After a boot,
//! when a power cut may have lost rows, everything is looked at once.
//!
//! First the rows go, durably; then the files. Must never unlink a file outside a write
//! transaction that has seen that nobody claims it: another process may be adding the same blob.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::BorrowedFd;

use image::{Algorithm, Digest};
use rusqlite::Connection;
use rustix::fs::renameat;
use rustix::io::Errno;

use crate::db::{Durability, exists, quick_check, state, unsigned};
use crate::error::{Error, Result};
use crate::layer::forms;
use crate::layout::EMPTY_LAYER;
use crate::owner::Owner;
use crate::{Core, Store, Usage, cache, records, reserve, restore, tree, working_container};

/// How much of the store to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// What is loose.
    Loose,
    /// Every row, and every name in the directories.
    All,
}

/// Held, shared, by whoever is between the rows and the files of what is removed.
pub(crate) const REMOVAL: &str = "tmp";

impl Store {
    /// Removes what is unreachable and returns what that freed, when the space is free.
    ///
    /// Blobs that are [not to be kept](Store::set_keep_blobs) any longer go too. Safe at any time, also while other processes pull or start containers, and on a full disk.
    pub fn gc(&self) -> Result<Usage> {
        self.clear_mounts()?;
        self.clear_working_layers()?;
        self.clear_half_made_working()?;
        if let Err(error) = self.clear_layer_mounts() {
            tracing::warn!("store: mounts of layers that nothing stands on stay: {error}");
        }
        let mut freed = self.core().gc()?;
        freed += self.release_blobs()?;
        self.tidy();
        Ok(freed)
    }

    /// As [`gc`](Store::gc), and removes whatever lies in the store's directories and belongs to nothing.
    pub(crate) fn gc_all(&self) -> Result<Usage> {
        let freed = self.core().collect(Reach::All)?;
        self.tidy();
        Ok(freed)
    }

    /// What a full disk kept from being written is written now.
    fn tidy(&self) {
        reserve::keep(self.layout());
        if let Err(error) = self.write_index_soon() {
            tracing::warn!("store: index.json is not up to date: {error}");
        }
    }
}

impl Core {
    pub(crate) fn gc(&self) -> Result<Usage> {
        match self.db.read(|db| state(db, "walk"))? {
            0 => self.collect(Reach::Loose),
            _ => self.collect(Reach::All),
        }
    }

    /// Whether a process that was killed has left something for the next collection.
    pub(crate) fn has_leftovers(&self) -> Result<bool> {
        const LOOSE: &str = "SELECT 1 FROM loose_layers UNION ALL SELECT 1 FROM loose_blobs";
        self.db
            .read(|db| Ok(exists(db, LOOSE, &[])? || !self.dead_leases(db)?.is_empty()))
    }

    fn collect(&self, reach: Reach) -> Result<Usage> {
        let _removing = self.layout.lock_shared(REMOVAL);
        let freed = self.db.remove(Durability::Durable, |tx| {
            self.end_dead_leases(tx)?;
            self.forget_lost_containers(tx)?;
            // A container whose row was lost goes on standing on its layers.
            restore::containers(tx, &self.layout, false)?;
            if reach == Reach::All {
                quick_check(tx)?;
                tx.execute_batch(LOOSEN_ALL)
                    .map_err(Error::db("look at everything"))?;
            }
            sweep(tx)
        })?;
        let mut doomed = Vec::new();
        self.db.remove(Durability::Ordered, |tx| {
            self.move_loose(tx, &mut doomed)?;
            if reach == Reach::All {
                self.move_unclaimed(tx, &mut doomed)?;
            }
            tx.execute_batch(if reach == Reach::All {
                WALKED
            } else {
                LOOKED_AT
            })
            .map_err(Error::db("note what was collected"))
        })?;
        for name in doomed {
            if let Err(e) = tree::remove(&self.layout, self.layout.tmp(), &name) {
                let path = self.layout.temp_path(&name.to_string_lossy());
                tracing::warn!(path = %path.display(), "store: cannot be removed: {e}");
            }
        }
        Ok(freed)
    }

    fn end_dead_leases(&self, tx: &Connection) -> Result<()> {
        for id in self.dead_leases(tx)? {
            tx.execute("DELETE FROM leases WHERE id = ?1", [id])
                .map_err(Error::db("end a lease"))?;
        }
        Ok(())
    }

    /// The leases whose process has ended.
    pub(crate) fn dead_leases(&self, db: &Connection) -> Result<Vec<i64>> {
        let leases = || {
            let mut statement = db.prepare_cached("SELECT id, owner FROM leases")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()
        };
        let leases = leases().map_err(Error::db("read the leases"))?;
        let is_dead = |owner: &str| {
            owner != cache::OWNER
                && !working_container::holds(&self.layout, owner)
                && !Owner::parse(owner).is_some_and(|owner| owner.is_alive(self.layout.owner()))
        };
        let dead = leases.into_iter().filter(|(_, owner)| is_dead(owner));
        Ok(dead.map(|(id, _)| id).collect())
    }

    /// A writable layer whose removal was cut off has a row, but no directory.
    fn forget_lost_containers(&self, tx: &Connection) -> Result<()> {
        let known = strings(tx, "SELECT id FROM containers")?;
        let present: HashSet<String> = self.layout.container_ids()?.into_iter().collect();
        for id in known.into_iter().filter(|id| !present.contains(id)) {
            tx.execute("DELETE FROM containers WHERE id = ?1", [id])
                .map_err(Error::db("forget a container"))?;
        }
        Ok(())
    }

    /// Moves the loose blobs and layers that nobody claims to `tmp/`; the caller holds the write lock.
    fn move_loose(&self, tx: &Connection, doomed: &mut Vec<CString>) -> Result<()> {
        const LAYERS: &str = "
            SELECT CAST(id AS TEXT) FROM loose_layers WHERE id NOT IN (SELECT id FROM layers)";
        const CONVERTED: &str = "
            SELECT id FROM loose_layers WHERE id IN (SELECT id FROM layers WHERE ready = 1)";
        const BLOBS: &str = "
            SELECT digest FROM loose_blobs WHERE
              NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.digest = loose_blobs.digest)
              AND NOT EXISTS (SELECT 1 FROM lease_blobs WHERE lease_blobs.digest = loose_blobs.digest)";
        let layout = &self.layout;
        for layer in strings(tx, LAYERS)? {
            let id = layer.parse().unwrap_or_default();
            for form in forms::ALL {
                self.move_away(layout.layers(), forms::name(id, form), doomed)?;
            }
            records::drop_layer(layout, &layer);
        }
        // One that was given another form was loose, too.
        for id in numbers(tx, CONVERTED)? {
            let form = forms::of(tx, id)?;
            for other in forms::ALL.into_iter().filter(|other| *other != form) {
                self.move_away(layout.layers(), forms::name(id, other), doomed)?;
            }
        }
        for blob in strings(tx, BLOBS)? {
            let digest = Digest::parse(&blob).map_err(|source| Error::Damaged {
                id: blob,
                field: "digest",
                source: Box::new(source),
            })?;
            self.move_away(layout.blobs(digest.algorithm()), digest.hex(), doomed)?;
        }
        Ok(())
    }

    /// Moves whatever has no row to `tmp/`; the caller holds the write lock.
    fn move_unclaimed(&self, tx: &Connection, doomed: &mut Vec<CString>) -> Result<()> {
        let layout = &self.layout;
        let layers = claimed_layers(tx)?;
        self.move_others(layout.layers(), &layers, doomed)?;
        for (id, _) in records::layers(layout)? {
            let mut names = forms::ALL.iter().map(|form| forms::name(id, *form));
            if !names.any(|name| layers.contains(&name)) {
                records::drop_layer(layout, &id.to_string());
            }
        }
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let claimed = claimed_blobs(tx, algorithm)?;
            self.move_others(layout.blobs(algorithm), &claimed, doomed)?;
        }
        Ok(())
    }

    fn move_others(
        &self,
        dir: BorrowedFd<'_>,
        claimed: &HashSet<String>,
        doomed: &mut Vec<CString>,
    ) -> Result<()> {
        let root = self.layout.path();
        for name in tree::names(dir).map_err(Error::sys("read the directories of", root))? {
            if !name.to_str().is_ok_and(|name| claimed.contains(name)) {
                self.move_away(dir, name.as_c_str(), doomed)?;
            }
        }
        Ok(())
    }

    /// Moves something to `tmp/`; that it is gone already is no error.
    fn move_away(
        &self,
        dir: BorrowedFd<'_>,
        name: impl rustix::path::Arg,
        doomed: &mut Vec<CString>,
    ) -> Result<()> {
        let new = self.layout.temp_name();
        let name = name
            .into_c_str()
            .map_err(Error::sys("rename", self.layout.path()))?;
        let rename = || renameat(dir, &*name, self.layout.tmp(), &new);
        let renamed = match rename() {
            // A directory that gets another entry may need another block.
            Err(Errno::NOSPC | Errno::DQUOT) if reserve::give_up(&self.layout) => rename(),
            other => other,
        };
        match renamed {
            Ok(()) => doomed.extend(CString::new(new)),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::sys("rename to", self.layout.temp_path(&new))(e)),
        }
        Ok(())
    }
}

/// Everything is loose.
const LOOSEN_ALL: &str = "
    INSERT OR IGNORE INTO loose_layers SELECT id FROM layers;
    INSERT OR IGNORE INTO loose_blobs SELECT digest FROM blobs;
";
/// What is still there of the loose is in use, or will be loose again when its lease ends.
const LOOKED_AT: &str = "DELETE FROM loose_layers; DELETE FROM loose_blobs;";
const WALKED: &str = "
    DELETE FROM loose_layers; DELETE FROM loose_blobs;
    UPDATE state SET value = 0 WHERE key = 'walk';
";

/// The names in `layers/` that somebody claims.
pub(crate) fn claimed_layers(tx: &Connection) -> Result<HashSet<String>> {
    let mut claimed = HashSet::from([EMPTY_LAYER.to_owned()]);
    for id in numbers(tx, "SELECT id FROM layers WHERE ready = 1")? {
        claimed.insert(forms::name(id, forms::of(tx, id)?));
    }
    // Of what is not ready nothing is known.
    for id in numbers(tx, "SELECT id FROM layers WHERE ready = 0")? {
        claimed.extend(forms::ALL.map(|form| forms::name(id, form)));
    }
    Ok(claimed)
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

fn numbers(db: &Connection, sql: &str) -> Result<Vec<i64>> {
    let read = || {
        let mut statement = db.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("read what is in use"))
}

pub(crate) fn strings(db: &Connection, sql: &str) -> Result<Vec<String>> {
    let read = || {
        let mut statement = db.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("read what is in use"))
}

/// Deletes the rows of the loose layers and blobs that are unreachable, and sums what they stand for.
fn sweep(tx: &Connection) -> Result<Usage> {
    const LAYERS: &str = "
        DELETE FROM layers WHERE id IN (SELECT id FROM loose_layers)
          AND NOT EXISTS (SELECT 1 FROM image_layers WHERE layer = layers.id)
          AND NOT EXISTS (SELECT 1 FROM container_layers WHERE layer = layers.id)
          AND NOT EXISTS (SELECT 1 FROM lease_layers WHERE layer = layers.id)
          AND (ready = 1 OR NOT EXISTS (SELECT 1 FROM leases WHERE leases.id = layers.lease))
        RETURNING bytes, inodes";
    const BLOBS: &str = "
        DELETE FROM blobs WHERE digest IN (SELECT digest FROM loose_blobs)
          AND NOT EXISTS (SELECT 1 FROM manifest_blobs WHERE blob = blobs.digest)
          AND NOT EXISTS (SELECT 1 FROM lease_blobs WHERE lease_blobs.digest = blobs.digest)
        RETURNING size, 1";
    let mut freed = Usage::default();
    for sql in [LAYERS, BLOBS] {
        let rows = || {
            let mut statement = tx.prepare_cached(sql)?;
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
