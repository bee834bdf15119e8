//! What lies in the store and belongs to nothing: files without a row, rows without a file, and what
//! dead processes left half made.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;

use image::Algorithm;
use rusqlite::Connection;

use super::{Flaw, Report, Subject};
use crate::Store;
use crate::db::Durability;
use crate::error::{Error, Result};
use crate::gc::{REMOVAL, claimed_blobs, claimed_layers, strings};
use crate::layer::forms;
use crate::tree;

impl Store {
    pub(super) fn check_leftovers(&self, report: &mut Report) -> Result<()> {
        match self.layout().is_read_only() {
            true => self.db().read(|db| self.look_for_leftovers(db, report))?,
            false => {
                // Nobody who lives is in the middle of a removal then; who does not let go is waited for
                // no longer than anybody.
                let _lock = self.layout().lock(REMOVAL, self.limits().lock_wait);
                // Under the write lock nothing of a living process is between file and row.
                self.db().write(Durability::Ordered, |tx| {
                    self.look_for_leftovers(tx, report)
                })?;
            }
        }
        for name in self.layout().left_behind()? {
            let path = self.layout().temp_path(&name.to_string_lossy());
            report.found(Subject::Path(path), Flaw::HalfMade);
        }
        Ok(())
    }

    fn look_for_leftovers(&self, tx: &Connection, report: &mut Report) -> Result<()> {
        let loose = strings(tx, "SELECT CAST(id AS TEXT) FROM loose_layers")?;
        let places = (self.layout().layers(), "layers");
        self.orphans(places, &claimed_layers(tx)?, &loose, report)?;
        let loose = strings(tx, "SELECT substr(digest, 8) FROM loose_blobs")?;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let place = format!("blobs/{algorithm}");
            let claimed = claimed_blobs(tx, algorithm)?;
            let places = (self.layout().blobs(algorithm), place.as_str());
            self.orphans(places, &claimed, &loose, report)?;
        }
        let known: HashSet<String> = strings(tx, "SELECT id FROM containers")?
            .into_iter()
            .collect();
        let present: HashSet<String> = self.layout().container_ids()?.into_iter().collect();
        for id in present.difference(&known) {
            report.found(Subject::Container(id.clone()), Flaw::Orphan);
        }
        for id in known.difference(&present) {
            report.found(Subject::Container(id.clone()), Flaw::HalfRemoved);
        }
        Ok(())
    }

    fn orphans(
        &self,
        (dir, place): (BorrowedFd<'_>, &str),
        claimed: &HashSet<String>,
        loose: &[String],
        report: &mut Report,
    ) -> Result<()> {
        let path = self.root().join(place);
        let names = tree::names(dir).map_err(Error::sys("read", &path))?;
        for name in names {
            let name = name.to_string_lossy();
            if claimed.contains(&*name) {
                continue;
            }
            let number = forms::parse(&name).map(|(id, _)| id.to_string());
            let is_loose = |loose: &String| *loose == name || Some(loose) == number.as_ref();
            let flaw = match loose.iter().any(is_loose) {
                true => Flaw::HalfRemoved,
                false => Flaw::Orphan,
            };
            report.found(Subject::Path(path.join(&*name)), flaw);
        }
        Ok(())
    }
}
