//! Images: what is known of each, and how one is found by what a user writes.
//!
//! An image is named by the hex of its config's digest; several manifests (the same layers
//! compressed differently, or from two registries) may carry it. An artifact, whose config says nothing of its
//! own, is named by the hex of its manifest's digest. Reading must stay one indexed
//! query: kubelet lists and looks up images all the time.

use std::collections::HashSet;

use image::{Digest, ImageConfig, Reference};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use crate::Store;
use crate::additional::Additional;
use crate::db::{one, unsigned};
use crate::error::{Error, Result};

mod names;
mod put;
mod signatures;

pub(crate) use put::{Checked, NO_CONFIG, hold_all};
pub use put::{Document, MOST_LAYERS, NewImage};
pub use signatures::SignedManifest;

/// The fewest digits of an ID that name an image.
const SHORTEST_ID: usize = 3;

/// An image in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// The hex of the config's digest; of an artifact's, that of its manifest.
    pub id: String,
    /// The manifest that was put last.
    pub manifest_digest: Digest,
    /// The user that a container of it starts as, as the config says it; empty is root.
    pub user: String,
    /// `repository:tag` names, sorted.
    pub names: Vec<String>,
    /// `repository@digest` names, sorted; never empty once the image had a name, even after its
    /// last tag has moved to another image.
    pub repo_digests: Vec<String>,
    /// The size of config and unpacked layers in bytes.
    pub size: u64,
    /// When the image was made, in seconds since 1970, if the config says so.
    pub created: Option<i64>,
    /// Never to be removed by a collector of unused images.
    pub pinned: bool,
    /// In an additional store: it can be used, and not be changed or removed.
    pub read_only: bool,
}

impl ImageRecord {
    /// Is it an artifact: files that nothing can be run of?
    #[must_use]
    pub fn is_artifact(&self) -> bool {
        self.id == self.manifest_digest.hex()
    }
}

const RECORDS: &str = "
SELECT i.id, i.manifest, i.size, i.created, i.pinned, n.name, n.kind, u.user
FROM images i LEFT JOIN names n ON n.image = i.id LEFT JOIN users u ON u.image = i.id";

impl Store {
    /// All images, by ID, and after them those of additional stores that are not here as well.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        let mut images = self.db().read(|db| records(db, "", &[]))?;
        if self.additional().is_empty() {
            return Ok(images);
        }
        let mut known: HashSet<String> = images.iter().map(|image| image.id.clone()).collect();
        for store in self.additional() {
            let found = store.read(|db| records(db, "", &[]))?;
            let found = found
                .into_iter()
                .filter(|image| known.insert(image.id.clone()));
            images.extend(found.map(read_only));
        }
        Ok(images)
    }

    /// The image that `query` names, if there is one.
    ///
    /// `query` is a full ID (with or without `sha256:`), a manifest digest, a reference with tag or
    /// digest or both (the digest wins; Docker Hub's and `localhost` are tried for short names), or
    /// at least three digits that begin one ID only. Errors with [`Error::Ambiguous`].
    pub fn find(&self, query: &str) -> Result<Option<ImageRecord>> {
        if let Some(found) = self.db().read(|db| find_in(db, query))? {
            return Ok(Some(found));
        }
        for store in self.additional() {
            if let Some(found) = store.read(|db| find_in(db, query))? {
                return Ok(Some(read_only(found)));
            }
        }
        Ok(None)
    }

    /// The additional store that has the image `id` (a full ID) when this one does not.
    pub(crate) fn elsewhere(&self, id: &str) -> Result<Option<&Additional>> {
        Ok(self.place_of(id)?.map(|place| &self.additional()[place]))
    }

    /// The same, by its place among the additional stores.
    pub(crate) fn place_of(&self, id: &str) -> Result<Option<usize>> {
        let here = |db: &Connection| Ok(full_id(db, id)?.is_some());
        if self.additional().is_empty() || self.db().read(here)? {
            return Ok(None);
        }
        for (place, store) in self.additional().iter().enumerate() {
            if store.has_image(id)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Errors with [`Error::ReadOnly`] when an image that `query` names is in an additional store only.
    pub(crate) fn refuse_read_only(&self, query: &str) -> Result<()> {
        for store in self.additional() {
            if store.read(|db| find_id(db, query))?.is_some() {
                return Err(Error::ReadOnly {
                    what: query.to_owned(),
                    path: store.path().to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The unpacked size of each layer of the image `id` (a full ID), lowest first.
    pub fn layer_sizes(&self, id: &str) -> Result<Vec<u64>> {
        const SIZES: &str = "
            SELECT l.bytes FROM image_layers i JOIN layers l ON l.id = i.layer
            WHERE i.image = ?1 ORDER BY i.position";
        let sizes = |db: &Connection| {
            let read = || {
                let mut statement = db.prepare_cached(SIZES)?;
                let rows = statement.query_map([id], |row| Ok(unsigned(row.get(0)?)))?;
                rows.collect::<rusqlite::Result<_>>()
            };
            read().map_err(Error::db("read the layers of an image"))
        };
        match self.elsewhere(id)? {
            Some(store) => store.read(sizes),
            None => self.db().read(sizes),
        }
    }

    /// An image's config: what its containers start with, and how it was made.
    ///
    /// Errors with [`Error::ImageNotFound`] when the image has been removed.
    pub fn image_config(&self, record: &ImageRecord) -> Result<ImageConfig> {
        let id = record.id.as_str();
        let read = |db: &Connection| {
            db.prepare_cached("SELECT config FROM images WHERE id = ?1")
                .and_then(|mut statement| statement.query_row([id], |row| row.get(0)).optional())
                .map_err(Error::db("read an image config"))
        };
        let bytes: Option<Vec<u8>> = match self.elsewhere(id)? {
            Some(store) => store.read(read)?,
            None => self.db().read(read)?,
        };
        let bytes = bytes.ok_or_else(|| Error::ImageNotFound { id: id.to_owned() })?;
        ImageConfig::parse(&bytes).map_err(|source| Error::Damaged {
            id: id.to_owned(),
            field: "config",
            source: Box::new(source),
        })
    }
}

/// The images that fit a `WHERE` clause over [`RECORDS`].
pub(crate) fn records(
    db: &Connection,
    filter: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<ImageRecord>> {
    let failed = Error::db("read images");
    let rows = || {
        let sql = format!("{RECORDS} {filter} ORDER BY i.id, n.kind, n.name");
        let mut statement = db.prepare_cached(&sql)?;
        statement
            .query_map(values, RecordRow::read)?
            .collect::<rusqlite::Result<Vec<_>>>()
    };
    let mut records: Vec<ImageRecord> = Vec::new();
    for row in rows().map_err(failed)? {
        if records.last().is_none_or(|last| last.id != row.id) {
            records.push(record(&row)?);
        }
        if let (Some(name), Some(kind), Some(record)) = (row.name, row.kind, records.last_mut()) {
            match kind {
                names::TAG => record.names.push(name),
                _ => record.repo_digests.push(name),
            }
        }
    }
    Ok(records)
}

fn record(row: &RecordRow) -> Result<ImageRecord> {
    Ok(ImageRecord {
        id: row.id.clone(),
        manifest_digest: Digest::parse(&row.manifest).map_err(|source| Error::Damaged {
            id: row.id.clone(),
            field: "manifest digest",
            source: Box::new(source),
        })?,
        user: row.user.clone().unwrap_or_default(),
        names: Vec::new(),
        repo_digests: Vec::new(),
        size: unsigned(row.size),
        created: row.created,
        pinned: row.pinned,
        read_only: false,
    })
}
fn find_in(db: &Connection, query: &str) -> Result<Option<ImageRecord>> {
    let found = match find_id(db, query)? {
        Some(id) => records(db, "WHERE i.id = ?1", &[&id])?,
        None => Vec::new(),
    };
    Ok(found.into_iter().next())
}

fn find_id(db: &Connection, query: &str) -> Result<Option<String>> {
    if let Ok(digest) = Digest::parse(query) {
        if let Some(id) = full_id(db, digest.hex())? {
            return Ok(Some(id));
        }
        return by_manifest(db, query);
    }
    if is_hex(query)
        && let Some(id) = full_id(db, query)?
    {
        return Ok(Some(id));
    }
    if let Some(id) = by_name(db, query)? {
        return Ok(Some(id));
    }
    if is_hex(query) && query.len() >= SHORTEST_ID {
        return by_prefix(db, query);
    }
    Ok(None)
}

fn read_only(image: ImageRecord) -> ImageRecord {
    ImageRecord {
        read_only: true,
        ..image
    }
}

struct RecordRow {
    id: String,
    manifest: String,
    size: i64,
    created: Option<i64>,
    pinned: bool,
    name: Option<String>,
    kind: Option<i64>,
    user: Option<String>,
}

impl RecordRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<RecordRow> {
        Ok(RecordRow {
            id: row.get(0)?,
            manifest: row.get(1)?,
            size: row.get(2)?,
            created: row.get(3)?,
            pinned: row.get(4)?,
            name: row.get(5)?,
            kind: row.get(6)?,
            user: row.get(7)?,
        })
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn full_id(db: &Connection, id: &str) -> Result<Option<String>> {
    one(db, "SELECT id FROM images WHERE id = ?1", id)
}

fn by_manifest(db: &Connection, digest: &str) -> Result<Option<String>> {
    one(db, "SELECT image FROM manifests WHERE digest = ?1", digest)
}

fn by_name(db: &Connection, query: &str) -> Result<Option<String>> {
    const NAMED: &str = "SELECT image FROM names WHERE name = ?1";
    let Ok(reference) = Reference::parse(query) else {
        return Ok(None);
    };
    let reference = match reference.digest() {
        Some(_) => reference.without_tag(),
        None => reference.or_latest(),
    };
    if let Some(id) = one(db, NAMED, &reference.to_string())? {
        return Ok(Some(id));
    }
    // A name that was built here and never had a registry.
    match Reference::parse(&format!("localhost/{query}")) {
        Ok(local) if reference.familiar_name() != reference.name() => {
            let local = match local.digest() {
                Some(_) => local.without_tag(),
                None => local.or_latest(),
            };
            one(db, NAMED, &local.to_string())
        }
        _ => Ok(None),
    }
}

fn by_prefix(db: &Connection, prefix: &str) -> Result<Option<String>> {
    // 'g' sorts after every hexadecimal digit: the range is on the index.
    let found = || {
        let mut statement = db.prepare_cached(
            "SELECT id FROM images WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 3",
        )?;
        let rows = statement.query_map(params![prefix, format!("{prefix}g")], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<String>>>()
    };
    let mut found = found().map_err(Error::db("look up a short image ID"))?;
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => Err(Error::Ambiguous {
            query: prefix.to_owned(),
            matches: found,
        }),
    }
}
