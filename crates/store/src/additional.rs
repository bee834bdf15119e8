//! Additional image stores: the roots of other stores whose images are seen here, and never written
//! (`additionalimagestores` of storage.conf).
//!
//! Their databases are read without a lock and without shared memory, as both would be writing: such a
//! store may lie on a read-only file system. Who changes one while others read it has to expect that
//! they see it half changed for a moment; what is read is opened again when the files have changed.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use image::Digest;
use rusqlite::{Connection, OptionalExtension};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::blob::blob_size;
use crate::db::{self, SCHEMA_VERSION};
use crate::error::{Error, Result};

/// Another store.
#[derive(Debug)]
pub(crate) struct Additional {
    path: PathBuf,
    idle: Mutex<Option<(Stamp, Connection)>>,
}

/// What tells whether a database has changed: size and time of its file and its log.
type Stamp = [Option<(u64, i64, i64)>; 2];

impl Additional {
    /// Opens the store at `path`. `boot` is this boot of the machine.
    ///
    /// Errors with [`Error::Additional`] when there is none, or one that has to be opened for writing
    /// first.
    pub(crate) fn open(path: &Path, boot: &str) -> Result<Additional> {
        let store = Additional {
            path: std::path::absolute(path).map_err(Error::io("resolve", path))?,
            idle: Mutex::default(),
        };
        if !store.database().is_file() {
            return Err(store.flaw("there is no store of floe in it"));
        }
        let settled = store.read(|db| {
            let found = db::schema::version(db, &store.database())?;
            if found < SCHEMA_VERSION {
                return Err(
                    store.flaw("an earlier version of floe made it: open it with floe --root once")
                );
            }
            let last: Option<String> = db
                .query_row("SELECT id FROM boots", [], |row| row.get(0))
                .optional()
                .map_err(Error::db("read the last boot"))?;
            let marks = "SELECT 1 FROM blobs WHERE unsettled IS NOT NULL
                UNION ALL SELECT 1 FROM layers WHERE unsettled IS NOT NULL";
            Ok(last.as_deref() == Some(boot) || !db::exists(db, marks, &[])?)
        })?;
        match settled {
            true => Ok(store),
            false => Err(store.flaw(
                "it was not closed before the machine was switched off: open it with floe --root once",
            )),
        }
    }

    fn flaw(&self, why: &'static str) -> Error {
        Error::Additional {
            path: self.path.clone(),
            why,
        }
    }

    fn database(&self) -> PathBuf {
        self.path.join("meta.sqlite")
    }

    /// Its root.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `read` on the database as it is now.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let stamp = self.stamp();
        let idle = self.lock().take();
        let connection = match idle {
            Some((then, connection)) if then == stamp => connection,
            _ => self.connect()?,
        };
        let result = read(&connection);
        *self.lock() = Some((stamp, connection));
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Stamp, Connection)>> {
        // A panic elsewhere leaves an idle connection as good as it was.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(&self) -> Stamp {
        ["meta.sqlite", "meta.sqlite-wal"].map(|name| {
            let metadata = std::fs::metadata(self.path.join(name)).ok()?;
            Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
        })
    }

    fn connect(&self) -> Result<Connection> {
        db::unwritten(&self.database()).map_err(Error::db("open an additional store"))
    }

    /// Whether it has the image of this full ID.
    pub(crate) fn has_image(&self, id: &str) -> Result<bool> {
        self.read(|db| db::exists(db, "SELECT 1 FROM images WHERE id = ?1", &[&id]))
    }

    /// A blob's file and size, if it is in this store.
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        if self
            .read(|db| blob_size(db, &digest.to_string()))?
            .is_none()
        {
            return Ok(None);
        }
        let sub = self.path.join("blobs").join(digest.algorithm().as_str());
        let path = sub.join(digest.hex());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(CWD, &path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::sys("open", path)(errno)),
        };
        let size = file.metadata().map_err(Error::io("stat", path))?.len();
        Ok(Some((file, size)))
    }
}
