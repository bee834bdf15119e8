//! What later builds find again: layers by a key of whoever made them, with a few words of its own.
//!
//! An entry holds its layer and blob by a lease that no process owns, so that they stay when the images are gone; to
//! an earlier version such a lease is a dead one, and the entry is found no more. Must never answer with a layer
//! that is gone.

use std::time::{Duration, SystemTime};

use image::Digest;
use rusqlite::{Connection, OptionalExtension, params};

use crate::Store;
use crate::blob::blob_size;
use crate::db::{Durability, exists, signed};
use crate::error::{Error, Result};
use crate::layer::ready_layer;
use crate::lease::{Lease, hold_blob, hold_layer};

/// The owner of the leases of entries.
pub(crate) const OWNER: &str = "build-cache";

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS build_cache(
      key TEXT PRIMARY KEY,
      lease INTEGER NOT NULL,
      words BLOB NOT NULL,
      blob TEXT,
      layer TEXT,
      made INTEGER NOT NULL,
      used INTEGER NOT NULL) STRICT, WITHOUT ROWID";

impl Store {
    /// Remembers what was made for `key`, in place of what was before: words, and perhaps a layer by its diff_id and
    /// blob, which are there.
    pub fn remember(
        &self,
        key: &Digest,
        words: &[u8],
        layer: Option<(&Digest, &Digest)>,
    ) -> Result<()> {
        self.db().write(Durability::Ordered, |tx| {
            let failed = || Error::db("remember what was built");
            tx.execute_batch(TABLE).map_err(failed())?;
            let key = key.to_string();
            forget(tx, &key)?;
            tx.execute("INSERT INTO leases(owner) VALUES(?1)", [OWNER])
                .map_err(failed())?;
            let lease = tx.last_insert_rowid();
            let mut texts = (None, None);
            if let Some((diff_id, blob)) = layer {
                let Some((id, _)) = ready_layer(tx, diff_id)? else {
                    return forget_lease(tx, lease);
                };
                hold_layer(tx, lease, id)?;
                hold_blob(tx, lease, &blob.to_string())?;
                texts = (Some(blob.to_string()), Some(diff_id.to_string()));
            }
            tx.execute(
                "INSERT INTO build_cache VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                params![key, lease, words, texts.0, texts.1, now()],
            )
            .map_err(failed())?;
            Ok(())
        })
    }

    /// What was remembered for `key`, at most so long ago; its layer and blob stay at least as long as `lease`.
    pub fn remembered(
        &self,
        lease: &Lease,
        key: &Digest,
        within: Option<Duration>,
    ) -> Result<Option<Vec<u8>>> {
        if !self.db().read(has_table)? {
            return Ok(None);
        }
        let since = within.map_or(i64::MIN, |within| {
            now().saturating_sub(signed(within.as_secs()))
        });
        self.db().write(Durability::Ordered, |tx| {
            let key = key.to_string();
            let Some(entry) = find(tx, &key, since)? else {
                return Ok(None);
            };
            if let (Some(blob), Some(layer)) = (&entry.blob, &entry.layer) {
                let diff_id = Digest::parse(layer).ok();
                let ready = diff_id
                    .map(|diff_id| ready_layer(tx, &diff_id))
                    .transpose()?;
                let (Some((id, _)), true) = (ready.flatten(), blob_size(tx, blob)?.is_some())
                else {
                    forget(tx, &key)?;
                    return Ok(None);
                };
                hold_layer(tx, lease.id(), id)?;
                hold_blob(tx, lease.id(), blob)?;
            }
            tx.execute(
                "UPDATE build_cache SET used = ?2 WHERE key = ?1",
                params![key, now()],
            )
            .map_err(Error::db("note what was used"))?;
            Ok(Some(entry.words))
        })
    }

    /// Forgets what nobody has asked for in so long; how many entries. What they held goes with the next collection.
    pub fn forget_unused(&self, age: Duration) -> Result<usize> {
        if !self.db().read(has_table)? {
            return Ok(0);
        }
        let before = now().saturating_sub(signed(age.as_secs()));
        self.db().remove(Durability::Ordered, |tx| {
            let old = || {
                let mut statement = tx.prepare("SELECT key FROM build_cache WHERE used <= ?1")?;
                let rows = statement.query_map([before], |row| row.get(0))?;
                rows.collect::<rusqlite::Result<Vec<String>>>()
            };
            let old = old().map_err(Error::db("look for what is unused"))?;
            for key in &old {
                forget(tx, key)?;
            }
            Ok(old.len())
        })
    }
}

struct Entry {
    words: Vec<u8>,
    blob: Option<String>,
    layer: Option<String>,
}

fn find(tx: &Connection, key: &str, since: i64) -> Result<Option<Entry>> {
    const ENTRY: &str = "SELECT words, blob, layer FROM build_cache WHERE key = ?1 AND made >= ?2";
    tx.prepare_cached(ENTRY)
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Entry {
                    words: row.get(0)?,
                    blob: row.get(1)?,
                    layer: row.get(2)?,
                })
            };
            statement.query_row(params![key, since], read).optional()
        })
        .map_err(Error::db("look for what was built"))
}

fn forget(tx: &Connection, key: &str) -> Result<()> {
    let lease: Option<i64> = tx
        .prepare_cached("DELETE FROM build_cache WHERE key = ?1 RETURNING lease")
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
        .map_err(Error::db("forget what was built"))?;
    lease.map_or(Ok(()), |lease| forget_lease(tx, lease))
}

fn forget_lease(tx: &Connection, lease: i64) -> Result<()> {
    tx.execute(
        "DELETE FROM leases WHERE id = ?1 AND owner = ?2",
        params![lease, OWNER],
    )
    .map_err(Error::db("end a lease"))?;
    Ok(())
}

fn has_table(db: &Connection) -> Result<bool> {
    exists(
        db,
        "SELECT 1 FROM sqlite_schema WHERE name = 'build_cache'",
        &[],
    )
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| signed(now.as_secs()))
}
