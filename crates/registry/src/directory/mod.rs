//! A registry in a directory of its own.
//!
//! ```text
//! DIR/registry.json                        {"version":1}
//! DIR/lock                                 shared: something is being added; exclusive: gc
//! DIR/blobs/ALGORITHM/HEX                  content, once for all repositories
//! DIR/repositories/NAME/                   a repository; '/' in its name is '+'
//!     lock                                 tags and manifests are changed under it
//!     blobs/ALGORITHM/HEX                  empty: this repository has this blob
//!     manifests/ALGORITHM/HEX              media type: this blob is a manifest
//!     tags/TAG                             digest
//!     referrers/ALGORITHM/HEX/ALGORITHM-HEX  descriptor of what refers to ALGORITHM:HEX
//! DIR/uploads/UUID/{session,data}          an upload; it outlives the server
//! DIR/tmp/                                 half-written files
//! ```
//!
//! Every file appears whole, by rename after fsync, and the directory says so on disk before the client
//! hears of it; so several processes may serve one directory, and a kill or a power cut at any
//! moment leaves the old or the new. Must never make a path of anything but the types of `name.rs`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use image::{Algorithm, Digest};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::name::Name;

mod blobs;
mod gc;
mod manifests;
mod uploads;
mod write;

pub use gc::{Collected, Grace};
pub(crate) use manifests::NewManifest;
pub(crate) use uploads::{Opener, Upload};

const VERSION: u64 = 1;
const FORMAT: &str = "registry.json";

/// The first file of a registry.
#[derive(Serialize, Deserialize)]
struct Format {
    version: u64,
}

/// A registry's directory.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    /// Whether manifests may come before their parts.
    sparse: bool,
    hashers: uploads::Hashers,
}

/// A lock on a file, given up when dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held, not read")] File);

impl Directory {
    /// Opens a registry, making it when the directory is empty or missing.
    ///
    /// Errors with [`Error::NotRegistry`], [`Error::Version`], [`Error::Damaged`] or [`Error::Io`].
    pub fn create(root: &Path) -> Result<Directory> {
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .recursive(true)
            .create(root)
            .map_err(Error::io("create", root))?;
        let dir = File::open(root).map_err(Error::io("open", root))?;
        flock(&dir, FlockOperation::LockExclusive).map_err(Error::sys("lock", root))?;
        let marker = root.join(FORMAT);
        if !marker.try_exists().map_err(Error::io("look at", &marker))? {
            let ours = ["tmp", "lost+found"];
            if write::names(root)?
                .iter()
                .any(|name| !ours.contains(&name.as_str()))
            {
                return Err(Error::NotRegistry(root.to_owned()));
            }
            let tmp = root.join("tmp");
            write::directory(&tmp)?;
            let bytes = format!("{{\"version\":{VERSION}}}\n");
            write::file(&tmp, &marker, bytes.as_bytes())?;
        }
        Directory::open(root)
    }

    /// Opens a registry that is there.
    ///
    /// Errors as [`Directory::create`].
    pub fn open(root: &Path) -> Result<Directory> {
        let root = std::path::absolute(root).map_err(Error::io("resolve", root))?;
        let path = root.join(FORMAT);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NotRegistry(root)),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let format: Format =
            serde_json::from_slice(&bytes).map_err(|_| Error::NotRegistry(root.clone()))?;
        if format.version > VERSION {
            return Err(Error::Version {
                path,
                found: format.version,
                known: VERSION,
            });
        }
        let directory = Directory {
            root,
            sparse: false,
            hashers: uploads::Hashers::default(),
        };
        for name in [
            "repositories",
            "uploads",
            "tmp",
            "blobs/sha256",
            "blobs/sha512",
        ] {
            write::directory(&directory.root.join(name))?;
        }
        Ok(directory)
    }

    /// The same, accepting manifests whose parts are not here, or not yet.
    pub fn sparse(mut self, sparse: bool) -> Directory {
        self.sparse = sparse;
        self
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        let algorithm = digest.algorithm().as_str();
        self.root.join("blobs").join(algorithm).join(digest.hex())
    }

    fn repositories_path(&self) -> PathBuf {
        self.root.join("repositories")
    }

    fn repository(&self, name: &Name) -> Repository {
        Repository(self.repositories_path().join(name.path().replace('/', "+")))
    }

    /// Errors with `NameUnknown`.
    fn existing(&self, name: &Name) -> Result<Repository> {
        let repository = self.repository(name);
        match repository.exists()? {
            true => Ok(repository),
            false => Err(Error::NameUnknown(name.to_string())),
        }
    }

    /// Held while something is added whose parts garbage collection must not take.
    fn adding(&self) -> Result<Lock> {
        lock(&self.root.join("lock"), FlockOperation::LockShared)
    }

    /// Held by garbage collection.
    fn sweeping(&self) -> Result<Lock> {
        lock(&self.root.join("lock"), FlockOperation::LockExclusive)
    }
}

/// The directory of a repository, which may not exist.
#[derive(Debug, Clone)]
struct Repository(PathBuf);

impl Repository {
    fn exists(&self) -> Result<bool> {
        self.0.try_exists().map_err(Error::io("look at", &self.0))
    }

    fn lock(&self) -> Result<Lock> {
        lock(&self.0.join("lock"), FlockOperation::LockExclusive)
    }

    fn link(&self, digest: &Digest) -> PathBuf {
        self.under("blobs", digest)
    }

    fn manifest(&self, digest: &Digest) -> PathBuf {
        self.under("manifests", digest)
    }

    fn referrers(&self, subject: &Digest) -> PathBuf {
        self.under("referrers", subject)
    }

    fn tags(&self) -> PathBuf {
        self.0.join("tags")
    }

    fn under(&self, kind: &str, digest: &Digest) -> PathBuf {
        let algorithm = digest.algorithm().as_str();
        self.0.join(kind).join(algorithm).join(digest.hex())
    }

    /// The digests that have a file in `kind`.
    fn digests(&self, kind: &str) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for hex in write::names(&self.0.join(kind).join(algorithm.as_str()))? {
                digests.extend(Digest::parse(&format!("{algorithm}:{hex}")).ok());
            }
        }
        Ok(digests)
    }
}

fn lock(path: &Path, operation: FlockOperation) -> Result<Lock> {
    let mut options = File::options();
    let options = options.read(true).append(true).create(true);
    let file = options.open(path).map_err(Error::io("open", path))?;
    flock(&file, operation).map_err(Error::sys("lock", path))?;
    Ok(Lock(file))
}
