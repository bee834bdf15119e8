//! Names of images: tags, digests, pins, and removal.
//!
//! A tag moves; a digest name does not, so an image that once had a name keeps one repo digest.
//! Every change is in `index.json` soon after the call returns.

use image::Reference;
use rusqlite::{Connection, OptionalExtension, params};

use crate::Store;
use crate::db::Durability;
use crate::error::{Error, NameFlaw, Result};

/// The kind of a `repository:tag` name.
pub(super) const TAG: i64 = 0;
/// The kind of a `repository@digest` name.
pub(super) const DIGEST: i64 = 1;

impl Store {
    /// Gives the image `id` (a full ID) the name `name`, a reference with a tag; another image loses it.
    ///
    /// Errors with [`Error::ImageNotFound`], [`Error::Name`] or [`Error::NameFlaw`].
    pub fn tag(&self, id: &str, name: &str) -> Result<()> {
        let reference = parse_tag(name)?;
        if self.elsewhere(id)?.is_some() {
            self.refuse_read_only(id)?;
        }
        self.db().write(Durability::Ordered, |tx| {
            let manifest: String = tx
                .query_row("SELECT manifest FROM images WHERE id = ?1", [id], |row| {
                    row.get(0)
                })
                .optional()
                .map_err(Error::db("look up an image"))?
                .ok_or_else(|| Error::ImageNotFound { id: id.to_owned() })?;
            name_image(tx, &reference, id, &manifest)
        })?;
        self.write_index_soon()
    }

    /// Takes a tag from its image, which stays; `false` when no image has it.
    ///
    /// The repository's digest names go with its last tag, unless the image would be left nameless.
    pub fn untag(&self, name: &str) -> Result<bool> {
        let reference = parse_tag(name)?;
        let known = self.db().remove(Durability::Ordered, |tx| {
            let image: Option<String> = tx
                .query_row(
                    "DELETE FROM names WHERE name = ?1 RETURNING image",
                    [reference.to_string()],
                    |row| row.get(0),
                )
                .optional()
                .map_err(Error::db("untag"))?;
            if let Some(image) = &image {
                drop_digests(tx, image, &reference.name())?;
            }
            Ok(image.is_some())
        })?;
        self.write_index_soon()?;
        if !known {
            self.refuse_read_only(name)?;
        }
        Ok(known)
    }

    /// Forgets the image `id` (a full ID) with all its names; `false` when there is none.
    ///
    /// Its blobs and layers stay until [`Store::gc`], and those that containers use, longer.
    pub fn remove(&self, id: &str) -> Result<bool> {
        let known = self.db().remove(Durability::Ordered, |tx| {
            tx.execute("DELETE FROM images WHERE id = ?1", [id])
                .map_err(Error::db("remove an image"))
        })?;
        self.write_index_soon()?;
        if known == 0 {
            self.refuse_read_only(id)?;
        }
        Ok(known > 0)
    }

    /// Sets whether collectors of unused images must leave the image `id` (a full ID) alone.
    ///
    /// Errors with [`Error::ImageNotFound`].
    pub fn set_pinned(&self, id: &str, pinned: bool) -> Result<()> {
        let known = self.db().write(Durability::Ordered, |tx| {
            tx.execute(
                "UPDATE images SET pinned = ?2 WHERE id = ?1",
                params![id, pinned],
            )
            .map_err(Error::db("pin an image"))
        })?;
        if known == 0 {
            self.refuse_read_only(id)?;
        }
        match known {
            0 => Err(Error::ImageNotFound { id: id.to_owned() }),
            _ => Ok(()),
        }
    }
}

fn parse_tag(name: &str) -> Result<Reference> {
    let reference = Reference::parse(name).map_err(|source| Error::Name {
        source: Box::new(source),
    })?;
    let flaw = match (reference.tag(), reference.digest()) {
        (Some(_), None) => return Ok(reference),
        (Some(_), Some(_)) => NameFlaw::Both,
        (None, _) => NameFlaw::NoTag,
    };
    Err(Error::NameFlaw {
        name: name.to_owned(),
        flaw,
    })
}

/// Gives an image a name, and the repository's name by the manifest's digest.
pub(super) fn name_image(
    tx: &Connection,
    name: &Reference,
    image: &str,
    manifest: &str,
) -> Result<()> {
    let kind = if name.digest().is_some() { DIGEST } else { TAG };
    let repository = name.name();
    set_name(tx, &name.to_string(), &repository, kind, image, manifest)?;
    set_name(
        tx,
        &format!("{repository}@{manifest}"),
        &repository,
        DIGEST,
        image,
        manifest,
    )
}

fn set_name(
    tx: &Connection,
    name: &str,
    repository: &str,
    kind: i64,
    image: &str,
    manifest: &str,
) -> Result<()> {
    const SET: &str = "
        INSERT INTO names(name, repository, kind, image, manifest) VALUES(?1, ?2, ?3, ?4, ?5)
        ON CONFLICT(name) DO UPDATE SET image = excluded.image, manifest = excluded.manifest
        WHERE image <> excluded.image OR manifest <> excluded.manifest";
    tx.prepare_cached(SET)
        .and_then(|mut statement| {
            statement.execute(params![name, repository, kind, image, manifest])
        })
        .map_err(Error::db("name an image"))?;
    Ok(())
}

fn drop_digests(tx: &Connection, image: &str, repository: &str) -> Result<()> {
    const DROP: &str = "
        DELETE FROM names WHERE image = ?1 AND repository = ?2 AND kind = 1
        AND NOT EXISTS (SELECT 1 FROM names WHERE image = ?1 AND repository = ?2 AND kind = 0)
        AND EXISTS (SELECT 1 FROM names WHERE image = ?1 AND repository <> ?2)";
    tx.execute(DROP, [image, repository])
        .map_err(Error::db("untag"))?;
    Ok(())
}
