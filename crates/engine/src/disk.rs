//! The engine's records on disk: the one way to write a record, to name a place and to make an id.
//! Records are on tmpfs (`runroot`) and go with the processes at a reboot, so a write is temporary +
//! rename without fsync: it must be whole for any reader and after any kill, not after a power cut.
//! What is read may be anything: it is bounded, and a place that floe did not make is passed over.
//!
//! ```text
//! runroot/
//!   restored            is there once the definitions of people's containers are in pods/
//!   names/HASH          reservation of a pod's or container's name: locked while it is made, holds the id
//!   pods/POD/           one pod: pod.json, lock, supervisor.*, shm/, resolv.conf, hostname, hosts
//!     containers/CID/   one container and its bundle: container.json, config.json, state.json
//!   pods/HASH.new/      a pod before its first record, under its name's lock
//!   …/ID.gone/          what is being removed: nothing of it counts
//! ```

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use base::file::{Lasts, replace};
pub(crate) use base::time::now_ns;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};
pub(crate) use crate::lock::{Lock, Reservation};

/// A record of more bytes is neither written nor read.
const MAX_RECORD: u64 = 16 << 20;
/// How much is remembered of records that were looked at.
const MAX_REMEMBERED: usize = 65_536;

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
        for dir in [layout.pods(), layout.names()] {
            match make_dir(&dir) {
                // What is there can be read; whatever needs more will say so.
                Err(error) if is_read_only(&error) => {
                    tracing::warn!(%error, "the run directory cannot be written");
                }
                other => other?,
            }
        }
        Ok(layout)
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.runroot.join("pods")
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.runroot.join("names")
    }

    /// Where the supervisor listens for the calls that a container's seccomp profile refuses. The path of a
    /// socket has 107 bytes at most.
    pub(crate) fn seccomp_socket(&self, container: &str) -> PathBuf {
        let short = container.get(..32).unwrap_or(container);
        self.runroot.join("seccomp").join(short)
    }

    /// Is there once what is kept of definitions was brought here since the node was started.
    pub(crate) fn restored(&self) -> PathBuf {
        self.runroot.join("restored")
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

    /// The ids of all pods, half-made ones included.
    pub(crate) fn pod_ids(&self) -> Result<Vec<String>> {
        ids(&self.pods())
    }

    /// The ids of a pod's containers, half-made ones included.
    pub(crate) fn container_ids(&self, pod: &str) -> Result<Vec<String>> {
        ids(&self.pod(pod).join("containers"))
    }
}

/// The bundles of a pod's containers.
pub(crate) fn bundles(pod_dir: &Path) -> Result<Vec<PathBuf>> {
    let dir = pod_dir.join("containers");
    Ok(ids(&dir)?.into_iter().map(|id| dir.join(id)).collect())
}

/// The directories that have an id as their name; what else is there is not floe's.
fn ids(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in read_dir(dir)?.into_iter().flatten().flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Ok(name) = entry.file_name().into_string()
            && is_dir
            && is_id(&name)
        {
            found.push(name);
        }
    }
    Ok(found)
}

/// Is it the name of a pod or container, as [`new_id`] makes them?
pub(crate) fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn read_dir(dir: &Path) -> Result<Option<std::fs::ReadDir>> {
    match std::fs::read_dir(dir) {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", dir)(e)),
    }
}

fn is_read_only(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::ReadOnlyFilesystem)
}

/// Makes a directory and its parents, mode 0700 where made.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("create directory", path))
}

/// Lets every user pass through the directories that lead to a container's, from that of the runs of this node
/// on, and see none of them: an OCI program sets a root file system up as root of a user namespace, who is
/// nobody on the node. What else is there stays out of reach.
pub(crate) fn let_pass(container: &Path) -> Result<()> {
    let way: Vec<&Path> = container.ancestors().take(5).collect();
    let change = |path: &Path, keep: u32, add: u32| {
        let meta = std::fs::symlink_metadata(path).map_err(Error::io("stat", path))?;
        let mode = meta.permissions().mode() & 0o7777;
        let wanted = mode & keep | add;
        if mode == wanted || meta.is_symlink() {
            return Ok(());
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(wanted))
            .map_err(Error::io("set the mode of", path))
    };
    let (Some(runs), Some(pods)) = (way.get(4), way.get(3)) else {
        return Err(Error::invalid("container", container.display().to_string()));
    };
    for name in entries(runs)? {
        let path = runs.join(name);
        if path != *pods && path.is_dir() {
            change(&path, 0o7770, 0)?;
        }
    }
    way.iter().try_for_each(|dir| change(dir, 0o7777, 0o001))
}

/// Names of the entries of a directory; none if it does not exist.
pub(crate) fn entries(dir: &Path) -> Result<Vec<String>> {
    let read = read_dir(dir)?.into_iter().flatten();
    Ok(read
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect())
}

/// Removes whatever is at a path; nothing there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes a pod's or container's directory: it is there whole, or not at all, for any reader and
/// after any kill. What may be mounted in it is `release`d first.
pub(crate) fn remove_object(dir: &Path, release: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let gone = dir.with_extension(GONE);
    // Of an earlier try.
    release(&gone)?;
    remove_tree(&gone)?;
    match std::fs::rename(dir, &gone) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("rename", dir))?,
    }
    release(&gone)?;
    remove_tree(&gone)
}

/// The ending of what is being removed.
pub(crate) const GONE: &str = "gone";
/// The ending of a pod's directory before it has its record.
pub(crate) const NEW: &str = "new";

/// Writes `value` so that a reader sees the old or the new, never a part.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let wrong = |reason: String| Error::Record {
        path: path.to_owned(),
        reason,
    };
    let bytes = serde_json::to_vec(value).map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 > MAX_RECORD {
        let reason = format!(
            "the record of {} bytes is longer than {MAX_RECORD}",
            bytes.len()
        );
        return Err(Error::invalid("config", reason));
    }
    write_file(path, &bytes, 0o600)
}

/// Writes a file as [`write_json`] does.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, bytes, mode, Lasts::UntilBoot).map_err(Error::io("write", path))
}

/// The bytes of a record; `None` if there is none.
pub(crate) fn read_record(path: &Path) -> Result<Option<Vec<u8>>> {
    match base::file::read_bounded(path, MAX_RECORD) {
        Err(e) if e.kind() == ErrorKind::InvalidData => Err(Error::Record {
            path: path.to_owned(),
            reason: e.to_string(),
        }),
        other => other.map_err(Error::io("read", path)),
    }
}

/// Reads what has a format of its own, as a bundle's `config.json` has; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read_record(path)? else {
        return Ok(None);
    };
    let parsed = serde_json::from_slice(&bytes).map(Some);
    parsed.map_err(|error| Error::Record {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Says once in the life of this process that something at `path` is not as floe makes it.
pub(crate) fn warn_once(path: &Path, error: &dyn std::fmt::Display) {
    static WARNED: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.len() < MAX_REMEMBERED && warned.insert(path.to_owned()) {
        tracing::warn!(path = %path.display(), %error, "a record cannot be read; its pod can be removed");
    }
}

/// Can a record be read, if there is one? What could be read is not read again before it changes.
pub(crate) fn is_whole(path: &Path, read: impl FnOnce() -> bool) -> bool {
    type Seen = Mutex<HashSet<(u64, i64, i64, u64)>>;
    static WHOLE: LazyLock<Seen> = LazyLock::new(Mutex::default);
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return true;
    };
    let version = (found.ino(), found.mtime(), found.mtime_nsec(), found.len());
    let known = || WHOLE.lock().unwrap_or_else(PoisonError::into_inner);
    if known().contains(&version) {
        return true;
    }
    let whole = read();
    if whole {
        let mut known = known();
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(version);
    }
    whole
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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_record_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        assert_eq!(read_record(&path).unwrap(), None);
        write_json(&path, &vec![1_u8]).unwrap();
        write_json(&path, &vec![2_u8]).unwrap();
        assert_eq!(read_record(&path).unwrap().unwrap(), b"[2]");
        assert_eq!(entries(dir.path()).unwrap(), ["r.json"]);
    }

    #[test]
    fn what_is_no_plain_file_or_too_long_is_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        let damaged = || read_record(&path).unwrap_err().is_damage();
        File::create(&path)
            .unwrap()
            .set_len(MAX_RECORD + 1)
            .unwrap();
        assert!(damaged());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(damaged());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(damaged());
        remove_tree(&path).unwrap();
        assert!(read_record(&path).unwrap().is_none());
    }

    #[test]
    fn only_directories_with_an_id_as_name_are_pods() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let id = new_id().unwrap();
        make_dir(&layout.pod(&id)).unwrap();
        make_dir(&layout.pod("stray")).unwrap();
        std::fs::write(layout.pod(&new_id().unwrap()), "").unwrap();
        assert_eq!(layout.pod_ids().unwrap(), [id]);
    }
}
