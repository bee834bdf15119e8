//! Checkpoints: running containers written down by criu, with the files that they have written, and pods made
//! from that (CRI CheckpointContainer, CheckpointPod, RestorePod).
//!
//! The containers of one checkpoint are frozen together by what runs the pod, which lets them go on by itself
//! when the time is over, when the engine dies or when the caller leaves ([`Cancel`]). Memory and files are of
//! that one moment. What is half written is removed again.
//!
//! | file | |
//! | --- | --- |
//! | `cancel.rs` | until when it may go on |
//! | `place.rs` | the new file, and the empty directory of the caller's |
//! | `capture.rs` | one container's files, in the layout that checkpointctl, CRI-O and podman read |
//! | `container.rs` | CheckpointContainer: those files in an archive |
//! | `pod.rs` | CheckpointPod: a directory for each container, and the manifest |
//! | `manifest.rs` | what the manifest says |
//! | `restore.rs` | RestorePod |
//! | `source.rs` | the directory that it reads |
//! | `confinement.rs` | what must be as it was |

mod cancel;
mod capture;
mod confinement;
mod container;
mod manifest;
mod place;
mod pod;
mod restore;
mod source;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::Errno;
use serde_json::{Value, json};

pub use cancel::{Cancel, CancelOnDrop};
pub use pod::PodCheckpoint;
pub use restore::{PodRestore, RestoredPod};

use crate::config::CheckpointLevel;
use crate::disk::{self, Lock};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Where criu is looked for if nothing says so.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The field of RestorePod that names a checkpoint.
const FIELD: &str = "checkpoint_path";
/// The directory below the store's root in which archives are put together.
const STAGING: &str = "checkpoints";

impl Engine {
    /// criu, if checkpoints may be taken here.
    ///
    /// # Errors
    /// They are switched off, or criu is not installed.
    fn criu_to_checkpoint(&self) -> Result<PathBuf> {
        match self.config().checkpoints() {
            CheckpointLevel::None => Err(switched_off("checkpoints")),
            CheckpointLevel::CheckpointOnly | CheckpointLevel::CheckpointRestore => criu(),
        }
    }

    /// What a verbose Status says of checkpoints: the level of the configuration, and criu or why there is none.
    #[must_use]
    pub fn checkpoint_report(&self) -> Value {
        let level = self.config().checkpoints().name();
        match criu() {
            Ok(path) => json!({ "level": level, "criu": path }),
            Err(error) => json!({ "level": level, "criu": null, "reason": error.to_string() }),
        }
    }

    /// Removes archives that a killed engine has begun.
    pub(crate) fn clear_checkpoints(&self, until: Instant) -> Result<()> {
        let all = self.staging();
        for name in disk::entries(&all)? {
            let dir = all.join(name);
            let lock = dir.join("lock");
            match Lock::exclusive_until(&lock, until) {
                Ok(Some(_alone)) => disk::remove_tree(&dir)?,
                Ok(None) => {}
                // No directory, or a disk too full for the file that nobody has made: nobody has it.
                Err(_) if !lock.exists() => disk::remove_tree(&dir)?,
                // Who knows whether its maker lives: the next start looks again.
                Err(error) => tracing::warn!(%error, "a half-made checkpoint stays"),
            }
        }
        Ok(())
    }

    fn staging(&self) -> PathBuf {
        self.config().root_table.root.join(STAGING)
    }
}

fn switched_off(what: &str) -> Error {
    Error::Unsupported(format!(
        "{what}: crio.checkpoint_restore.container_level_enabled (or crio.runtime.enable_criu_support) is set \
         against them, and so this"
    ))
}

/// Where criu is.
///
/// # Errors
/// [`Error::NoCriu`].
fn criu() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let mut found = std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("criu"));
    found.find(|file| file.is_file()).ok_or(Error::NoCriu)
}

/// A system call that failed on a path, for `map_err`.
fn io(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> Error + use<> {
    let path = path.to_owned();
    move |errno| Error::Io {
        operation,
        path,
        source: errno.into(),
    }
}

/// A directory on the store's disk for what is put together. It goes when this is dropped.
#[derive(Debug)]
struct Staging {
    dir: PathBuf,
    _lock: Lock,
}

impl Staging {
    fn new(engine: &Engine) -> Result<Self> {
        let dir = engine.staging().join(disk::new_id()?);
        disk::make_dir(&dir)?;
        let lock = Lock::exclusive(&dir.join("lock"))?;
        disk::make_dir(&dir.join("files"))?;
        Ok(Self { dir, _lock: lock })
    }

    fn files(&self) -> PathBuf {
        self.dir.join("files")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = disk::remove_tree(&self.dir) {
            tracing::warn!(%error, "a checkpoint's files are left");
        }
    }
}

/// Opens a directory by a path of this process's own making.
fn open_dir(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(io("open", path))
}
