//! Whether each blob is there with its size and, unless the check is quick, its digest.

use std::fs::File;
use std::io::{self, Read};

use image::Digest;
use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use super::{Check, Flaw, Report, Subject};
use crate::blob::blob_size;
use crate::db::unsigned;
use crate::error::{Error, Result};
use crate::{Store, keep};

const CHUNK: usize = 256 << 10;

impl Store {
    pub(super) fn check_blobs(&self, check: Check, report: &mut Report) -> Result<()> {
        let blobs = self.db().read(|db| {
            let read = || {
                let mut statement = db.prepare("SELECT digest, size FROM blobs")?;
                let rows =
                    statement.query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
                rows.collect::<rusqlite::Result<Vec<(String, u64)>>>()
            };
            read().map_err(Error::db("read the blobs"))
        })?;
        let dropped = self.db().read(keep::dropped)?;
        report.blobs = blobs.len() - dropped.len();
        for (text, size) in blobs {
            if dropped.contains(&text) {
                continue;
            }
            let Ok(digest) = Digest::parse(&text) else {
                let flaw = Flaw::Database(format!("{text:?} is no digest of a blob"));
                report.found(Subject::Database, flaw);
                continue;
            };
            let Some(flaw) = self.blob_flaw(&digest, size, check.quick) else {
                continue;
            };
            // Somebody may have collected it between the two looks.
            let there = |db: &rusqlite::Connection| Ok(blob_size(db, &text)?.is_some());
            if self.db().read(there)? {
                report.found(Subject::Blob(digest), flaw);
            }
        }
        Ok(())
    }

    /// What is wrong with a blob's file.
    pub(super) fn blob_flaw(&self, digest: &Digest, size: u64, quick: bool) -> Option<Flaw> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let dir = self.layout().blobs(digest.algorithm());
        let file = match openat(dir, digest.hex(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Some(Flaw::Missing),
            Err(Errno::LOOP) => return Some(Flaw::Kind),
            Err(errno) => return Some(Flaw::Read(errno.to_string())),
        };
        let stat = match rustix::fs::fstat(&file) {
            Ok(stat) => stat,
            Err(errno) => return Some(Flaw::Read(errno.to_string())),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Some(Flaw::Kind);
        }
        let actual = unsigned(stat.st_size);
        if actual != size {
            return Some(Flaw::Size {
                expected: size,
                actual,
            });
        }
        if quick {
            return None;
        }
        match digest_of(file, digest) {
            Ok(actual) if actual == *digest => None,
            Ok(_) => Some(Flaw::Digest),
            Err(error) => Some(Flaw::Read(error.to_string())),
        }
    }
}

fn digest_of(mut file: File, like: &Digest) -> io::Result<Digest> {
    let mut hasher = like.algorithm().hasher();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.update(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
