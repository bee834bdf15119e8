//! Whether the compressed blobs of layers are kept once they are unpacked (`keep_blobs`): peers are served from
//! them, images pushed and saved, and layers checked; who does none of that has a third of the space back.
//!
//! A blob that is not kept has its row still, with the size 0, and its real size in a table beside the schema, as
//! an earlier version can do without that: there such a blob is one whose file somebody has deleted. Must never
//! take a blob that a lease holds, that is no layer's, or whose layer is not unpacked.

use std::collections::HashSet;
use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use image::{Descriptor, Digest};
use rusqlite::{Connection, params};
use rustix::fs::{AtFlags, statat};

use crate::db::{Database, Durability, exists, signed, unsigned};
use crate::error::{Error, Result};
use crate::layer::ready_layer;
use crate::{Store, Usage, tree};

const DAY: u64 = 24 * 60 * 60;

/// How long the compressed blobs of layers are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeepBlobs {
    /// As long as their image.
    #[default]
    Always,
    /// Until they are unpacked: they are not even written.
    UntilUnpacked,
    /// So many days after they were fetched.
    Days(u32),
}

impl std::str::FromStr for KeepBlobs {
    type Err = String;

    /// `always`, `until-unpacked`, or a number of days, as `7d`.
    fn from_str(text: &str) -> std::result::Result<KeepBlobs, String> {
        match text {
            "always" => Ok(KeepBlobs::Always),
            "until-unpacked" => Ok(KeepBlobs::UntilUnpacked),
            days => match days.strip_suffix('d').and_then(|days| days.parse().ok()) {
                Some(0) => Ok(KeepBlobs::UntilUnpacked),
                Some(days) => Ok(KeepBlobs::Days(days)),
                None => Err(format!(
                    "{text:?} is none of always, until-unpacked, and a number of days such as 7d"
                )),
            },
        }
    }
}

/// The choice of a handle, which may change while it is used.
#[derive(Debug)]
pub(crate) struct Choice(AtomicU64);

impl Choice {
    pub(crate) fn new() -> Choice {
        Choice(AtomicU64::new(u64::MAX))
    }
}

/// Inodes and bytes are counted by triggers, as everywhere.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS dropped(
      digest TEXT PRIMARY KEY REFERENCES blobs(digest) ON DELETE CASCADE,
      size INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TRIGGER IF NOT EXISTS dropped_insert AFTER INSERT ON dropped BEGIN
      UPDATE blobs SET size = 0, unsettled = NULL WHERE digest = NEW.digest;
      UPDATE state SET value = value - 1 WHERE key = 'inodes';
    END;
    CREATE TRIGGER IF NOT EXISTS dropped_delete AFTER DELETE ON dropped
      BEGIN UPDATE state SET value = value + 1 WHERE key = 'inodes'; END;";

/// Makes room for them in a database that has none.
pub(crate) fn prepare(db: &Database) -> Result<()> {
    if db.read(has_table)? {
        return Ok(());
    }
    db.write(Durability::Ordered, |tx| {
        tx.execute_batch(TABLE)
            .map_err(Error::db("make room for what is not kept"))
    })
}

fn has_table(db: &Connection) -> Result<bool> {
    exists(
        db,
        "SELECT 1 FROM sqlite_schema WHERE name = 'dropped'",
        &[],
    )
}

/// The blobs that are not kept.
pub(crate) fn dropped(db: &Connection) -> Result<HashSet<String>> {
    match has_table(db)? {
        true => Ok(crate::gc::strings(db, "SELECT digest FROM dropped")?
            .into_iter()
            .collect()),
        false => Ok(HashSet::new()),
    }
}

/// Whether a blob is one that is not kept.
pub(crate) fn is_dropped(db: &Connection, digest: &str) -> Result<bool> {
    Ok(has_table(db)? && exists(db, "SELECT 1 FROM dropped WHERE digest = ?1", &[&digest])?)
}

/// Records a blob that was seen, and is not kept. Its row is made if there is none.
pub(crate) fn record_dropped(tx: &Connection, digest: &str, size: u64) -> Result<()> {
    let record = || {
        tx.execute_batch(TABLE)?;
        tx.execute(
            "INSERT OR IGNORE INTO blobs(digest, size) VALUES(?1, 0)",
            [digest],
        )?;
        tx.execute(
            "INSERT OR IGNORE INTO dropped(digest, size) VALUES(?1, ?2)",
            params![digest, signed(size)],
        )
    };
    record().map_err(Error::db("record a blob that is not kept"))?;
    Ok(())
}

/// A blob that was not kept is there again.
pub(crate) fn kept_again(tx: &Connection, blob: &Descriptor, mark: &str) -> Result<()> {
    let again = || {
        let mut delete = tx.prepare_cached("DELETE FROM dropped WHERE digest = ?1")?;
        if delete.execute([blob.digest.to_string()])? > 0 {
            tx.execute(
                "UPDATE blobs SET size = ?2, unsettled = ?3 WHERE digest = ?1",
                params![blob.digest.to_string(), signed(blob.size), mark],
            )?;
        }
        Ok(())
    };
    again().map_err(Error::db("record a blob"))
}

impl Store {
    /// Sets how long the compressed blobs of layers are kept: of those that this handle adds, and of all at
    /// its next [`gc`](Store::gc).
    pub fn set_keep_blobs(&self, keep: KeepBlobs) {
        let days = match keep {
            KeepBlobs::Always => u64::MAX,
            KeepBlobs::UntilUnpacked => 0,
            KeepBlobs::Days(days) => days.into(),
        };
        self.choice().0.store(days, Ordering::Relaxed);
    }

    /// How long the compressed blobs of layers are kept.
    pub fn keep_blobs(&self) -> KeepBlobs {
        match self.choice().0.load(Ordering::Relaxed) {
            u64::MAX => KeepBlobs::Always,
            0 => KeepBlobs::UntilUnpacked,
            days => KeepBlobs::Days(u32::try_from(days).unwrap_or(u32::MAX)),
        }
    }

    /// Whether a blob was here and is not kept: what needs it has to say so.
    pub fn is_blob_dropped(&self, digest: &Digest) -> Result<bool> {
        self.db().read(|db| is_dropped(db, &digest.to_string()))
    }

    /// Drops the blobs that are not to be kept any longer, and returns what that freed.
    pub(crate) fn release_blobs(&self) -> Result<Usage> {
        let age = match self.keep_blobs() {
            KeepBlobs::Always => return Ok(Usage::default()),
            KeepBlobs::UntilUnpacked => Duration::ZERO,
            KeepBlobs::Days(days) => Duration::from_secs(u64::from(days) * DAY),
        };
        let mut blobs = Vec::new();
        for (manifest, config) in self.db().read(manifests)? {
            for (blob, diff_id) in self.layers_in(&manifest, &config) {
                if self.is_older(&blob.digest, age) {
                    blobs.push((blob, diff_id));
                }
            }
        }
        if blobs.is_empty() {
            return Ok(Usage::default());
        }
        // What they were unpacked to must outlast a power cut before they go.
        self.core().settle()?;
        let released = self.db().remove(Durability::Durable, |tx| {
            let mut released = Vec::new();
            for (blob, diff_id) in &blobs {
                if let Some(size) = releasable(tx, blob, diff_id)? {
                    record_dropped(tx, &blob.digest.to_string(), size)?;
                    released.push((blob, size));
                }
            }
            Ok(released)
        })?;
        let mut freed = Usage::default();
        for (blob, size) in released {
            if self.unlink_dropped(&blob.digest)? {
                freed += Usage {
                    bytes: size,
                    inodes: 1,
                };
            }
        }
        Ok(freed)
    }

    fn is_older(&self, digest: &Digest, age: Duration) -> bool {
        let dir = self.layout().blobs(digest.algorithm());
        let Ok(stat) = statat(dir, digest.hex(), AtFlags::SYMLINK_NOFOLLOW) else {
            return false;
        };
        let written = Duration::from_secs(unsigned(stat.st_mtime));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.is_ok_and(|now| now >= written + age)
    }

    /// Removes the file, in a transaction that has seen that nobody wants it again.
    fn unlink_dropped(&self, digest: &Digest) -> Result<bool> {
        let name = CString::new(digest.hex()).unwrap_or_default();
        self.db().remove(Durability::Ordered, |tx| {
            let text = digest.to_string();
            let gone = is_dropped(tx, &text)? && !is_leased(tx, &text)?;
            if gone {
                let dir = self.layout().blobs(digest.algorithm());
                tree::remove(self.layout(), dir, &name)
                    .map_err(Error::sys("remove", self.blob_path(digest)))?;
            }
            Ok(gone)
        })
    }
}

/// The size of a blob of a layer that is unpacked, and on disk for good, when no lease holds it.
fn releasable(tx: &Connection, blob: &Descriptor, diff_id: &Digest) -> Result<Option<u64>> {
    const SETTLED: &str =
        "SELECT 1 FROM layers WHERE diff_id = ?1 AND ready = 1 AND unsettled IS NULL";
    let digest = blob.digest.to_string();
    let Some(size) = crate::blob::blob_size(tx, &digest)? else {
        return Ok(None);
    };
    let unpacked =
        ready_layer(tx, diff_id)?.is_some() && exists(tx, SETTLED, &[&diff_id.to_string()])?;
    let free = !is_leased(tx, &digest)? && !is_a_file(tx, &digest)?;
    // One whose file outlived a crash between the row and the file is tried again.
    let size = match is_dropped(tx, &digest)? {
        true => 0,
        false => size,
    };
    Ok((unpacked && free).then_some(size))
}

/// Is it one of the blobs of an artifact, whose id is its manifest's?
fn is_a_file(db: &Connection, digest: &str) -> Result<bool> {
    exists(
        db,
        "SELECT 1 FROM manifest_blobs b JOIN manifests m ON m.digest = b.manifest
         WHERE b.blob = ?1 AND m.digest LIKE '%:' || m.image",
        &[&digest],
    )
}

fn is_leased(db: &Connection, digest: &str) -> Result<bool> {
    exists(
        db,
        "SELECT 1 FROM lease_blobs WHERE digest = ?1",
        &[&digest],
    )
}

fn manifests(db: &Connection) -> Result<Vec<(String, Vec<u8>)>> {
    const MANIFESTS: &str = "
        SELECT m.digest, i.config FROM manifests m JOIN images i ON i.id = m.image";
    let read = || {
        let mut statement = db.prepare(MANIFESTS)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("read the manifests"))
}
