//! The metadata database: connections, and the two kinds of transaction.
//!
//! `meta.sqlite` is in WAL mode and shared by several processes. Must never hold a transaction
//! open over anything slow (no fsync, no copying): a pod start elsewhere may wait for it. Must never be
//! opened by other means than SQLite's: closing it would drop the locks that SQLite has on it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::reserve;

mod damage;
pub(crate) mod schema;

pub(crate) use damage::quick_check;
pub(crate) use schema::SCHEMA_VERSION;

/// Connections kept open between calls.
const POOL: usize = 4;

/// The file's name in the store.
const FILE: &str = "meta.sqlite";

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A power cut may undo the latest commits, but only from the last one backwards.
    Ordered,
    /// After the commit a power cut changes nothing, nor any commit before it: before files are
    /// deleted.
    Durable,
}

/// What tells whether the files are still those that were opened: the database's and its log's.
type Stamp = [Option<(u64, u64)>; 2];

/// Connections that nobody uses, and the files that they are to.
#[derive(Debug, Default)]
struct Idle {
    connections: Vec<Connection>,
    stamp: Stamp,
    /// How often other files were found: a connection to earlier ones is of no use.
    generation: u64,
}

/// A handle on the database; connections are made as concurrent callers need them.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    layout: Arc<Layout>,
    /// How long a statement waits for another process's transaction.
    wait: Duration,
    idle: Mutex<Idle>,
    /// Damage was met: the whole is looked at when it is opened next.
    suspect: AtomicBool,
}

impl Database {
    /// Opens the database, making it when it is not there. What is lost of it is made again from what
    /// lies in the store, as far as that goes.
    pub(crate) fn open(layout: &Arc<Layout>, wait: Duration) -> Result<Database> {
        let database = Database {
            path: layout.path().join(FILE),
            layout: Arc::clone(layout),
            wait,
            idle: Mutex::default(),
            suspect: AtomicBool::new(false),
        };
        if layout.is_read_only() {
            database.read(|db| database.is_current(db))?;
        } else {
            database.begin(&mut database.lock())?;
        }
        Ok(database)
    }

    /// The store's directory, which this is the database of.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Runs `read` on one state of the database, whatever others commit meanwhile.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let (connection, generation) = self.connection()?;
        let result = connection
            .unchecked_transaction()
            .map_err(Error::db("begin to read"))
            .and_then(|tx| read(&tx));
        self.done(connection, generation, result)
    }

    /// Runs `write` in a write transaction, committed when it returns `Ok`.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        write: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        self.is_writable()?;
        let (mut connection, generation) = self.connection()?;
        let result = durable(&mut connection, durability, write);
        self.done(connection, generation, result)
    }

    /// As [`write`](Database::write), for what makes room: on a full disk it gets what was kept back
    /// for it. `write` may be run again, and its first run has changed nothing in the database then.
    pub(crate) fn remove<T>(
        &self,
        durability: Durability,
        mut write: impl FnMut(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        self.is_writable()?;
        let (mut connection, generation) = self.connection()?;
        let mut result = durable(&mut connection, durability, &mut write);
        let full = |result: &Result<T>| matches!(result, Err(error) if error.is_no_space());
        for room in [give_up_reserve, empty_log] {
            if full(&result) && room(self, &connection) {
                result = durable(&mut connection, durability, &mut write);
                // What was copied out of the log needs no room a second time.
                empty_log(self, &connection);
                reserve::keep(&self.layout);
            }
        }
        self.done(connection, generation, result)
    }

    fn is_writable(&self) -> Result<()> {
        match self.layout.is_read_only() {
            false => Ok(()),
            true => Err(Error::sys("write", &self.path)(Errno::ROFS)),
        }
    }

    fn connection(&self) -> Result<(Connection, u64)> {
        if self.layout.is_read_only() {
            let connection = unwritten(&self.path).map_err(Error::db("open"))?;
            return Ok((connection, 0));
        }
        let mut idle = self.lock();
        if idle.stamp != self.stamp() {
            // Somebody has put other files in the place of those that we know.
            self.begin(&mut idle)?;
        }
        let (found, generation) = (idle.connections.pop(), idle.generation);
        drop(idle);
        let connection = found.map_or_else(|| self.connect(), Ok)?;
        Ok((connection, generation))
    }

    /// Takes a connection back, and has the database made again if it was found to be damaged.
    fn done<T>(&self, connection: Connection, generation: u64, result: Result<T>) -> Result<T> {
        if self.layout.is_read_only() {
            return result;
        }
        let result = result.map_err(|error| error.or_busy(&self.path, self.wait));
        match &result {
            Err(error) if damage::is_damage(error) => {
                drop(connection);
                self.suspect.store(true, Ordering::Relaxed);
                self.begin(&mut self.lock())?;
            }
            _ => {
                let mut idle = self.lock();
                if idle.connections.len() < POOL && idle.generation == generation {
                    idle.connections.push(connection);
                }
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // A panic elsewhere leaves the list of idle connections as good as it was.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(&self) -> Stamp {
        [FILE, "meta.sqlite-wal"].map(|name| {
            let metadata = std::fs::metadata(self.path.with_file_name(name)).ok()?;
            Some((metadata.dev(), metadata.ino()))
        })
    }

    /// Makes a first connection, to whatever is there now.
    fn begin(&self, idle: &mut Idle) -> Result<()> {
        idle.connections.clear();
        idle.generation += 1;
        let connection = self
            .first()
            .map_err(|error| error.or_busy(&self.path, self.wait))?;
        idle.connections.push(connection);
        idle.stamp = self.stamp();
        Ok(())
    }

    fn connect(&self) -> Result<Connection> {
        match self.connect_once() {
            Err(error) if error.is_no_space() && reserve::give_up(&self.layout) => {
                self.connect_once()
            }
            other => other,
        }
    }

    fn connect_once(&self) -> Result<Connection> {
        let connection = Connection::open(&self.path).map_err(Error::db("open"))?;
        let set_up = || {
            connection.busy_timeout(self.wait)?;
            // The last process to close would otherwise copy the whole log, with an fsync.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "cache_size", -512)?;
            connection.pragma_update(None, "synchronous", "NORMAL")
        };
        // Two that make a new database at the same time stand in each other's way: SQLite tells one
        // of them to give up at once, whatever the busy timeout, as waiting would be a deadlock.
        let begin = Instant::now();
        loop {
            match set_up() {
                Ok(()) => return Ok(connection),
                Err(error) if is_busy(&error) && begin.elapsed() < self.wait => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(Error::db("set up a connection")(error)),
            }
        }
    }

    fn version(&self, connection: &Connection) -> Result<i64> {
        schema::version(connection, &self.path)
    }

    /// Errors if the schema is older than the newest, which cannot be made of it where nothing can be written.
    fn is_current(&self, connection: &Connection) -> Result<()> {
        match self.version(connection)? {
            SCHEMA_VERSION.. => Ok(()),
            _ => Err(Error::sys("bring up to date", &self.path)(Errno::ROFS)),
        }
    }
}

/// A connection that takes no lock and has no shared memory, as both would be writing.
pub(crate) fn unwritten(path: &Path) -> rusqlite::Result<Connection> {
    // In exclusive mode the index of the log is in memory; without a file system that locks
    // nothing is written for being exclusive.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, c"unix-none")?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

fn give_up_reserve(database: &Database, _: &Connection) -> bool {
    reserve::give_up(&database.layout)
}

/// Gives the log's space back to the file system.
fn empty_log(_: &Database, connection: &Connection) -> bool {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    busy.is_ok_and(|busy| busy == 0)
}

pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            rusqlite::ErrorCode::DatabaseBusy
                | rusqlite::ErrorCode::DatabaseLocked
                | rusqlite::ErrorCode::FileLockingProtocolFailed
        )
    )
}

fn durable<T>(
    connection: &mut Connection,
    durability: Durability,
    write: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    if durability == Durability::Durable {
        synchronous(connection, "FULL")?;
    }
    let result = in_transaction(connection, write);
    if durability == Durability::Durable {
        synchronous(connection, "NORMAL")?;
    }
    result
}

fn in_transaction<T>(
    connection: &mut Connection,
    write: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(Error::db("begin"))?;
    let value = write(&tx)?;
    tx.commit().map_err(Error::db("commit"))?;
    Ok(value)
}

fn synchronous(connection: &Connection, mode: &str) -> Result<()> {
    connection
        .pragma_update(None, "synchronous", mode)
        .map_err(Error::db("set synchronous"))
}

/// A size for a column: SQLite's integers are signed, and no file is larger.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A size from a column; what the store wrote is never negative.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A counter or switch of the store, by its key in the table `state`.
pub(crate) fn state(db: &Connection, key: &str) -> Result<i64> {
    db.prepare_cached("SELECT value FROM state WHERE key = ?1")
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)))
        .map_err(Error::db("read the state"))
}

/// The one text that a query by a key answers, if any.
pub(crate) fn one(db: &Connection, sql: &str, key: &str) -> Result<Option<String>> {
    db.prepare_cached(sql)
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
        .map_err(Error::db("look something up"))
}

/// Whether a query has an answer.
pub(crate) fn exists(db: &Connection, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<bool> {
    db.prepare_cached(sql)
        .and_then(|mut statement| statement.exists(values))
        .map_err(Error::db("look something up"))
}
