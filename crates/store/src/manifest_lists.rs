//! Manifest lists that are being put together, by name. The store keeps them and does not look into
//! them: they may point at images elsewhere.
//!
//! Must never let two writers overwrite each other: a change says what it changes.

use rusqlite::{OptionalExtension, params};

use crate::Store;
use crate::db::Durability;
use crate::error::{Error, Result};

impl Store {
    /// The list of this name, as it was given to [`swap_list`](Store::swap_list).
    pub fn list(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.db().read(|db| {
            db.prepare_cached("SELECT document FROM lists WHERE name = ?1")
                .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
                .map_err(Error::db("read a manifest list"))
        })
    }

    /// The names of all lists, sorted.
    pub fn lists(&self) -> Result<Vec<String>> {
        self.db().read(|db| {
            let read = || {
                let mut statement = db.prepare_cached("SELECT name FROM lists ORDER BY name")?;
                let rows = statement.query_map([], |row| row.get(0))?;
                rows.collect::<rusqlite::Result<_>>()
            };
            read().map_err(Error::db("read the manifest lists"))
        })
    }

    /// Makes a list of `old` into `new`, where `None` is a list that is not there. `false`, and nothing
    /// happens, when it is not `old` any more.
    pub fn swap_list(&self, name: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        let changed = self.db().write(Durability::Durable, |tx| {
            let change = || match (old, new) {
                (None, None) => tx
                    .query_row(
                        "SELECT count(*) = 0 FROM lists WHERE name = ?1",
                        [name],
                        |row| row.get::<_, bool>(0),
                    )
                    .map(usize::from),
                (None, Some(new)) => tx.execute(
                    "INSERT OR IGNORE INTO lists(name, document) VALUES(?1, ?2)",
                    params![name, new],
                ),
                (Some(old), Some(new)) => tx.execute(
                    "UPDATE lists SET document = ?3 WHERE name = ?1 AND document = ?2",
                    params![name, old, new],
                ),
                (Some(old), None) => tx.execute(
                    "DELETE FROM lists WHERE name = ?1 AND document = ?2",
                    params![name, old],
                ),
            };
            change().map_err(Error::db("change a manifest list"))
        })?;
        Ok(changed > 0)
    }
}
