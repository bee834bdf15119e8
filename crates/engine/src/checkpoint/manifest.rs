//! `manifest.json` of a pod's checkpoint, written last: a directory without one holds no checkpoint. It says what
//! is where, and what a restore must agree with; it is believed nothing else.

use std::os::fd::BorrowedFd;

use std::path::Path;

use base::file::{Lasts, read_bounded, replace};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const FILE: &str = "manifest.json";
/// The form that this floe writes, and the newest that it reads.
const VERSION: u32 = 1;
/// A longer one is not read.
const LONGEST: u64 = 4 << 20;
/// More containers than a pod has.
const MOST: usize = 1024;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) version: u32,
    /// The floe that wrote it, for a person.
    #[serde(default)]
    pub(super) written_by: String,
    /// The containers; the files of each are in `containers/N`, where N is its place here.
    pub(super) containers: Vec<Member>,
    /// There is `shm.tar`: the pod's /dev/shm.
    #[serde(default)]
    pub(super) shm: bool,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// Its name in the pod.
    pub(super) name: String,
    /// The id of its image.
    pub(super) image_id: String,
    /// It had a terminal.
    pub(super) tty: bool,
    /// Its stdin was open for clients.
    pub(super) stdin: bool,
}

impl Manifest {
    pub(super) fn of(containers: Vec<Member>, shm: bool) -> Self {
        Self {
            version: VERSION,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            containers,
            shm,
        }
    }

    /// Writes it to a directory, for good.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| Error::Record {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        replace(&path, &bytes, 0o600, Lasts::Always).map_err(Error::io("write", path))
    }

    /// Reads that of a directory.
    ///
    /// # Errors
    /// No manifest, one that is damaged, or of a newer form.
    pub(super) fn read(dir: BorrowedFd<'_>, field: &str) -> Result<Self> {
        let own = format!(
            "/proc/self/fd/{}/{FILE}",
            std::os::fd::AsRawFd::as_raw_fd(&dir)
        );
        let wrong = |reason: String| Error::invalid(field, format!("{FILE}: {reason}"));
        let bytes =
            read_bounded(own.as_ref(), LONGEST).map_err(|error| wrong(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| wrong("is missing: no checkpoint is there".to_owned()))?;
        let read = serde_json::from_slice(&bytes);
        let manifest: Self = read.map_err(|error| wrong(error.to_string()))?;
        match manifest.version {
            VERSION => {}
            other => {
                return Err(wrong(format!(
                    "version {other} is not known: this floe reads {VERSION}"
                )));
            }
        }
        let mut names: Vec<&str> = manifest.containers.iter().map(|one| &*one.name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != manifest.containers.len() || names.is_empty() || names.len() > MOST {
            return Err(wrong(
                "it names no containers, one twice, or too many".to_owned(),
            ));
        }
        Ok(manifest)
    }
}
