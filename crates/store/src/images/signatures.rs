//! Signatures that came with images, kept so that a policy can be held against an image again later.
//!
//! Opaque bytes here. Must never be taken for more than what somebody sent: who asks verifies.

use image::Digest;
use rusqlite::{Connection, params};

use super::ImageRecord;
use crate::Store;
use crate::error::{Error, Result};

/// A manifest of a stored image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    /// The manifest, which is a blob of the store.
    pub digest: Digest,
    /// What came with it, as [`NewImage::signatures`](super::NewImage::signatures) had it; none if it is
    /// not signed, or was put here when nobody asked.
    pub signatures: Vec<Vec<u8>>,
}

impl Store {
    /// The manifests of an image: more than one when it came compressed in several ways, or from several
    /// registries.
    pub fn signed_manifests(&self, record: &ImageRecord) -> Result<Vec<SignedManifest>> {
        match self.elsewhere(&record.id)? {
            Some(store) => store.read(|db| of_image(db, &record.id)),
            None => self.db().read(|db| of_image(db, &record.id)),
        }
    }
}

fn of_image(db: &Connection, id: &str) -> Result<Vec<SignedManifest>> {
    const ROWS: &str = "
        SELECT m.digest, s.signature FROM manifests m LEFT JOIN signatures s ON s.manifest = m.digest
        WHERE m.image = ?1 ORDER BY m.digest, s.position";
    let read = || {
        let mut statement = db.prepare_cached(ROWS)?;
        let rows = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(String, Option<Vec<u8>>)>>>()
    };
    let mut manifests: Vec<SignedManifest> = Vec::new();
    for (digest, signature) in read().map_err(Error::db("read signatures"))? {
        let digest = Digest::parse(&digest).map_err(|source| Error::Damaged {
            id: id.to_owned(),
            field: "manifest digest",
            source: Box::new(source),
        })?;
        if manifests.last().is_none_or(|last| last.digest != digest) {
            manifests.push(SignedManifest {
                digest,
                signatures: Vec::new(),
            });
        }
        if let (Some(signature), Some(last)) = (signature, manifests.last_mut()) {
            last.signatures.push(signature);
        }
    }
    Ok(manifests)
}

/// Keeps what came with a manifest, in place of what came before; nothing does not.
pub(super) fn keep(tx: &Connection, manifest: &str, signatures: &[Vec<u8>]) -> Result<()> {
    let write = || {
        if !signatures.is_empty() {
            tx.execute("DELETE FROM signatures WHERE manifest = ?1", [manifest])?;
        }
        for (position, signature) in (0i64..).zip(signatures) {
            tx.execute(
                "INSERT INTO signatures(manifest, position, signature) VALUES(?1, ?2, ?3)",
                params![manifest, position, signature],
            )?;
        }
        Ok(())
    };
    write().map_err(Error::db("keep signatures"))
}
