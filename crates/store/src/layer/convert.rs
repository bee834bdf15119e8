//! Making a layer once more, in its form or another: for `system convert`, and for the repair of what is damaged.
//!
//! The number stays, so that what stands on the layer need not know; the name under it is another one for each
//! form, so that a kill leaves either form whole and the row says which. Must never replace what a container stands
//! on.

use std::ffi::CString;
use std::fs::File;

use image::{Descriptor, Digest, MediaType};
use rusqlite::{Connection, params};
use rustix::fs::renameat;
use rustix::io::Errno;

use super::{Form, Fresh, Home, Layer, forms, indexed};
use crate::db::{self, Durability, signed};
use crate::error::{Error, Result};
use crate::{Store, Usage, records};

impl Store {
    /// Gives a layer another form; `false` when it has that already. Its content stays, and so does its place in
    /// images. One that cannot have the form stays as it is, and `false` says that, too.
    ///
    /// # Errors
    /// [`Error::Unsupported`]: it is of an additional store, or a container stands on it.
    /// [`Error::LayerBlobGone`]: it is a directory, and no blob of it is kept that its archive could be had of.
    pub fn convert(&self, layer: &Layer, form: Form) -> Result<bool> {
        let refused = |why: String| Error::Unsupported {
            what: format!("layer {} in another form", layer.diff_id()),
            why,
        };
        if layer.form() == form {
            return Ok(false);
        }
        if layer.home() != Home::Here {
            return Err(refused("an additional store is never written".into()));
        }
        let (id, old) = (layer.id(), layer.form());
        let users = |db: &Connection| user(db, id);
        if let Some(user) = self.db().read(users)? {
            return Err(refused(format!("container {user} stands on it")));
        }
        let lease = self.lease()?;
        if !layer.hold(&lease)? {
            return Ok(false);
        }
        let (descriptor, content) = self.source_of(layer)?;
        let (_, fresh) = self.make_layer(&descriptor, layer.diff_id(), content, false, form)?;
        if fresh.form != form {
            return Ok(false);
        }
        // Whatever a kill leaves from here on is a collection's.
        self.db().write(Durability::Durable, |tx| loosen(tx, id))?;
        self.db().write(Durability::Durable, |tx| {
            if let Some(user) = users(tx)? {
                return Err(refused(format!("container {user} stands on it")));
            }
            loosen(tx, id)?;
            self.replace_layer(tx, id, layer.diff_id(), fresh)
        })?;
        self.remove_replaced(id, Some(old))?;
        Ok(true)
    }

    /// What a layer can be made of: its archive where it is one, or else a blob of it.
    pub(crate) fn source_of(&self, layer: &Layer) -> Result<(Descriptor, File)> {
        match layer.form() {
            Form::Erofs => {
                let (tar, length) = indexed::archive(layer)?;
                let digest = layer.diff_id().clone();
                Ok((Descriptor::new(MediaType::OciLayer, digest, length), tar))
            }
            Form::Directory => {
                let blob = layer.blob()?;
                let gone = || Error::LayerBlobGone {
                    diff_id: layer.diff_id().clone(),
                };
                let (file, _) = self.open_blob(&blob.digest)?.ok_or_else(gone)?;
                Ok((blob, file))
            }
        }
    }

    /// Gives what was made its name, in place of what has it, and records it.
    pub(crate) fn replace_layer(
        &self,
        tx: &Connection,
        id: i64,
        diff_id: &Digest,
        fresh: Fresh<'_>,
    ) -> Result<()> {
        let layout = self.layout();
        let integrity = records::layer(layout, id).and_then(|facts| facts.integrity);
        let record = fresh.record(diff_id, integrity);
        let Fresh {
            dir, form, facts, ..
        } = fresh;
        let name = forms::name(id, form);
        let path = self.layer_path(id, form);
        self.move_away_later(&name)?;
        dir.commit(layout.layers(), &name, &path)?;
        records::keep_layer(layout, id, &record)?;
        forms::record(tx, id, form)?;
        let Usage { bytes, inodes } = facts.usage;
        let (bytes, inodes) = (signed(bytes), signed(inodes));
        let mark = layout.temp_name();
        let run = || {
            // Only what comes and goes is counted by triggers.
            for (sum, column, value) in [("bytes", "bytes", bytes), ("inodes", "inodes", inodes)] {
                let sql = format!(
                    "UPDATE state SET value = value + ?1 - (SELECT {column} FROM layers WHERE id = ?2)
                     WHERE key = ?3"
                );
                tx.execute(&sql, params![value, id, sum])?;
            }
            tx.execute(
                "UPDATE layers SET unsettled = ?2, bytes = ?3, inodes = ?4 WHERE id = ?1",
                params![id, mark, bytes, inodes],
            )
        };
        run().map_err(Error::db("record a layer"))?;
        Ok(())
    }

    /// After a layer was replaced, and that is recorded: what it was mounted as goes, and what lies there in another
    /// form.
    pub(crate) fn remove_replaced(&self, id: i64, old: Option<Form>) -> Result<()> {
        self.unmount_replaced(id)?;
        match old {
            Some(old) => self.move_away_later(&forms::name(id, old)),
            None => Ok(()),
        }
    }

    fn move_away_later(&self, name: &str) -> Result<()> {
        let (layout, doomed) = (self.layout(), self.layout().temp_name());
        match renameat(layout.layers(), name, layout.tmp(), &doomed) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => {
                let path = self.root().join("layers").join(name);
                return Err(Error::sys("rename", path)(errno));
            }
        }
        if let Ok(doomed) = CString::new(doomed) {
            self.remove_later(doomed);
        }
        Ok(())
    }
}

/// Has the next collection look for other forms of a layer.
fn loosen(tx: &Connection, layer: i64) -> Result<()> {
    tx.execute("INSERT OR IGNORE INTO loose_layers VALUES(?1)", [layer])
        .map_err(Error::db("convert a layer"))?;
    Ok(())
}

/// A container that stands on a layer.
fn user(db: &Connection, layer: i64) -> Result<Option<String>> {
    const USER: &str =
        "SELECT container FROM container_layers WHERE layer = CAST(?1 AS INTEGER) LIMIT 1";
    db::one(db, USER, &layer.to_string())
}
