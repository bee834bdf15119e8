//! Locks on files, and the reservation of names by them. A lock goes with its holder, however that
//! ends; a name's file stays as long as an object has the name, and no longer.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::lock::{self, Kind};
use sha2::{Digest, Sha256};

use crate::disk::hex;
use crate::error::{Error, Result};

/// An id is 64 bytes; more is nothing that floe wrote.
const MAX_HOLDER: u64 = 256;
/// No holder needs a lock for so long: a supervisor and a plugin each have less. One that was stopped does.
const PATIENCE: Duration = Duration::from_secs(180);

/// An advisory lock on a file; released when dropped or when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock on `path`, which is made if missing (its directory must exist); at most
    /// [`PATIENCE`].
    pub(crate) fn exclusive(path: &Path) -> Result<Self> {
        Self::within(path, Kind::Exclusive, PATIENCE)
    }

    /// Waits until nobody holds it exclusively; at most [`PATIENCE`].
    pub(crate) fn shared(path: &Path) -> Result<Self> {
        Self::within(path, Kind::Shared, PATIENCE)
    }

    fn within(path: &Path, kind: Kind, patience: Duration) -> Result<Self> {
        let taken = lock::path_within(path, kind, patience)
            .and_then(|taken| taken.ok_or_else(|| lock::timed_out(patience)));
        let file = taken.map_err(Error::io("lock", path))?;
        Ok(Self { file })
    }

    /// As [`Lock::shared`]; `None` if its directory is gone.
    pub(crate) fn shared_if_there(path: &Path) -> Result<Option<Self>> {
        Self::if_there(Self::shared(path))
    }

    /// As [`Lock::exclusive`]; `None` if its directory is gone.
    pub(crate) fn exclusive_if_there(path: &Path) -> Result<Option<Self>> {
        Self::if_there(Self::exclusive(path))
    }

    fn if_there(taken: Result<Self>) -> Result<Option<Self>> {
        match taken {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Takes the lock if it is given free before `until`. A child that a killed process has just made
    /// holds its locks for as long as it takes to execute its program.
    pub(crate) fn exclusive_until(path: &Path, until: Instant) -> Result<Option<Self>> {
        let limit = until.saturating_duration_since(Instant::now());
        let taken = lock::path_within(path, Kind::Exclusive, limit);
        let taken = taken.map_err(Error::io("lock", path))?;
        Ok(taken.map(|file| Self { file }))
    }
}

/// The reservation of one name. While it is held, its object is being made; afterwards the file
/// holds the object's id until [`Reservation::release`]. Dropped without a holder, it leaves no file.
#[derive(Debug)]
pub(crate) struct Reservation {
    lock: Lock,
    path: PathBuf,
    holder: Option<String>,
}

impl Reservation {
    /// Waits for whoever makes an object of that name now. `parts` are the name's parts.
    pub(crate) fn lock<S: AsRef<str>>(names: &Path, parts: &[S]) -> Result<Self> {
        let path = names.join(file_name(parts));
        Self::of(Lock::exclusive(&path)?, path)
    }

    /// The name, if nobody makes an object of it when `until` comes.
    pub(crate) fn lock_until<S: AsRef<str>>(
        names: &Path,
        parts: &[S],
        until: Instant,
    ) -> Result<Option<Self>> {
        Self::lock_file_until(&names.join(file_name(parts)), until)
    }

    /// As [`Reservation::lock_until`], by the reservation's file.
    pub(crate) fn lock_file_until(path: &Path, until: Instant) -> Result<Option<Self>> {
        Lock::exclusive_until(path, until)?
            .map(|lock| Self::of(lock, path.to_owned()))
            .transpose()
    }

    fn of(lock: Lock, path: PathBuf) -> Result<Self> {
        let holder = read_holder(&lock.file).map_err(Error::io("read", &path))?;
        Ok(Self { lock, path, holder })
    }

    /// The id of the object that has the name.
    pub(crate) fn holder(&self) -> Option<String> {
        self.holder.clone()
    }

    /// The name of the reservation's file: one for each name.
    pub(crate) fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Writes down who has the name.
    pub(crate) fn hold(&mut self, id: &str) -> Result<()> {
        self.holder = Some(id.to_owned());
        write_all_at(&self.lock.file, id.as_bytes()).map_err(Error::io("write", &self.path))
    }

    /// The object that has it is gone: unless another takes it, the name is free.
    pub(crate) fn forget(&mut self) {
        self.holder = None;
    }

    /// Gives the name free.
    pub(crate) fn release(mut self) -> Result<()> {
        self.holder = None;
        remove(&self.path)
    }

    /// Gives those of the names free that one of `ids` has. Names that are locked now are left: their
    /// objects are being made.
    pub(crate) fn release_all(names: &Path, ids: &[&str]) -> Result<()> {
        for name in crate::disk::entries(names)? {
            let path = names.join(name);
            let held = File::open(&path)
                .ok()
                .and_then(|file| read_holder(&file).ok());
            if !held.flatten().is_some_and(|id| ids.contains(&id.as_str())) {
                continue;
            }
            if let Some(name) = Self::lock_file_until(&path, Instant::now())?
                && name.holder().is_some_and(|id| ids.contains(&id.as_str()))
            {
                name.release()?;
            }
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Only who holds the lock removes the file, so it is ours; whoever waits makes another.
        if self.holder.is_none()
            && let Err(error) = remove(&self.path)
        {
            tracing::warn!(%error, "the file of a free name stays");
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

fn read_holder(file: &File) -> std::io::Result<Option<String>> {
    let mut id = Vec::new();
    file.take(MAX_HOLDER).read_to_end(&mut id)?;
    Ok(Some(String::from_utf8_lossy(&id).into_owned()).filter(|id| !id.is_empty()))
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
        assert_eq!(first.holder(), None);
        first.hold("id1").unwrap();
        drop(first);
        let again = Reservation::lock(dir.path(), &["pod", "a", "b"]).unwrap();
        assert_eq!(again.holder().as_deref(), Some("id1"));
        let other = Reservation::lock(dir.path(), &["pod", "ab", ""]).unwrap();
        assert_eq!(other.holder(), None);
        again.release().unwrap();
        let free = Reservation::lock(dir.path(), &["pod", "a", "b"]).unwrap();
        assert_eq!(free.holder(), None);
    }

    #[test]
    fn a_lock_that_is_never_given_free_is_an_error_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::shared(&path).unwrap();
        let soon = Duration::from_millis(10);
        Lock::within(&path, Kind::Shared, soon).unwrap();
        let error = Lock::within(&path, Kind::Exclusive, soon).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Unavailable, "{error}");
        assert!(
            error.to_string().contains("another process has held it"),
            "{error}"
        );
        drop(held);
        Lock::within(&path, Kind::Exclusive, soon).unwrap();
    }

    #[test]
    fn a_name_that_nobody_has_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        drop(Reservation::lock(dir.path(), &["a"]).unwrap());
        let mut held = Reservation::lock(dir.path(), &["b"]).unwrap();
        held.hold("id").unwrap();
        drop(held);
        assert_eq!(crate::disk::entries(dir.path()).unwrap().len(), 1);
        Reservation::release_all(dir.path(), &["other", "id"]).unwrap();
        assert!(crate::disk::entries(dir.path()).unwrap().is_empty());
    }
}
