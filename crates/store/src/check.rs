//! Checking a store: whether what the database says is on disk and is right, and whether anything is
//! on disk that it does not say.
//!
//! Must never change anything unless it is asked to repair, and never take from a container what it
//! stands on. Runs beside other processes: what they add or remove meanwhile is no damage.

use std::path::PathBuf;

use image::{Digest, ImageConfig};

use crate::error::{Error, Result};
use crate::images::NO_CONFIG;
use crate::{Store, db};

mod blobs;
mod compare;
mod layers;
mod leftovers;
mod repair;

pub(crate) use repair::forget_blob;

/// How to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Check {
    /// Look at names and sizes only, not at the content of blobs and layers.
    pub quick: bool,
    /// Repair what can be repaired.
    pub repair: bool,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Images looked at.
    pub images: usize,
    /// Layers looked at.
    pub layers: usize,
    /// Blobs looked at.
    pub blobs: usize,
}

impl Report {
    /// Whether something is wrong and stays so.
    pub fn is_damaged(&self) -> bool {
        self.remaining().any(|finding| !finding.flaw.is_leftover())
    }

    /// Whether something is left that nobody needs, and stays. That is no damage: whatever is listed is
    /// whole.
    pub fn has_leftovers(&self) -> bool {
        self.remaining().any(|finding| finding.flaw.is_leftover())
    }

    fn remaining(&self) -> impl Iterator<Item = &Finding> {
        let findings = self.findings.iter();
        findings.filter(|finding| !matches!(finding.outcome, Outcome::Repaired(_)))
    }

    fn found(&mut self, subject: Subject, flaw: Flaw) {
        let outcome = Outcome::Found;
        self.findings.push(Finding {
            subject,
            flaw,
            outcome,
        });
    }
}

/// Something that is wrong.
#[derive(Debug)]
pub struct Finding {
    /// With what.
    pub subject: Subject,
    /// What is wrong with it.
    pub flaw: Flaw,
    /// What became of it.
    pub outcome: Outcome,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.subject, self.flaw)
    }
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: no repair was asked for.
    Found,
    /// It is right again, or gone.
    Repaired(String),
    /// It could not be repaired, and why.
    Kept(String),
}

/// A part of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The metadata database.
    Database,
    /// A blob.
    Blob(Digest),
    /// An unpacked layer: its number and the digest of its content.
    Layer(i64, Digest),
    /// An image, by its full ID.
    Image(String),
    /// A container's writable layer.
    Container(String),
    /// A file or directory.
    Path(PathBuf),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Database => write!(f, "meta.sqlite"),
            Subject::Blob(digest) => write!(f, "blob {digest}"),
            Subject::Layer(id, diff_id) => write!(f, "layer {id} ({diff_id})"),
            Subject::Image(id) => write!(f, "image {id}"),
            Subject::Container(id) => write!(f, "writable layer of container {id}"),
            Subject::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What can be wrong with a part of a store.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// SQLite finds its file damaged.
    #[error("the database is damaged: {0}")]
    Database(String),
    /// There is no file.
    #[error("it is missing")]
    Missing,
    /// Something else lies under its name.
    #[error("what lies there is neither file nor directory of the store")]
    Kind,
    /// The size is another one.
    #[error("it has {actual} bytes and not {expected}")]
    Size {
        /// Of the database.
        expected: u64,
        /// On disk.
        actual: u64,
    },
    /// The content is another one.
    #[error("its content is not what has this digest")]
    Digest,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(String),
    /// An unpacked layer is not what its blob unpacks to.
    #[error("{0:?} in it is not as the layer's archive has it")]
    Differs(String),
    /// The files of a layer are not those that the kernel was told to hold to what they were.
    #[error("its files are not the ones that were sealed (fs-verity)")]
    Seal,
    /// An image's config or manifest does not fit its layers.
    #[error("{0}")]
    Image(String),
    /// Nobody knows it.
    #[error("nothing of the store belongs to it")]
    Orphan,
    /// A dead process left it.
    #[error("a process that has ended left it half made")]
    HalfMade,
    /// A removal was cut off: the rest goes with the next collection.
    #[error("a command that was killed has not finished removing it")]
    HalfRemoved,
    /// `index.json` is not what the database says.
    #[error("it does not list the names that the database has")]
    Index,
}

impl Flaw {
    /// Whether it is only about what is left over, by a process that was killed or from elsewhere.
    fn is_leftover(&self) -> bool {
        matches!(self, Flaw::Orphan | Flaw::HalfMade | Flaw::HalfRemoved)
    }
}

impl Store {
    /// Checks the whole store, and repairs it if that is asked for. Errors only when the check itself
    /// cannot be made.
    ///
    /// A repair makes good what can be made again from what is there, and else removes the image, which
    /// can be pulled again, unless a container uses it. Whatever nothing belongs to goes, too.
    pub fn check(&self, check: Check) -> Result<Report> {
        let mut report = Report::default();
        if let Some(flaw) = self.database_flaw(check)? {
            report.found(Subject::Database, Flaw::Database(flaw.clone()));
            if !check.repair {
                return Ok(report);
            }
            self.db().remake(flaw)?;
            let how = "made again from what lies in the store; the old one is kept as meta.sqlite.damaged";
            for finding in &mut report.findings {
                finding.outcome = Outcome::Repaired(how.into());
            }
        }
        self.check_blobs(check, &mut report)?;
        self.check_layers(check, &mut report)?;
        self.check_images(&mut report)?;
        self.check_leftovers(&mut report)?;
        self.check_index(&mut report)?;
        if check.repair {
            self.repair(&mut report)?;
        }
        Ok(report)
    }

    /// Why what the database says cannot be relied on.
    fn database_flaw(&self, check: Check) -> Result<Option<String>> {
        let sql = match check.quick {
            true => "PRAGMA quick_check(10)",
            false => "PRAGMA integrity_check(10)",
        };
        let said = self.db().read(|db| {
            let read = || {
                let mut statement = db.prepare(sql)?;
                let rows = statement.query_map([], |row| row.get(0))?;
                rows.collect::<rusqlite::Result<Vec<String>>>()
            };
            Ok(read())
        })?;
        Ok(match said {
            Ok(said) if said == ["ok"] => None,
            Ok(said) => Some(said.join("; ")),
            Err(error) => Some(error.to_string()),
        })
    }

    /// The documents of each image, and whether they fit its layers.
    fn check_images(&self, report: &mut Report) -> Result<()> {
        const IMAGES: &str = "
            SELECT id, config, (SELECT count(*) FROM image_layers WHERE image = id), manifest FROM images";
        let images = self.db().read(|db| {
            let read = || {
                let mut statement = db.prepare(IMAGES)?;
                let rows = statement.query_map([], |row| {
                    Ok((
                        row.get(0)?,
                        row.get(1)?,
                        db::unsigned(row.get(2)?),
                        row.get(3)?,
                    ))
                })?;
                rows.collect::<rusqlite::Result<Vec<(String, Vec<u8>, u64, String)>>>()
            };
            read().map_err(Error::db("read the images"))
        })?;
        report.images = images.len();
        for (id, config, layers, manifest) in images {
            let is_artifact = manifest.split_once(':').is_some_and(|(_, hex)| hex == id);
            if is_artifact && config == NO_CONFIG && layers == 0 {
                continue;
            }
            if let Some(why) = image_flaw(&id, &config, layers) {
                report.found(Subject::Image(id), Flaw::Image(why));
            }
        }
        Ok(())
    }

    fn check_index(&self, report: &mut Report) -> Result<()> {
        if !self.core().is_index_right()? {
            let path = self.root().join("index.json");
            report.found(Subject::Path(path), Flaw::Index);
        }
        Ok(())
    }
}

fn image_flaw(id: &str, config: &[u8], layers: u64) -> Option<String> {
    // The id is the hex of the digest, of whatever algorithm.
    let algorithms = [image::Algorithm::Sha256, image::Algorithm::Sha512];
    let right = |algorithm| Digest::of_with(algorithm, config).hex() == id;
    if !algorithms.into_iter().any(right) {
        return Some("its config in the database has another digest".into());
    }
    match ImageConfig::parse(config) {
        Err(error) => Some(error.to_string()),
        Ok(config) if config.rootfs.diff_ids.len() as u64 != layers => Some(format!(
            "its config names {} layers and the database {layers}",
            config.rootfs.diff_ids.len()
        )),
        Ok(_) => None,
    }
}
