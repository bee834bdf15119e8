//! Repairing what a check found: made again from what is there, or removed so that it can be pulled
//! again.
//!
//! Must never remove or replace what a container stands on.

use std::fs::File;

use image::{Descriptor, Digest, MediaType};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Flaw, Outcome, Report, Subject};
use crate::db::Durability;
use crate::error::{Error, Result};
use crate::layer::forms;
use crate::layout::TempFile;
use crate::{Form, Store, tree};

/// The outcome of a repair that came to nothing because of containers.
fn used(by: &[String]) -> Outcome {
    Outcome::Kept(format!("remove what uses it first: {}", by.join(", ")))
}

fn pulled_again(images: usize) -> Outcome {
    Outcome::Repaired(match images {
        0 => "removed; no image needs it".into(),
        1 => "removed with its image, which can be pulled again".into(),
        count => format!("removed with its {count} images, which can be pulled again"),
    })
}

impl Store {
    pub(super) fn repair(&self, report: &mut Report) -> Result<()> {
        let mut collect = false;
        for finding in &mut report.findings {
            finding.outcome = match (&finding.subject, &finding.flaw) {
                // It was made again before all else was looked at.
                (Subject::Database, _) => continue,
                (Subject::Blob(digest), _) => self.repair_blob(digest)?,
                (Subject::Layer(id, diff_id), _) => self.repair_layer(*id, diff_id)?,
                (Subject::Image(id), _) => self.repair_image(id)?,
                (Subject::Container(id), Flaw::Orphan) => {
                    self.remove_writable_layer(id)?;
                    Outcome::Repaired("removed".into())
                }
                (Subject::Path(_), Flaw::Index) => {
                    self.core().rewrite_index()?;
                    Outcome::Repaired("written again".into())
                }
                (Subject::Container(_) | Subject::Path(_), _) => {
                    Outcome::Repaired("removed".into())
                }
            };
            collect |= matches!(finding.outcome, Outcome::Repaired(_));
        }
        if collect {
            // Takes what has no row any more, or never had one, and what was left half made.
            self.gc_all()?;
            self.remove_left_behind()?;
            self.settle()?;
        }
        Ok(())
    }

    fn remove_left_behind(&self) -> Result<()> {
        for name in self.layout().left_behind()? {
            let path = self.layout().temp_path(&name.to_string_lossy());
            tree::remove(self.layout(), self.layout().tmp(), &name)
                .map_err(Error::sys("remove", path))?;
        }
        Ok(())
    }

    /// A config is in the database as well; any other blob has to be fetched again.
    fn repair_blob(&self, digest: &Digest) -> Result<Outcome> {
        let config = self.db().read(|db| {
            db.query_row(
                "SELECT config FROM images WHERE id = ?1",
                [digest.hex()],
                |row| row.get::<_, Vec<u8>>(0),
            )
            .optional()
            .map_err(Error::db("read an image config"))
        })?;
        if let Some(config) = config.filter(|config| digest.matches(config)) {
            self.write_blob_again(digest, &config)?;
            return Ok(Outcome::Repaired("written again from the database".into()));
        }
        self.db().write(Durability::Durable, |tx| {
            const IMAGES: &str = "
                SELECT DISTINCT image FROM manifests WHERE digest IN
                  (SELECT manifest FROM manifest_blobs WHERE blob = ?1)
                AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.image = manifests.image AND m.digest NOT IN
                  (SELECT manifest FROM manifest_blobs WHERE blob = ?1))";
            let digest = digest.to_string();
            let images = strings_of(tx, IMAGES, &digest)?;
            let users = users(tx, &images)?;
            if !users.is_empty() {
                return Ok(used(&users));
            }
            forget_blob(tx, &digest)?;
            Ok(pulled_again(images.len()))
        })
    }

    fn write_blob_again(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let mut temp = TempFile::create(self.layout())?;
        std::io::Write::write_all(&mut temp, bytes).map_err(Error::io("write", temp.path()))?;
        let dir = self.layout().blobs(digest.algorithm());
        temp.commit(dir, digest.hex(), &self.blob_path(digest))?;
        let blob = Descriptor::new(MediaType::OciConfig, digest.clone(), bytes.len() as u64);
        self.db().write(Durability::Ordered, |tx| {
            self.insert_blob(tx, &blob)?;
            let mark = self.layout().temp_name();
            tx.execute(
                "UPDATE blobs SET unsettled = ?2, size = ?3 WHERE digest = ?1",
                params![digest.to_string(), mark, crate::db::signed(blob.size)],
            )
            .map_err(Error::db("record a blob"))?;
            Ok(())
        })
    }

    /// Unpacks a layer again in place of the damaged one, or removes the images that have it.
    fn repair_layer(&self, id: i64, diff_id: &Digest) -> Result<Outcome> {
        let form = self.db().read(|db| forms::of(db, id))?;
        let blobs = self.layer_blobs()?;
        // The archive may be right, and only its index not.
        let archive = self.own_archive(diff_id, form)?;
        let mut fresh = match &archive {
            Some((descriptor, file)) => {
                let file = file.try_clone().map_err(Error::io("open", self.root()))?;
                let made = self.make_layer(descriptor, diff_id, file, false, form);
                if_good(made.map(|(_, fresh)| Some(fresh)))?
            }
            None => None,
        };
        let how = match &fresh {
            Some(_) => "its index was made again",
            None => "made again from its blob",
        };
        if let (None, Some(blob)) = (&fresh, blobs.get(diff_id)) {
            fresh = if_good(self.made_again(diff_id, blob, form))?;
        }
        let outcome = self.db().write(Durability::Durable, |tx| {
            let users = strings_of(
                tx,
                "SELECT 'container ' || container FROM container_layers WHERE layer = ?1",
                &id,
            )?;
            if !users.is_empty() {
                return Ok(used(&users));
            }
            if let Some(fresh) = fresh.take() {
                self.replace_layer(tx, id, diff_id, fresh)?;
                return Ok(Outcome::Repaired(how.into()));
            }
            let images = strings_of(
                tx,
                "SELECT DISTINCT image FROM image_layers WHERE layer = ?1",
                &id,
            )?;
            for image in &images {
                forget_image(tx, image)?;
            }
            let forget = || {
                tx.execute("DELETE FROM lease_layers WHERE layer = ?1", [id])?;
                tx.execute("DELETE FROM layers WHERE id = ?1", [id])
            };
            forget().map_err(Error::db("forget a layer"))?;
            Ok(pulled_again(images.len()))
        })?;
        self.remove_replaced(id, None)?;
        Ok(outcome)
    }

    /// The archive of a layer that is one, as far as it is there.
    fn own_archive(&self, diff_id: &Digest, form: Form) -> Result<Option<(Descriptor, File)>> {
        let layer = match form {
            Form::Directory => None,
            Form::Erofs => self.layer(diff_id)?,
        };
        match layer.map(|layer| self.source_of(&layer)).transpose() {
            Err(Error::Io { .. }) => Ok(None),
            other => other,
        }
    }

    fn repair_image(&self, id: &str) -> Result<Outcome> {
        self.db().write(Durability::Durable, |tx| {
            let users = users(tx, &[id.to_owned()])?;
            if !users.is_empty() {
                return Ok(used(&users));
            }
            forget_image(tx, id)?;
            Ok(Outcome::Repaired("removed; it can be pulled again".into()))
        })
    }
}

fn strings_of(tx: &Connection, sql: &str, value: &dyn rusqlite::ToSql) -> Result<Vec<String>> {
    let read = || {
        let mut statement = tx.prepare_cached(sql)?;
        let rows = statement.query_map([value], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(Error::db("look for what is in use"))
}

/// What was made of something, unless that is damaged, or cannot be read.
fn if_good<T>(made: Result<Option<T>>) -> Result<Option<T>> {
    match made {
        Err(
            Error::Layer { .. }
            | Error::DigestMismatch { .. }
            | Error::SizeMismatch { .. }
            | Error::BlobRead { .. },
        ) => Ok(None),
        other => other,
    }
}

/// The containers of images, in words.
fn users(tx: &Connection, images: &[String]) -> Result<Vec<String>> {
    let mut users = Vec::new();
    for image in images {
        let sql = "SELECT 'container ' || id FROM containers WHERE image = ?1";
        users.extend(strings_of(tx, sql, image)?);
    }
    Ok(users)
}

fn forget_image(tx: &Connection, id: &str) -> Result<()> {
    tx.execute("DELETE FROM images WHERE id = ?1", [id])
        .map_err(Error::db("remove an image"))?;
    Ok(())
}

/// Forgets a blob, the manifests that need it, and the images that have no other.
pub(crate) fn forget_blob(tx: &Connection, digest: &str) -> Result<()> {
    let forget = || {
        tx.execute(
            "DELETE FROM manifests WHERE digest IN (SELECT manifest FROM manifest_blobs WHERE blob = ?1)",
            [digest],
        )?;
        tx.execute(
            "DELETE FROM images WHERE id NOT IN (SELECT image FROM manifests)",
            [],
        )?;
        tx.execute(
            "UPDATE images SET manifest = (SELECT digest FROM manifests WHERE image = images.id)
             WHERE manifest NOT IN (SELECT digest FROM manifests)",
            [],
        )?;
        tx.execute("DELETE FROM lease_blobs WHERE digest = ?1", [digest])?;
        tx.execute("DELETE FROM blobs WHERE digest = ?1", [digest])
    };
    forget().map_err(Error::db("forget a blob"))?;
    Ok(())
}
