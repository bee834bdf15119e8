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
use crate::gc::{claimed_blobs, claimed_layers, strings};
use crate::tree;

impl Store {
    pub(super) fn check_leftovers(&self, report: &mut Report) -> Result<()> {
        // Under the write lock nothing of a living process is between file and row.
        self.db().write(Durability::Ordered, |tx| {
            self.look_for_leftovers(tx, report)
        })?;
        for name in self.layout().left_behind()? {
            let path = self.layout().temp_path(&name.to_string_lossy());
            report.found(Subject::Path(path), Flaw::HalfMade);
        }
        Ok(())
    }

    fn look_for_leftovers(&self, tx: &Connection, report: &mut Report) -> Result<()> {
        self.orphans(
            self.layout().layers(),
            "layers",
            &claimed_layers(tx)?,
            report,
        )?;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let place = format!("blobs/{algorithm}");
            let claimed = claimed_blobs(tx, algorithm)?;
            self.orphans(self.layout().blobs(algorithm), &place, &claimed, report)?;
        }
        let known: HashSet<String> = strings(tx, "SELECT id FROM containers")?
            .into_iter()
            .collect();
        let present: HashSet<String> = self.rw_ids()?.into_iter().collect();
        for id in present.difference(&known) {
            report.found(Subject::Container(id.clone()), Flaw::Orphan);
        }
        for id in known.difference(&present) {
            report.found(Subject::Container(id.clone()), Flaw::Missing);
        }
        Ok(())
    }

    fn orphans(
        &self,
        dir: BorrowedFd<'_>,
        place: &str,
        claimed: &HashSet<String>,
        report: &mut Report,
    ) -> Result<()> {
        let path = self.root().join(place);
        let names = tree::names(dir).map_err(Error::sys("read", &path))?;
        for name in names {
            if !name.to_str().is_ok_and(|name| claimed.contains(name)) {
                let path = path.join(name.to_string_lossy().as_ref());
                report.found(Subject::Path(path), Flaw::Orphan);
            }
        }
        Ok(())
    }
}
