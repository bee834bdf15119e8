//! Uploads in progress (Distribution spec, "Pushing blobs"): each a directory that outlives the server.
//!
//! One request at a time writes to an upload, under a lock that holds between processes too. Must
//! never give content a name in `blobs/` before it was hashed whole and is on disk.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base::lock;
use image::{Algorithm, Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::{Directory, write};
use crate::error::{Error, Result};
use crate::name::{Name, UploadId};

/// An upload that was not written to for as long may have to give way to a new one.
const GIVES_WAY: Duration = Duration::from_secs(300);

/// How long a request waits for the one before it, whose connection may just have broken.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of an upload beside its bytes.
#[derive(Serialize, Deserialize)]
struct Session {
    version: u64,
    repository: String,
    algorithm: String,
    /// Who began it; nobody knows of those that older versions began.
    #[serde(default)]
    client: String,
}

/// Who begins an upload, and how many there may be.
#[derive(Debug, Clone)]
pub(crate) struct Opener {
    /// A user or an address.
    pub(crate) client: String,
    /// Uploads of everyone.
    pub(crate) max: usize,
    /// Uploads of this client.
    pub(crate) max_of_one: usize,
}

/// An upload that somebody has begun.
struct Begun {
    dir: PathBuf,
    client: String,
    /// For how long nobody has written to it.
    idle: Duration,
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
        opener: &Opener,
    ) -> Result<UploadId> {
        let _adding = self.adding()?;
        self.make_room(opener)?;
        let id = UploadId::random();
        let (made, path) = (
            self.tmp().join(id.to_string()),
            self.uploads().join(id.to_string()),
        );
        let session = Session {
            version: 1,
            repository: name.path().to_owned(),
            algorithm: algorithm.to_string(),
            client: opener.client.clone(),
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

    /// Sees to it that one more upload may begin: a client's own abandoned one gives way to its next,
    /// and one of whoever has the most when all places are taken. Errors with `TooManyUploads`.
    fn make_room(&self, opener: &Opener) -> Result<()> {
        let names = write::names(&self.uploads())?;
        if names.len() < opener.max_of_one.min(opener.max) {
            return Ok(());
        }
        let begun = self.begun(&names)?;
        let of = |client: &str| begun.iter().filter(|one| one.client == client).count();
        let (max, of_one) = match of(&opener.client) >= opener.max_of_one {
            true => (opener.max_of_one, true),
            false if begun.len() < opener.max => return Ok(()),
            false => (opener.max, false),
        };
        let may_go =
            |one: &&Begun| one.idle >= GIVES_WAY && (!of_one || one.client == opener.client);
        let goes = begun.iter().filter(may_go);
        let goes = goes.max_by_key(|one| (of(&one.client), one.idle));
        if let Some(one) = goes
            && self.remove_abandoned(one)?
        {
            return Ok(());
        }
        Err(Error::TooManyUploads { max, of_one })
    }

    fn begun(&self, names: &[String]) -> Result<Vec<Begun>> {
        let mut begun = Vec::new();
        for name in names {
            let dir = self.uploads().join(name);
            let session = write::read(&dir.join("session"))?;
            let session: Option<Session> =
                session.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            begun.push(Begun {
                client: session.map(|session| session.client).unwrap_or_default(),
                idle: touched(&dir)
                    .ok()
                    .and_then(|touched| SystemTime::now().duration_since(touched).ok())
                    .unwrap_or_default(),
                dir,
            });
        }
        Ok(begun)
    }

    /// Removes an upload, unless somebody is writing to it.
    fn remove_abandoned(&self, one: &Begun) -> Result<bool> {
        let Ok(lock) = File::open(one.dir.join("session")) else {
            return Ok(false);
        };
        if !is_free(&lock) {
            return Ok(false);
        }
        tracing::info!(client = one.client, idle = ?one.idle, "an abandoned upload gives way");
        fs::remove_dir_all(&one.dir).map_err(Error::io("remove", &one.dir))?;
        Ok(true)
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
        let got = lock::within(&lock, lock::Kind::Exclusive, PATIENCE);
        if !got.map_err(Error::io("lock", &dir))? {
            return Err(Error::UploadBusy);
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
            let touched = touched(&dir);
            let Ok(lock) = File::open(dir.join("session")) else {
                continue;
            };
            if !is_free(&lock) || !touched.is_ok_and(|touched| is_older(touched, idle)) {
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

/// When an upload was last written to. A directory without data is a commit that was cut off.
/// Is nobody writing to the upload that this locks? Then nobody can before the file is closed.
fn is_free(session: &File) -> bool {
    lock::within(session, lock::Kind::Exclusive, Duration::ZERO).unwrap_or(false)
}

fn touched(dir: &Path) -> io::Result<SystemTime> {
    let data = fs::metadata(dir.join("data")).and_then(|data| data.modified());
    data.or_else(|_| fs::metadata(dir).and_then(|dir| dir.modified()))
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
