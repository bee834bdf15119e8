//! `index.json` of the OCI image layout (image-spec image-layout.md, "index.json File").
//!
//! One entry for each tag, or each digest name of an image without tags, or one without a name for
//! an image that never had any. A copy of what the database says: must never be read as the truth.

use std::os::fd::OwnedFd;

use image::{Descriptor, Digest, Index, MediaType};
use rusqlite::Connection;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};

use crate::Store;
use crate::db::{Durability, unsigned};
use crate::error::{Error, Result};

const REF_NAME: &str = "org.opencontainers.image.ref.name";

impl Store {
    /// Rewrites `index.json` when names have changed since it was written.
    pub(crate) fn write_index(&self) -> Result<()> {
        let up_to_date = |db: &Connection| Ok(state(db, "names")? == state(db, "index")?);
        if self.db().read(up_to_date)? {
            return Ok(());
        }
        self.rewrite_index()
    }

    /// Whether `index.json` is what the database says, as far as anybody can tell who does not write it.
    pub(crate) fn is_index_right(&self) -> Result<bool> {
        let _lock = self.lock_index()?;
        let same = |db: &Connection| Ok(state(db, "names")? == state(db, "index")?);
        if !self.db().read(same)? {
            // Whoever changed the names is about to write it.
            return Ok(true);
        }
        let written = std::fs::read(self.layout().path().join("index.json")).ok();
        let written = written.and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
        let entries = self.db().read(entries)?;
        Ok(written.is_some_and(|index| index.manifests == entries))
    }

    /// Writes `index.json`, whether names have changed or not.
    pub(crate) fn rewrite_index(&self) -> Result<()> {
        let _lock = self.lock_index()?;
        // Read the counter first: a name that changes after it is written by its own process.
        let names = self.db().read(|db| state(db, "names"))?;
        let index = Index {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            artifact_type: None,
            manifests: self.db().read(entries)?,
            subject: None,
            annotations: Default::default(),
        };
        let bytes = serde_json::to_vec_pretty(&index).map_err(|e| Error::Io {
            op: "encode",
            path: self.layout().path().join("index.json"),
            source: e.into(),
        })?;
        self.layout().write_file("index.json", &bytes)?;
        self.db().write(Durability::Ordered, |tx| {
            tx.execute("UPDATE state SET value = ?1 WHERE key = 'index'", [names])
                .map_err(Error::db("record the index"))?;
            Ok(())
        })
    }

    fn lock_index(&self) -> Result<OwnedFd> {
        let path = self.layout().path().join("index.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(
            self.layout().root(),
            "index.lock",
            flags,
            Mode::from_raw_mode(0o600),
        )
        .map_err(Error::sys("open", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(Error::sys("lock", &path))?;
        Ok(file)
    }
}

fn state(db: &Connection, key: &str) -> Result<i64> {
    db.prepare_cached("SELECT value FROM state WHERE key = ?1")
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)))
        .map_err(Error::db("read the state"))
}

fn entries(db: &Connection) -> Result<Vec<Descriptor>> {
    const ENTRIES: &str = "
        SELECT n.name, m.digest, m.media_type, m.size FROM names n JOIN manifests m ON m.digest = n.manifest
        WHERE n.kind = 0 OR NOT EXISTS (SELECT 1 FROM names t WHERE t.image = n.image AND t.kind = 0)
        UNION ALL
        SELECT NULL, m.digest, m.media_type, m.size FROM images i JOIN manifests m ON m.digest = i.manifest
        WHERE NOT EXISTS (SELECT 1 FROM names t WHERE t.image = i.id)
        ORDER BY 1, 2";
    let read = || {
        let mut statement = db.prepare_cached(ENTRIES)?;
        let rows = statement.query_map([], |row| {
            let size: i64 = row.get(3)?;
            Ok((
                row.get::<_, Option<String>>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                unsigned(size),
            ))
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let mut entries = Vec::new();
    for (name, digest, media_type, size) in read().map_err(Error::db("list the names"))? {
        let digest = Digest::parse(&digest).map_err(|source| Error::Damaged {
            id: digest.clone(),
            field: "manifest digest",
            source: Box::new(source),
        })?;
        let mut entry = Descriptor::new(MediaType::from(media_type), digest, size);
        entry
            .annotations
            .extend(name.map(|name| (REF_NAME.to_owned(), name)));
        entries.push(entry);
    }
    Ok(entries)
}
