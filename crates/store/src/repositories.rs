//! The store as others see it by repository: which tags, manifests and blobs a name stands for.
//!
//! Only reads, each in one transaction: the registry that serves a node's images asks here.

use image::{AnyManifest, Digest, Reference};
use rusqlite::{Connection, OptionalExtension, params};

use crate::Store;
use crate::error::{Error, Result};

impl Store {
    /// The repositories that images have names in, sorted.
    pub fn repositories(&self) -> Result<Vec<String>> {
        self.db().read(|db| {
            let read = || {
                let mut statement =
                    db.prepare_cached("SELECT DISTINCT repository FROM names ORDER BY 1")?;
                let rows = statement.query_map([], |row| row.get(0))?;
                rows.collect::<rusqlite::Result<Vec<String>>>()
            };
            read().map_err(Error::db("list the repositories"))
        })
    }

    /// The tags of a repository, sorted; `None` when no image has a name in it.
    pub fn repository_tags(&self, repository: &Reference) -> Result<Option<Vec<String>>> {
        // ';' sorts after ':', and 'A' after '@': ranges on the index.
        const TAGS: &str =
            "SELECT substr(name, ?3) FROM names WHERE name >= ?1 AND name < ?2 ORDER BY name";
        const ANY: &str = "SELECT 1 FROM names WHERE name >= ?1 AND name < ?2 LIMIT 1";
        let name = repository.name();
        self.db().read(|db| {
            let read = || {
                let mut statement = db.prepare_cached(TAGS)?;
                let from = name.len() as i64 + 2;
                let values = params![format!("{name}:"), format!("{name};"), from];
                let rows = statement.query_map(values, |row| row.get(0))?;
                let tags = rows.collect::<rusqlite::Result<Vec<String>>>()?;
                let any = db
                    .prepare_cached(ANY)?
                    .query_row([format!("{name}@"), format!("{name}A")], |_| Ok(()))
                    .optional()?;
                Ok((any.is_some() || !tags.is_empty()).then_some(tags))
            };
            read().map_err(Error::db("list the tags of a repository"))
        })
    }

    /// What a tag of a repository stands for: the index that the image was chosen from, if the store
    /// has it, or else the manifest. `None` when there is no such tag.
    ///
    /// An index tells a client for what the image is; a lone manifest would not.
    pub fn tagged_manifest(&self, name: &Reference) -> Result<Option<Digest>> {
        const NAMED: &str = "SELECT manifest, image FROM names WHERE name = ?1";
        const INDEXES: &str = "
            SELECT substr(name, ?3) FROM names WHERE name >= ?1 AND name < ?2 AND image = ?4
            AND EXISTS (SELECT 1 FROM manifest_blobs WHERE manifest = ?5 AND blob = substr(name, ?3))
            AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = substr(name, ?3))";
        let repository = name.name();
        let found = self.db().read(|db| {
            let read = || {
                let mut named = db.prepare_cached(NAMED)?;
                let named = named.query_row([name.to_string()], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
                });
                let Some((manifest, image)) = named.optional()? else {
                    return Ok(None);
                };
                let (low, high) = (format!("{repository}@"), format!("{repository}A"));
                let from = repository.len() as i64 + 2;
                let mut statement = db.prepare_cached(INDEXES)?;
                let values = params![low, high, from, image, manifest];
                let rows = statement.query_map(values, |row| row.get(0))?;
                Ok(Some((
                    manifest,
                    rows.collect::<rusqlite::Result<Vec<String>>>()?,
                )))
            };
            read().map_err(Error::db("look up a tag"))
        })?;
        let Some((manifest, indexes)) = found else {
            return Ok(None);
        };
        let manifest = parse(&manifest)?;
        for index in indexes {
            let index = parse(&index)?;
            if self.is_listed(&index, &manifest)? {
                return Ok(Some(index));
            }
        }
        Ok(Some(manifest))
    }

    /// Whether a blob (a layer, config, manifest or index) belongs to an image with a name in a repository.
    pub fn repository_has(&self, repository: &Reference, digest: &Digest) -> Result<bool> {
        const HAS: &str = "
            SELECT 1 FROM manifest_blobs b JOIN manifests m ON m.digest = b.manifest
            JOIN names n ON n.image = m.image WHERE b.blob = ?1 AND n.repository = ?2 LIMIT 1";
        self.db().read(|db: &Connection| {
            db.prepare_cached(HAS)
                .and_then(|mut statement| {
                    let values = [digest.to_string(), repository.name()];
                    statement.query_row(values, |_| Ok(())).optional()
                })
                .map(|found| found.is_some())
                .map_err(Error::db("look up a blob of a repository"))
        })
    }

    fn is_listed(&self, index: &Digest, manifest: &Digest) -> Result<bool> {
        const LARGEST: u64 = 4 << 20;
        let Some(bytes) = self.read_blob(index, LARGEST)? else {
            return Ok(false);
        };
        // What is no index, lists nothing.
        let listed = AnyManifest::parse(None, &bytes).is_ok_and(|parsed| {
            matches!(parsed, AnyManifest::Index(index)
                if index.manifests.iter().any(|entry| entry.digest == *manifest))
        });
        Ok(listed)
    }
}

fn parse(digest: &str) -> Result<Digest> {
    Digest::parse(digest).map_err(|source| Error::Damaged {
        id: digest.to_owned(),
        field: "manifest digest",
        source: Box::new(source),
    })
}
