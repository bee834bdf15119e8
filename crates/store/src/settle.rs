//! When what was added is on disk for good, and what a power cut leaves.
//!
//! A pull does not wait for the disk. Blobs and layers are recorded with a mark and count only in
//! the boot they were added in, until [`Store::settle`] has flushed them and takes the mark off. The
//! first open after a boot forgets what was not settled, and all images made of it: the old or the
//! new, never half. Must never take a mark off that was set after the flush began.

use rusqlite::{Connection, OptionalExtension};
use rustix::fs::syncfs;

use crate::db::Durability;
use crate::error::{Error, Result};
use crate::layout::OCI_LAYOUT;
use crate::{Core, Store};

impl Store {
    /// Waits until all that was added is on disk: it survives a power cut from then on. Names are in
    /// `index.json` then, too.
    ///
    /// [`put_image`](Store::put_image) starts this in the background, and dropping the last handle
    /// waits for it, so that calling it is never needed for safety.
    pub fn settle(&self) -> Result<()> {
        self.core().write_index()?;
        self.core().settle()
    }

    /// Begins to settle in the background, if there is anything to be settled.
    pub(crate) fn settle_soon(&self) -> Result<()> {
        if !self.db().read(unsettled)?.is_empty() {
            self.0.background.settle();
        }
        Ok(())
    }
}

impl Core {
    pub(crate) fn settle(&self) -> Result<()> {
        let marks = self.db.read(unsettled)?;
        if marks.is_empty() {
            return Ok(());
        }
        syncfs(self.layout.root()).map_err(Error::sys("syncfs", self.layout.path()))?;
        self.db
            .remove(Durability::Durable, |tx| settled(tx, &marks))
    }

    /// At the first open after a boot, forgets what was added and not settled before it.
    pub(crate) fn recover(&self) -> Result<()> {
        let boot = self.layout.owner().boot();
        let same = |db: &Connection| Ok(last_boot(db)?.as_deref() == Some(boot));
        if self.db.read(same)? {
            return Ok(());
        }
        self.db.remove(Durability::Durable, |tx| {
            if last_boot(tx)?.as_deref() == Some(boot) {
                return Ok(());
            }
            let forget = || {
                tx.execute_batch(FORGET)?;
                tx.execute("INSERT INTO boots(id) VALUES(?1)", [boot])
            };
            forget().map_err(Error::db("forget what a power cut may have damaged"))?;
            self.mark()
        })
    }

    /// Says in the directory that it is an image layout. One on a full disk goes without until there is
    /// space: nothing here reads it.
    fn mark(&self) -> Result<()> {
        const NAME: &str = "oci-layout";
        if std::fs::read(self.layout.path().join(NAME)).is_ok_and(|bytes| bytes == OCI_LAYOUT) {
            return Ok(());
        }
        match self.layout.write_file(NAME, OCI_LAYOUT) {
            Err(error) if error.is_no_space() => {
                tracing::warn!("store: {error}");
                Ok(())
            }
            other => other,
        }
    }
}

/// Forgets what has a mark: its boot is over. The files have no row then, and others may have lost
/// theirs, or their place among the loose: the next gc looks at everything.
const FORGET: &str = "
CREATE TEMP TABLE lost_layers AS SELECT id FROM main.layers WHERE unsettled IS NOT NULL;
DELETE FROM leases WHERE owner <> 'build-cache'
  OR id IN (SELECT lease FROM lease_layers WHERE layer IN temp.lost_layers)
  OR id IN (SELECT lease FROM lease_blobs JOIN blobs ON blobs.digest = lease_blobs.digest
            WHERE unsettled IS NOT NULL);
DELETE FROM containers WHERE id IN
  (SELECT container FROM container_layers WHERE layer IN temp.lost_layers);
DELETE FROM images WHERE id IN (SELECT image FROM image_layers WHERE layer IN temp.lost_layers);
DELETE FROM manifests WHERE digest IN
  (SELECT manifest FROM manifest_blobs JOIN blobs ON blob = blobs.digest WHERE unsettled IS NOT NULL);
DELETE FROM images WHERE id NOT IN (SELECT image FROM manifests);
UPDATE images SET manifest = (SELECT digest FROM manifests WHERE image = images.id)
  WHERE manifest NOT IN (SELECT digest FROM manifests);
DELETE FROM layers WHERE id IN temp.lost_layers;
DELETE FROM blobs WHERE unsettled IS NOT NULL;
DROP TABLE temp.lost_layers;
UPDATE state SET value = value + 1 WHERE key = 'names';
UPDATE state SET value = 1 WHERE key = 'walk';
DELETE FROM boots;
";

pub(crate) fn last_boot(db: &Connection) -> Result<Option<String>> {
    db.query_row("SELECT id FROM boots", [], |row| row.get(0))
        .optional()
        .map_err(Error::db("read the last boot"))
}

fn unsettled(db: &Connection) -> Result<Vec<String>> {
    const MARKS: &str = "
        SELECT unsettled FROM blobs WHERE unsettled IS NOT NULL
        UNION ALL SELECT unsettled FROM layers WHERE unsettled IS NOT NULL";
    let read = || {
        let mut statement = db.prepare_cached(MARKS)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("look for what is not settled"))
}

fn settled(tx: &Connection, marks: &[String]) -> Result<()> {
    let settle = || {
        let mut blob =
            tx.prepare_cached("UPDATE blobs SET unsettled = NULL WHERE unsettled = ?1")?;
        let mut layer =
            tx.prepare_cached("UPDATE layers SET unsettled = NULL WHERE unsettled = ?1")?;
        for mark in marks {
            blob.execute([mark])?;
            layer.execute([mark])?;
        }
        Ok(())
    };
    settle().map_err(Error::db("mark what is settled"))
}
