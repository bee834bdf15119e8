//! Whether the database is there, whole, and as new as what lies beside it; and what is done if it is
//! not: it is made again from the layout, and what was damaged is kept under another name.
//!
//! Must never take a database for damaged because it cannot be read just now (no memory, an I/O
//! error, no permission): only what SQLite itself calls no database or a malformed one, or finds cut.

use std::sync::atomic::Ordering;

use rusqlite::{Connection, ErrorCode};
use rustix::fs::{AtFlags, renameat, unlinkat};
use rustix::io::Errno;

use super::{Database, FILE, SCHEMA_VERSION, in_transaction, schema, state};
use crate::error::{Error, Result};
use crate::index::written_names;
use crate::reserve;
use crate::restore::{self, Cause, Restored};

/// Held while a damaged database is put aside.
const LOCK: &str = "restore.lock";

/// Whether an error says that the database itself is damaged.
pub(super) fn is_damage(error: &Error) -> bool {
    let Error::Database { source, .. } = error else {
        return false;
    };
    match source {
        rusqlite::Error::SqliteFailure(failure, words) => {
            matches!(
                failure.code,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
            ) || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ
                || words
                    .as_ref()
                    .is_some_and(|words| words.starts_with("no such table"))
        }
        _ => false,
    }
}

impl Database {
    /// A connection to a database that is whole and up to date, whatever was there before.
    pub(super) fn first(&self) -> Result<Connection> {
        match self.sound(false) {
            Err(error) if is_damage(&error) => self.again(),
            other => other,
        }
    }

    /// Makes the database again, whatever SQLite says of it now.
    pub(crate) fn remake(&self, found: String) -> Result<()> {
        let lock = self.layout.lock(LOCK, self.wait)?;
        self.put_aside(&corrupt(found))?;
        drop(lock);
        self.begin(&mut self.lock())
    }

    /// Puts the damaged database aside and makes it again.
    fn again(&self) -> Result<Connection> {
        let _lock = self.layout.lock(LOCK, self.wait)?;
        // Another process may have done it.
        let damage = match self.sound(true) {
            Err(error) if is_damage(&error) => error,
            other => return other,
        };
        self.put_aside(&damage)?;
        self.sound(true)
    }

    /// The caller has the lock.
    fn put_aside(&self, damage: &Error) -> Result<()> {
        for end in ["", "-wal"] {
            let (old, new) = (format!("{FILE}{end}"), format!("{FILE}{end}.damaged"));
            match renameat(self.layout.root(), &old, self.layout.root(), &new) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(Error::sys("rename", self.layout.path().join(old))(errno));
                }
            }
        }
        tracing::warn!(
            "store: {}: {damage}; it is kept as {FILE}.damaged",
            self.path.display()
        );
        Ok(())
    }

    /// `locked`: the caller has the lock.
    fn sound(&self, locked: bool) -> Result<Connection> {
        let had_log = self.stamp()[1].is_some();
        let mut connection = match had_log && self.length() > 0 {
            true => self.connect()?,
            false => self.anew(locked)?,
        };
        let suspect = self.suspect.swap(false, Ordering::Relaxed) || !had_log;
        if self.version(&connection)? > 0 && (suspect || self.is_short(&connection)?) {
            quick_check(&connection)?;
        }
        if let Some((restored, cause)) = self.migrate(&mut connection)? {
            restored.tell(&self.path, cause);
        }
        if self.is_behind(&connection, had_log)? {
            let restored = in_transaction(&mut connection, |tx| {
                restore::from_layout(tx, &self.layout, Cause::Behind)
            })?;
            restored.tell(&self.path, Cause::Behind);
        }
        Ok(connection)
    }

    /// A connection to a database that was not there, or not its log. What is left of the files beside it
    /// is of no use; those who still have them open must not be met in them: their memory of the log would
    /// be wrong, and their locks would never end.
    fn anew(&self, locked: bool) -> Result<Connection> {
        let _lock = match locked {
            true => None,
            false => Some(self.layout.lock(LOCK, self.wait)?),
        };
        let useless: &[&str] = match (self.length(), self.stamp()[1]) {
            (0, _) => &[FILE, "meta.sqlite-wal", "meta.sqlite-shm"],
            (_, None) => &["meta.sqlite-shm"],
            // Another process was first.
            _ => &[],
        };
        for name in useless {
            let _ = unlinkat(self.layout.root(), *name, AtFlags::empty());
        }
        let connection = self.connect()?;
        // The log is made when the database is read for the first time.
        self.version(&connection)?;
        Ok(connection)
    }

    /// The size of the database's file; 0 also if there is none.
    fn length(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Whether the database has lost what the store beside it still has. After a power cut it may have,
    /// and must: what was added last may be damaged.
    fn is_behind(&self, connection: &Connection, had_log: bool) -> Result<bool> {
        let names = state(connection, "names")?;
        let newer = written_names(&self.layout).is_some_and(|written| written > names);
        let boot = crate::settle::last_boot(connection)?;
        Ok(newer && (!had_log || boot.as_deref() == Some(self.layout.owner().boot())))
    }

    /// Whether pages of the database are in its log only, or nowhere.
    fn is_short(&self, connection: &Connection) -> Result<bool> {
        let number = |name: &str| {
            connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .map_err(Error::db("read the size of the database"))
        };
        let whole = number("page_count")?.saturating_mul(number("page_size")?);
        Ok(self.length() < super::unsigned(whole))
    }

    /// Brings the schema up to date, and fills a database that is new where a store is not.
    fn migrate(&self, connection: &mut Connection) -> Result<Option<(Restored, Cause)>> {
        if self.version(connection)? >= SCHEMA_VERSION {
            return Ok(None);
        }
        let run = |connection: &mut Connection| {
            in_transaction(connection, |tx| {
                // Another process may have been first.
                let found = self.version(tx)?;
                if found < SCHEMA_VERSION {
                    schema::migrate(tx, found)?;
                }
                if found > 0 || self.layout.is_fresh()? {
                    return Ok(None);
                }
                let restored = restore::from_layout(tx, &self.layout, Cause::Lost)?;
                Ok(Some((restored, Cause::Lost)))
            })
        };
        match run(connection) {
            // A node that is full must be able to start, too.
            Err(error) if error.is_no_space() && reserve::give_up(&self.layout) => run(connection),
            other => other,
        }
    }
}

/// Errors with what SQLite finds wrong.
pub(crate) fn quick_check(connection: &Connection) -> Result<()> {
    let said: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(Error::db("check"))?;
    if said == "ok" {
        return Ok(());
    }
    Err(corrupt(said))
}

fn corrupt(said: String) -> Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    let source = rusqlite::Error::SqliteFailure(code, Some(said));
    Error::Database {
        op: "check",
        source,
    }
}
