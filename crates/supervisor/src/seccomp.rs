//! `seccomp.json`: which calls of a container its seccomp profile has refused, where its supervisor is the
//! profile's agent. Only the supervisor writes it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::state::{read_json, write_json};

/// What the `listenerMetadata` of a profile begins with whose agent the supervisor is to be; what follows is
/// the action: `stop`, or anything else for counting alone.
pub const AGENT: &str = "floe-supervisor:";

/// The file's name in the container's directory.
const FILE: &str = "seccomp.json";
/// The version of the record's form that this program writes; it refuses greater ones.
const VERSION: u32 = 1;

/// How this record may change: `docs/records.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompRecord {
    /// The form of the record.
    pub version: u32,
    /// The container was killed for them.
    pub stopped: bool,
    /// How often each was called, by its name.
    pub calls: BTreeMap<String, u64>,
}

impl Default for SeccompRecord {
    fn default() -> Self {
        Self {
            version: VERSION,
            stopped: false,
            calls: BTreeMap::new(),
        }
    }
}

impl SeccompRecord {
    /// The record in a container's directory; `None` if there is none.
    ///
    /// # Errors
    /// A file that cannot be read or is not such a record.
    pub fn read(container_dir: &Path) -> Result<Option<Self>> {
        let path = container_dir.join(FILE);
        let read = read_json::<Self>(&path)?;
        match read.as_ref().map(|record| record.version) {
            Some(version) if version > VERSION => {
                let reason = format!("version {version} of the record needs a newer floe");
                Err(Error::Record { path, reason })
            }
            _ => Ok(read),
        }
    }

    pub(crate) fn write(&self, container_dir: &Path) -> Result<()> {
        write_json(&container_dir.join(FILE), self)
    }

    /// What was called, in CRI-O's words: `swapoff (1x), swapon (2x)`.
    #[must_use]
    pub fn words(&self) -> String {
        let calls = self.calls.iter();
        let calls: Vec<String> = calls
            .map(|(name, count)| format!("{name} ({count}x)"))
            .collect();
        calls.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_what_it_was_and_one_of_a_newer_floe_is_refused() {
        let dir = std::env::temp_dir().join(format!("floe-seccomp-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut record = SeccompRecord::default();
        record.calls.insert("swapon".into(), 2);
        record.calls.insert("swapoff".into(), 1);
        record.write(&dir).unwrap();
        let read = SeccompRecord::read(&dir);
        record.version = 2;
        record.write(&dir).unwrap();
        let newer = SeccompRecord::read(&dir);
        std::fs::remove_dir_all(&dir).unwrap();
        let none = SeccompRecord::read(&dir);
        assert_eq!(read.unwrap().unwrap().words(), "swapoff (1x), swapon (2x)");
        assert!(newer.unwrap_err().to_string().contains("version 2"));
        assert_eq!(none.unwrap(), None);
    }
}
