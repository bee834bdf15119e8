//! Uploads in progress (Distribution spec, "Pushing blobs"): each a directory that outlives the server.
//!
//! One request at a time writes to an upload, under a lock that holds between processes too. Must
//! never give content a name in `blobs/` before it was hashed whole and is on disk.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use image::{Algorithm, Digest, Hasher};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Directory, write};
use crate::error::{Error, Result};
use crate::name::{Name, UploadId};

/// How long a request waits for the one before it, whose connection may just have broken.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of an upload beside its bytes.
#[derive(Serialize, Deserialize)]
struct Session {
    version: u64,
    repository: String,
    algorithm: String,
}

/// Hashes of uploads so far, so that each byte is hashed once. What is not here is read again.
#[derive(Debug, Default)]
pub(super) struct Hashers(Mutex<HashMap<UploadId, (Hasher, u64)>>);

impl Hashers {
    fn take(&self, id: UploadId) -> Option<(Hasher, u64)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id)
    }

    fn put(&self, id: UploadId, hasher: Hasher, size: u64) {
        let mut hashers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hashers.insert(id, (hasher, size));
    }

    /// Forgets those of uploads that are gone.
    fn retain(&self, lives: impl Fn(&UploadId) -> bool) {
        let mut hashers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hashers.retain(|id, _| lives(id));
    }
}

impl Directory {
    fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// Begins an upload. Errors with `TooManyUploads`.
    pub(crate) fn begin_upload(
        &self,
        name: &Name,
        algorithm: Algorithm,
        max: usize,
    ) -> Result<UploadId> {
        let _adding = self.adding()?;
        if write::names(&self.uploads())?.len() >= max {
            return Err(Error::TooManyUploads { max });
        }
        let id = UploadId::random();
        let (made, path) = (
            self.tmp().join(id.to_string()),
            self.uploads().join(id.to_string()),
        );
        let session = Session {
            version: 1,
            repository: name.path().to_owned(),
            algorithm: algorithm.to_string(),
        };
        let session = serde_json::to_vec(&session).map_err(|e| Error::Damaged {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        fs::create_dir(&made).map_err(Error::io("create", &made))?;
        let fill = || {
            fs::write(made.join("session"), session)?;
            File::create_new(made.join("data"))?;
            fs::rename(&made, &path)
        };
        fill()
            .map_err(Error::io("begin the upload", &path))
            .inspect_err(|_| {
                // The next gc takes what cannot be removed now.
                let _ = fs::remove_dir_all(&made);
            })?;
        self.hashers.put(id, algorithm.hasher(), 0);
        Ok(id)
    }

    /// How many bytes an upload has. Errors with `UploadUnknown`.
    pub(crate) fn upload_size(&self, name: &Name, id: &str) -> Result<u64> {
        let (id, _) = self.session(name, id)?;
        let path = self.uploads().join(id.to_string()).join("data");
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) if write::is_absent(&e) => Err(unknown(name, &id.to_string())),
            Err(e) => Err(Error::io("look at", &path)(e)),
        }
    }

    /// An upload to write to, which waits for whoever is writing. Errors with `UploadUnknown` or
    /// `UploadBusy`.
    pub(crate) fn open_upload(&self, name: &Name, id: &str) -> Result<Upload> {
        let (id, algorithm) = self.session(name, id)?;
        let dir = self.uploads().join(id.to_string());
        let lock = File::open(dir.join("session")).map_err(|e| absent(name, id, e))?;
        let begun = Instant::now();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Errno::WOULDBLOCK) => return Err(Error::UploadBusy),
                Err(e) => return Err(Error::sys("lock", &dir)(e)),
            }
        }
        // Whoever held the lock may have ended the upload.
        let mut options = File::options();
        let options = options.read(true).append(true);
        let data = options
            .open(dir.join("data"))
            .map_err(|e| absent(name, id, e))?;
        let size = data.metadata().map_err(Error::io("look at", &dir))?.len();
        let hasher = match self.hashers.take(id) {
            Some((hasher, hashed)) if hashed == size => hasher,
            _ => hash(algorithm, &data).map_err(Error::io("read", &dir))?,
        };
        Ok(Upload {
            id,
            dir,
            data,
            size,
            hasher,
            _lock: lock,
        })
    }

    /// Puts an upload down: it can be gone on with.
    pub(crate) fn rest_upload(&self, upload: Upload) {
        self.hashers
            .put(upload.id, upload.hasher.clone(), upload.size);
    }

    /// Makes an upload a blob of a repository. Errors with `DigestMismatch`, and then it is gone.
    pub(crate) fn commit_upload(
        &self,
        name: &Name,
        upload: Upload,
        expected: &Digest,
    ) -> Result<()> {
        let data = upload.dir.join("data");
        let mut actual = upload.hasher.clone().finish();
        if actual.algorithm() != expected.algorithm() {
            let file = File::open(&data).map_err(Error::io("open", &data))?;
            actual = hash(expected.algorithm(), &file)
                .map_err(Error::io("read", &data))?
                .finish();
        }
        if actual != *expected {
            self.drop_upload(&upload)?;
            let expected = expected.clone();
            return Err(Error::DigestMismatch { expected, actual });
        }
        upload.data.sync_all().map_err(Error::io("sync", &data))?;
        let _adding = self.adding()?;
        let path = self.blob_path(expected);
        // What a disk has cut short is replaced.
        if self.content_size(expected)? != Some(upload.size) {
            fs::rename(&data, &path).map_err(Error::io("rename to", &path))?;
            write::sync(path.parent().unwrap_or(&path))?;
        }
        self.link_blob(name, expected)?;
        self.drop_upload(&upload)
    }

    /// Ends an upload and removes what it has. Errors as [`Directory::open_upload`].
    pub(crate) fn cancel_upload(&self, name: &Name, id: &str) -> Result<()> {
        let upload = self.open_upload(name, id)?;
        self.drop_upload(&upload)
    }

    pub(crate) fn drop_upload(&self, upload: &Upload) -> Result<()> {
        fs::remove_dir_all(&upload.dir).map_err(Error::io("remove", &upload.dir))
    }

    /// Removes uploads that nobody touched for `idle`; returns how many.
    pub(crate) fn expire_uploads(&self, idle: Duration, dry_run: bool) -> Result<u64> {
        let mut expired = 0;
        let ids = write::names(&self.uploads())?;
        let ids: Vec<_> = ids.iter().filter_map(|id| UploadId::parse(id)).collect();
        for id in &ids {
            let dir = self.uploads().join(id.to_string());
            let touched = fs::metadata(dir.join("data")).and_then(|data| data.modified());
            // A directory without data is a commit that was cut off.
            let touched = touched.or_else(|_| fs::metadata(&dir).and_then(|dir| dir.modified()));
            let Ok(lock) = File::open(dir.join("session")) else {
                continue;
            };
            let free = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if !free || !touched.is_ok_and(|touched| is_older(touched, idle)) {
                continue;
            }
            expired += 1;
            if !dry_run {
                fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))?;
            }
        }
        self.hashers.retain(|id| ids.contains(id));
        Ok(expired)
    }

    fn session(&self, name: &Name, text: &str) -> Result<(UploadId, Algorithm)> {
        let id = UploadId::parse(text).ok_or_else(|| unknown(name, text))?;
        let path = self.uploads().join(id.to_string()).join("session");
        let bytes = write::read(&path)?.ok_or_else(|| unknown(name, text))?;
        let session: Session = serde_json::from_slice(&bytes).map_err(|e| Error::Damaged {
            path,
            reason: e.to_string(),
        })?;
        if session.repository != name.path() {
            return Err(unknown(name, text));
        }
        let algorithm = match session.algorithm.as_str() {
            "sha512" => Algorithm::Sha512,
            _ => Algorithm::Sha256,
        };
        Ok((id, algorithm))
    }
}

/// An upload that this request alone may write to.
#[derive(Debug)]
pub(crate) struct Upload {
    id: UploadId,
    dir: PathBuf,
    data: File,
    size: u64,
    hasher: Hasher,
    _lock: File,
}

impl Upload {
    /// The bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds bytes. After an error the upload has some of them, and its length says how many.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.data.write(rest) {
                Ok(0) => {
                    return Err(Error::io("write", &self.dir)(
                        io::ErrorKind::WriteZero.into(),
                    ));
                }
                Ok(length) => {
                    self.hasher.update(&rest[..length]);
                    self.size += length as u64;
                    rest = &rest[length..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("write", &self.dir)(e)),
            }
        }
        Ok(())
    }
}

/// Whether a moment is at least `age` ago. A clock that went backwards makes nothing old.
pub(super) fn is_older(moment: SystemTime, age: Duration) -> bool {
    SystemTime::now()
        .duration_since(moment)
        .is_ok_and(|passed| passed >= age)
}

fn hash(algorithm: Algorithm, data: &File) -> io::Result<Hasher> {
    use std::io::{Seek, SeekFrom};
    let mut data = data;
    let mut hasher = algorithm.hasher();
    let mut chunk = vec![0; 256 << 10];
    data.seek(SeekFrom::Start(0))?;
    loop {
        match data.read(&mut chunk) {
            Ok(0) => return Ok(hasher),
            Ok(length) => hasher.update(&chunk[..length]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn absent(name: &Name, id: UploadId, error: io::Error) -> Error {
    match write::is_absent(&error) {
        true => unknown(name, &id.to_string()),
        false => Error::io("open upload", id.to_string())(error),
    }
}

fn unknown(name: &Name, id: &str) -> Error {
    Error::UploadUnknown {
        name: name.to_string(),
        id: id.escape_default().take(100).collect(),
    }
}
