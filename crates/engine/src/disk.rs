//! The engine's records and locks on disk: the one way to write a record, to name a place, to
//! make an id and to hold a lock. Records are on tmpfs (`runroot`) and go with the processes at
//! a reboot, so a write is temporary + rename without fsync: it must be whole for any reader
//! and after any kill, not after a power cut.
//!
//! ```text
//! runroot/
//!   names/HASH          reservation of a pod's or container's name: locked while it is made, holds the id
//!   pods/POD/           one pod: pod.json, lock, supervisor.*, shm/, resolv.conf, hostname, hosts
//!     containers/CID/   one container and its bundle: container.json, config.json, state.json
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Places below `runroot`.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    runroot: PathBuf,
}

impl Layout {
    /// Makes the directories that must always be there.
    pub(crate) fn create(runroot: &Path) -> Result<Self> {
        let layout = Self {
            runroot: runroot.to_owned(),
        };
        make_dir(&layout.pods())?;
        make_dir(&layout.names())?;
        Ok(layout)
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.runroot.join("pods")
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.runroot.join("names")
    }

    pub(crate) fn network(&self) -> PathBuf {
        self.runroot.join("network")
    }

    pub(crate) fn pod(&self, id: &str) -> PathBuf {
        self.pods().join(id)
    }

    pub(crate) fn container(&self, pod: &str, id: &str) -> PathBuf {
        self.pod(pod).join("containers").join(id)
    }
}

/// Makes a directory and its parents, mode 0700 where made.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("create directory", path))
}

/// Names of the entries of a directory; none if it does not exist.
pub(crate) fn entries(dir: &Path) -> Result<Vec<String>> {
    let read = match std::fs::read_dir(dir) {
        Ok(read) => read,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", dir)(e)),
    };
    Ok(read
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect())
}

/// Removes a tree; one that is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Writes `value` so that a reader sees the old or the new, never a part.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|source| Error::Record {
        path: path.to_owned(),
        source,
    })?;
    write_file(path, &bytes, 0o600)
}

/// Writes a file as [`write_json`] does.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(
        ".{}.{}.tmp",
        std::process::id(),
        SEQUENCE.fetch_add(1, Ordering::Relaxed)
    ));
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        Error::io("write", path)(e)
    })
}

/// Reads a record; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path)(e)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| Error::Record {
            path: path.to_owned(),
            source,
        })
}

/// A new id: 64 hexadecimal digits of randomness.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0_u8; 32];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::io("read", "getrandom")(e.into()))?;
    debug_assert_eq!(read, bytes.len(), "getrandom gives up to 256 bytes whole");
    Ok(hex(&bytes))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// An advisory lock on a file; released when dropped or when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock on `path`, which is made if missing (its directory must exist).
    pub(crate) fn exclusive(path: &Path) -> Result<Self> {
        Self::take(path, FlockOperation::LockExclusive)
    }

    /// Waits until nobody holds it exclusively.
    pub(crate) fn shared(path: &Path) -> Result<Self> {
        Self::take(path, FlockOperation::LockShared)
    }

    /// Takes the lock only if nobody has it.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        match Self::take(path, FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => Ok(Some(lock)),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn take(path: &Path, operation: FlockOperation) -> Result<Self> {
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(Error::io("open lock", path))?;
            rustix::fs::flock(&file, operation).map_err(|e| Error::io("lock", path)(e.into()))?;
            // Its last owner may have removed it while we waited: then the lock guards nothing.
            let ours = rustix::fs::fstat(&file).map_err(|e| Error::io("stat", path)(e.into()))?;
            match rustix::fs::stat(path) {
                Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => {
                    return Ok(Self { file });
                }
                _ => continue,
            }
        }
    }
}

/// The reservation of one name. While it is held, its object is being made; afterwards the file
/// holds the object's id until [`Reservation::release`].
#[derive(Debug)]
pub(crate) struct Reservation {
    lock: Lock,
    path: PathBuf,
}

impl Reservation {
    /// Waits for whoever makes an object of that name now. `parts` are the name's parts.
    pub(crate) fn lock<S: AsRef<str>>(names: &Path, parts: &[S]) -> Result<Self> {
        let path = names.join(file_name(parts));
        Ok(Self {
            lock: Lock::exclusive(&path)?,
            path,
        })
    }

    /// The name, unless somebody makes an object of that name now.
    pub(crate) fn try_lock<S: AsRef<str>>(names: &Path, parts: &[S]) -> Result<Option<Self>> {
        Self::try_lock_file(&names.join(file_name(parts)))
    }

    /// As [`Reservation::try_lock`], by the reservation's file.
    pub(crate) fn try_lock_file(path: &Path) -> Result<Option<Self>> {
        Ok(Lock::try_exclusive(path)?.map(|lock| Self {
            lock,
            path: path.to_owned(),
        }))
    }

    /// The id of the object that has the name.
    pub(crate) fn holder(&mut self) -> Result<Option<String>> {
        let mut id = String::new();
        self.lock
            .file
            .read_to_string(&mut id)
            .map_err(Error::io("read", &self.path))?;
        Ok(Some(id).filter(|id| !id.is_empty()))
    }

    /// Writes down who has the name.
    pub(crate) fn hold(&mut self, id: &str) -> Result<()> {
        write_all_at(&self.lock.file, id.as_bytes()).map_err(Error::io("write", &self.path))
    }

    /// Gives the name free.
    pub(crate) fn release(self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.path)(e))
            }
            _ => Ok(()),
        }
    }
}

fn file_name<S: AsRef<str>>(parts: &[S]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..20])
}

fn write_all_at(file: &File, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    file.set_len(0)?;
    file.write_all_at(bytes, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_free_again_only_after_release() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Reservation::lock(dir.path(), &["pod", "a", "b"]).unwrap();
        assert_eq!(first.holder().unwrap(), None);
        first.hold("id1").unwrap();
        drop(first);
        let mut again = Reservation::lock(dir.path(), &["pod", "a", "b"]).unwrap();
        assert_eq!(again.holder().unwrap().as_deref(), Some("id1"));
        let mut other = Reservation::lock(dir.path(), &["pod", "ab", ""]).unwrap();
        assert_eq!(other.holder().unwrap(), None);
        again.release().unwrap();
        let mut free = Reservation::lock(dir.path(), &["pod", "a", "b"]).unwrap();
        assert_eq!(free.holder().unwrap(), None);
    }

    #[test]
    fn a_lock_that_was_removed_by_its_owner_is_not_mistaken_for_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::exclusive(&path).unwrap();
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || Lock::exclusive(&path).unwrap()
        });
        std::fs::remove_file(&path).unwrap();
        drop(first);
        let second = waiting.join().unwrap();
        assert!(path.exists());
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(second);
    }

    #[test]
    fn a_record_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), None);
        write_json(&path, &vec![1_u8]).unwrap();
        write_json(&path, &vec![2_u8]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![2]));
        assert_eq!(entries(dir.path()).unwrap(), ["r.json"]);
    }
}
