//! Blobs by digest (OCI image-spec image-layout.md, "Blobs").
//!
//! Must never give a file its digest's name before the content was hashed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use image::{Descriptor, Digest, Hasher};
use rusqlite::{Connection, OptionalExtension, params};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::db::{Durability, signed};
use crate::error::{Error, Result};
use crate::layout::{Layout, TempFile};
use crate::lease::{Lease, hold_blob};
use crate::{KeepBlobs, Store, db, keep};

const CHUNK: usize = 128 << 10;

impl Store {
    /// Whether a blob is in the store. It may be gone at the next moment: see [`Store::hold_blob`].
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        self.db()
            .read(|db| Ok(blob_size(db, &digest.to_string())?.is_some()))
    }

    /// Whether a blob is in the store; if so it stays at least as long as the lease. One that was
    /// [not kept](Store::set_keep_blobs) is, unless all are to be.
    pub fn hold_blob(&self, lease: &Lease, digest: &Digest) -> Result<bool> {
        let text = digest.to_string();
        let known = self.db().write(Durability::Ordered, |tx| {
            hold_blob(tx, lease.id(), &text)?;
            Ok(blob_size(tx, &text)?.is_some())
        })?;
        let enough = self.keep_blobs() != KeepBlobs::Always;
        Ok(known && (enough || self.layout().blob_length(digest).is_some()))
    }

    /// As [`hold_blob`](Store::hold_blob), for whoever needs the very file, as the files of an artifact are.
    pub fn hold_file(&self, lease: &Lease, digest: &Digest) -> Result<bool> {
        Ok(self.hold_blob(lease, digest)? && self.layout().blob_length(digest).is_some())
    }

    /// The content of a blob, checked against its digest; `None` when it is not in the store.
    ///
    /// Errors with [`Error::TooLarge`] above `max` bytes and [`Error::DigestMismatch`] when the disk
    /// lost it.
    pub fn read_blob(&self, digest: &Digest, max: u64) -> Result<Option<Vec<u8>>> {
        let Some((file, size)) = self.open_blob(digest)? else {
            return Ok(None);
        };
        if size > max {
            return Err(Error::TooLarge {
                what: format!("blob {digest}"),
                size,
                max,
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(max)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", self.blob_path(digest)))?;
        if !digest.matches(&bytes) {
            let actual = Digest::of_with(digest.algorithm(), &bytes);
            return Err(Error::DigestMismatch {
                expected: digest.clone(),
                actual,
            });
        }
        Ok(Some(bytes))
    }

    /// A blob's file and its size in bytes; `None` when it is neither in the store nor in an additional
    /// one. Not checked: whoever
    /// sends the bytes on computes their digest anyway.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        if !self.has_blob(digest)? {
            for store in self.additional() {
                if let Some(found) = store.open_blob(digest)? {
                    return Ok(Some(found));
                }
            }
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = self.layout().blobs(digest.algorithm());
        let file = match openat(dir, digest.hex(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            // Collected in between.
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::sys("open", self.blob_path(digest))(e)),
        };
        let metadata = file
            .metadata()
            .map_err(Error::io("stat", self.blob_path(digest)))?;
        Ok(Some((file, metadata.len())))
    }

    /// Adds a blob: size and digest are those of the descriptor or nothing is kept.
    ///
    /// Returns at once, without reading, when the blob is there. Errors with [`Error::BlobRead`],
    /// [`Error::SizeMismatch`], [`Error::DigestMismatch`], or [`Error::Io`] (no space).
    pub fn add_blob(
        &self,
        lease: &Lease,
        descriptor: &Descriptor,
        mut reader: impl Read,
    ) -> Result<()> {
        if self.hold_file(lease, &descriptor.digest)? {
            return Ok(());
        }
        let mut writer = BlobWriter::create(self.layout(), descriptor, true)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(Error::BlobRead {
                        digest: descriptor.digest.clone(),
                        source,
                    });
                }
            };
            if !writer.push(&chunk[..length])? {
                break;
            }
        }
        if let Some(temp) = writer.finish()? {
            let path = self.blob_path(&descriptor.digest);
            let dir = self.layout().blobs(descriptor.digest.algorithm());
            temp.commit(dir, descriptor.digest.hex(), &path)?;
        }
        self.db()
            .write(Durability::Ordered, |tx| self.insert_blob(tx, descriptor))
    }

    /// Records a blob that lies under its name, but perhaps not on disk yet.
    pub(crate) fn insert_blob(&self, tx: &Connection, blob: &Descriptor) -> Result<()> {
        let mark = self.layout().temp_name();
        tx.prepare_cached(
            "INSERT OR IGNORE INTO blobs(digest, size, unsettled) VALUES(?1, ?2, ?3)",
        )
        .and_then(|mut statement| {
            statement.execute(params![blob.digest.to_string(), signed(blob.size), mark])
        })
        .map_err(Error::db("record a blob"))?;
        keep::kept_again(tx, blob, &mark)
    }

    /// Where a blob lies, for messages.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let sub = self
            .layout()
            .path()
            .join("blobs")
            .join(digest.algorithm().as_str());
        sub.join(digest.hex())
    }
}

/// The size of a recorded blob in bytes.
pub(crate) fn blob_size(db: &Connection, digest: &str) -> Result<Option<u64>> {
    db.prepare_cached("SELECT size FROM blobs WHERE digest = ?1")
        .and_then(|mut statement| statement.query_row([digest], |row| row.get(0)).optional())
        .map(|size| size.map(db::unsigned))
        .map_err(Error::db("look up a blob"))
}

/// A blob on its way into the store: hashed and counted, and written to `tmp/` if it is to be kept.
pub(crate) struct BlobWriter<'a> {
    temp: Option<TempFile<'a>>,
    hasher: Hasher,
    size: u64,
    expected: &'a Descriptor,
}

impl<'a> BlobWriter<'a> {
    pub(crate) fn create(
        layout: &'a Layout,
        expected: &'a Descriptor,
        keep: bool,
    ) -> Result<BlobWriter<'a>> {
        Ok(BlobWriter {
            temp: keep.then(|| TempFile::create(layout)).transpose()?,
            hasher: expected.digest.algorithm().hasher(),
            size: 0,
            expected,
        })
    }

    /// Adds bytes; `false` when they are more than the descriptor states (reading on is pointless).
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<bool> {
        self.size += bytes.len() as u64;
        if self.size > self.expected.size {
            return Ok(false);
        }
        self.hasher.update(bytes);
        if let Some(temp) = &mut self.temp {
            temp.write_all(bytes).map_err(|source| Error::Io {
                op: "write",
                path: temp.path(),
                source,
            })?;
        }
        Ok(true)
    }

    /// The written file, when the bytes are what the descriptor names.
    pub(crate) fn finish(self) -> Result<Option<TempFile<'a>>> {
        if self.size != self.expected.size {
            return Err(Error::SizeMismatch {
                digest: self.expected.digest.clone(),
                expected: self.expected.size,
                actual: self.size,
            });
        }
        let actual = self.hasher.finish();
        if actual != self.expected.digest {
            return Err(Error::DigestMismatch {
                expected: self.expected.digest.clone(),
                actual,
            });
        }
        Ok(self.temp)
    }
}
