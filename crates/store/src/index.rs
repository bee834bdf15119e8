//! `index.json` of the OCI image layout (image-spec image-layout.md, "index.json File").
//!
//! One entry for each tag, or each digest name of an image without tags, or one without a name for
//! an image that never had any. A copy of what the database says, written in the background as it has to be
//! written whole: must never be read as the truth, and nobody may wait for it on the way to a container.

use std::fs::File;
use std::io::Read;

use image::{Index, MediaType};
use rusqlite::Connection;
use rustix::fs::{Mode, OFlags, openat};

use crate::db::{Durability, state};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::{Core, Store};

/// The annotation that says how new the file is, by the database's count of changes of names. A
/// database that has counted less has lost what it once knew.
const NAMES: &str = "floe.names";
/// Of an index of a hundred thousand images.
const LARGEST: u64 = 256 << 20;

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
            false => self.write_unless(is_up_to_date),
        }
    }

    /// Whether `index.json` is what the database says, as far as anybody can tell who does not write it.
    pub(crate) fn is_index_right(&self) -> Result<bool> {
        let _lock = self.layout.lock("index.lock", self.wait)?;
        // Of one moment: names change meanwhile, and the file does not, as it is locked.
        let (up_to_date, index) = self.db.read(|db| Ok((is_up_to_date(db)?, index(db)?)))?;
        if !up_to_date {
            // Whoever changed the names is about to write it.
            return Ok(true);
        }
        let written = std::fs::read(self.layout.path().join("index.json")).ok();
        let parse = |bytes: &[u8]| serde_json::from_slice::<Index>(bytes).ok();
        Ok(written.is_some_and(|written| parse(&written) == parse(&index)))
    }

    /// Writes `index.json`, whether names have changed or not.
    pub(crate) fn rewrite_index(&self) -> Result<()> {
        self.write_unless(|_| Ok(false))
    }

    fn write_unless(&self, done: impl FnOnce(&Connection) -> Result<bool>) -> Result<()> {
        let _lock = self.layout.lock("index.lock", self.wait)?;
        // Another may have done it while the lock was waited for.
        if self.db.read(done)? {
            return Ok(());
        }
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
}

/// The count of changes of names that a written `index.json` is of; `None` if it does not say.
pub(crate) fn written_names(layout: &Layout) -> Option<i64> {
    // It is at the beginning, and the rest may be long.
    const HEAD: u64 = 256;
    let mut head = Vec::new();
    open(layout)?.take(HEAD).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let (_, rest) = head.split_once(&format!("\"{NAMES}\":\""))?;
    rest.split_once('"')?.0.parse().ok()
}

/// `index.json` as it was written; `None` when it is not there or is none.
pub(crate) fn written(layout: &Layout) -> Option<Index> {
    let mut bytes = Vec::new();
    open(layout)?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn open(layout: &Layout) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(layout.root(), "index.json", flags, Mode::empty())
        .ok()
        .map(File::from)
}

fn is_up_to_date(db: &Connection) -> Result<bool> {
    Ok(state(db, "names")? == state(db, "index")?)
}

/// The index as JSON. The database keeps each image's entries up to date (`db.rs`), so that nothing has to be
/// looked up here: of ten thousand images in a few milliseconds.
fn index(db: &Connection) -> Result<Vec<u8>> {
    let media_type = MediaType::OciIndex;
    let names = state(db, "names")?;
    let mut json = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","annotations":{{"{NAMES}":"{names}"}},"manifests":["#
    );
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
