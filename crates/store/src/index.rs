//! `index.json` of the OCI image layout (image-spec image-layout.md, "index.json File").
//!
//! One entry for each tag, or each digest name of an image without tags, or one without a name for
//! an image that never had any. A copy of what the database says, written in the background as it has to be
//! written whole: must never be read as the truth, and nobody may wait for it on the way to a container.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use image::{Index, MediaType};
use rusqlite::Connection;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use serde::Serialize;

use crate::db::{Durability, state, unsigned};
use crate::error::{Error, Result};
use crate::gc::strings;
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

/// The index as JSON: entries without a name first, then by name.
///
/// Whole tables in their own order and a join in memory: looking up each row's partners would take
/// several times as long in a store of many images.
fn index(db: &Connection) -> Result<Vec<u8>> {
    let (names, manifests) = (names(db)?, manifests(db)?);
    let with = |tag: bool| names.iter().filter(move |name| name.tag || !tag);
    let tagged: HashSet<&str> = with(true).map(|name| &*name.image).collect();
    let named: HashSet<&str> = with(false).map(|name| &*name.image).collect();
    let ids = strings(db, "SELECT id FROM images")?;
    let mut nameless = Vec::new();
    for id in ids.iter().filter(|id| !named.contains(id.as_str())) {
        let manifest = crate::db::one(db, "SELECT manifest FROM images WHERE id = ?1", id)?;
        nameless.extend(manifest);
    }
    nameless.sort();
    let nameless = nameless.iter().map(|manifest| (manifest, None));
    let listed = names.iter();
    let listed = listed.filter(|name| name.tag || !tagged.contains(&*name.image));
    let entries = nameless.chain(listed.map(|name| (&name.manifest, Some(&*name.name))));
    let entries = entries.filter_map(|(digest, name)| {
        let (media_type, size) = manifests.get(digest)?;
        Some(Entry {
            media_type,
            digest,
            size: *size,
            annotations: name.map(|name| Annotations { name }),
        })
    });
    let index = List {
        schema_version: 2,
        media_type: MediaType::OciIndex.as_str(),
        manifests: entries.collect(),
    };
    serde_json::to_vec(&index).map_err(|e| Error::Io {
        op: "encode",
        path: "index.json".into(),
        source: e.into(),
    })
}

/// An [`Index`] of borrowed strings: one of many images is made in a few milliseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    media_type: &'a str,
    digest: &'a str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations<'a>>,
}

#[derive(Serialize)]
struct Annotations<'a> {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: &'a str,
}

/// A row of `names`.
struct Name {
    name: String,
    tag: bool,
    image: String,
    manifest: String,
}

fn names(db: &Connection) -> Result<Vec<Name>> {
    let read = || {
        let mut statement =
            db.prepare_cached("SELECT name, kind = 0, image, manifest FROM names ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            Ok(Name {
                name: row.get(0)?,
                tag: row.get(1)?,
                image: row.get(2)?,
                manifest: row.get(3)?,
            })
        })?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("list the names"))
}

/// The media type and the size in bytes of each manifest, by its digest.
fn manifests(db: &Connection) -> Result<HashMap<String, (String, u64)>> {
    let read = || {
        let mut statement = db.prepare_cached("SELECT digest, media_type, size FROM manifests")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, (row.get(1)?, unsigned(row.get(2)?))))
        })?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("list the manifests"))
}
