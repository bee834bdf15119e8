//! `index.json` of the OCI image layout (image-spec image-layout.md, "index.json File").
//!
//! One entry for each tag, or each digest name of an image without tags, or one without a name for
//! an image that never had any. A copy of what the database says, written in the background as it has to be
//! written whole: must never be read as the truth, and nobody may wait for it on the way to a container.

use std::os::fd::OwnedFd;

use image::{Index, MediaType};
use rusqlite::Connection;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};

use crate::db::{Durability, state};
use crate::error::{Error, Result};
use crate::{Core, Store};

impl Store {
    /// Has `index.json` written in the background when names have changed since it was.
    pub(crate) fn write_index_soon(&self) -> Result<()> {
        if !self.db().read(is_up_to_date)? {
            self.0.background.write_index();
        }
        Ok(())
    }
}

impl Core {
    /// Rewrites `index.json` when names have changed since it was written.
    pub(crate) fn write_index(&self) -> Result<()> {
        match self.db.read(is_up_to_date)? {
            true => Ok(()),
            false => self.rewrite_index(),
        }
    }

    /// Whether `index.json` is what the database says, as far as anybody can tell who does not write it.
    pub(crate) fn is_index_right(&self) -> Result<bool> {
        let _lock = self.lock_index()?;
        if !self.db.read(is_up_to_date)? {
            // Whoever changed the names is about to write it.
            return Ok(true);
        }
        let written = std::fs::read(self.layout.path().join("index.json")).ok();
        let parse = |bytes: &[u8]| serde_json::from_slice::<Index>(bytes).ok();
        let right = parse(&self.db.read(index)?);
        Ok(written.is_some_and(|written| parse(&written) == right))
    }

    /// Writes `index.json`, whether names have changed or not.
    pub(crate) fn rewrite_index(&self) -> Result<()> {
        let _lock = self.lock_index()?;
        // Read the counter first: a name that changes after it is written by its own process.
        let names = self.db.read(|db| state(db, "names"))?;
        let bytes = self.db.read(index)?;
        self.layout.write_file("index.json", &bytes)?;
        self.db.write(Durability::Ordered, |tx| {
            tx.execute("UPDATE state SET value = ?1 WHERE key = 'index'", [names])
                .map_err(Error::db("record the index"))?;
            Ok(())
        })
    }

    fn lock_index(&self) -> Result<OwnedFd> {
        let path = self.layout.path().join("index.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(
            self.layout.root(),
            "index.lock",
            flags,
            Mode::from_raw_mode(0o600),
        )
        .map_err(Error::sys("open", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(Error::sys("lock", &path))?;
        Ok(file)
    }
}

fn is_up_to_date(db: &Connection) -> Result<bool> {
    Ok(state(db, "names")? == state(db, "index")?)
}

/// The index as JSON. The database keeps each image's entries up to date (`db.rs`), so that nothing has to be
/// looked up here: of ten thousand images in a few milliseconds.
fn index(db: &Connection) -> Result<Vec<u8>> {
    let media_type = MediaType::OciIndex;
    let mut json = format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":["#);
    let mut read = || {
        let mut statement = db.prepare_cached("SELECT entry FROM entries ORDER BY name, digest")?;
        let mut rows = statement.query([])?;
        let mut comma = "";
        while let Some(row) = rows.next()? {
            json.push_str(comma);
            json.push_str(row.get_ref(0)?.as_str()?);
            comma = ",";
        }
        Ok(())
    };
    read().map_err(Error::db("list the names"))?;
    json.push_str("]}");
    Ok(json.into_bytes())
}
