//! Health checks: what is asked for, and `health.json`, what they came to, readable by any process at any time.
//! Only the supervisor writes it; it must stay small whatever a check says.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::state::{read_json, write_json};

/// The file's name in the container's directory.
const FILE: &str = "health.json";
/// The version of the record's form that this program writes; it refuses greater ones.
const VERSION: u32 = 1;

/// A command that says whether a container is well: with 0 it is. It runs as the container's own process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// How long after one's end the next begins; `None`: only when somebody asks.
    pub interval: Option<Duration>,
    /// One that takes longer is killed, and has failed.
    pub timeout: Duration,
    /// So many that fail in a row make it unhealthy.
    pub retries: u32,
    /// Those that fail so soon after its start count for nothing, until one has not.
    pub start_period: Duration,
    /// The interval within that time, if it is another.
    pub start_interval: Option<Duration>,
    /// What is checked before all of this.
    pub startup: Option<StartupCheck>,
    /// What follows when it is unhealthy.
    pub on_unhealthy: OnUnhealthy,
    /// The signal that stops it.
    pub stop_signal: i32,
    /// How long to wait then before SIGKILL.
    pub stop_timeout: Duration,
    /// So many of the last are kept, 1,000 at the most.
    pub log_entries: u32,
    /// So many bytes of what each says, 64 KiB at the most.
    pub log_bytes: u32,
}

/// A command that says whether a container has started: until then its health is not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartupCheck {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// How long after one's end the next begins.
    pub interval: Duration,
    /// One that takes longer is killed, and has failed.
    pub timeout: Duration,
    /// The container is started again after so many that failed; 0: never.
    pub retries: u32,
    /// It has started after so many that did not fail; 0 is 1.
    pub successes: u32,
}

/// What follows when a container is unhealthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnhealthy {
    /// Nothing but that it is known.
    #[default]
    Nothing,
    /// It is killed; what is due at its end decides whether it runs again.
    Kill,
    /// It is stopped, and runs no more.
    Stop,
    /// It is stopped and runs again, whatever its policy is.
    Restart,
}

/// How a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nobody knows yet.
    #[default]
    Starting,
    /// Its last check did not fail, or too few have since.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

impl Health {
    /// Docker's and podman's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// A check that has ended. Times are nanoseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// When it began.
    pub started_at_ns: i64,
    /// When it ended.
    pub ended_at_ns: i64,
    /// The command's code; -1: it could not be run, or not to its end.
    pub exit_code: i32,
    /// What it said, as much as is kept of it.
    pub output: String,
}

/// What is known of a container's health. How this record may change: `docs/records.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRecord {
    /// The form of the record.
    pub version: u32,
    /// How it is.
    pub status: Health,
    /// How many checks have failed in a row.
    pub failing_streak: u32,
    /// The last ones, the newest at the end.
    pub log: Vec<Checked>,
}

impl Default for HealthRecord {
    fn default() -> Self {
        Self {
            version: VERSION,
            status: Health::Starting,
            failing_streak: 0,
            log: Vec::new(),
        }
    }
}

impl HealthRecord {
    /// The record in a container's directory; `None` if its health is not checked.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_what_it_was_and_one_of_a_newer_floe_is_refused() {
        let dir = std::env::temp_dir().join(format!("floe-health-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(HealthRecord::read(&dir).unwrap(), None);
        let record = HealthRecord {
            status: Health::Unhealthy,
            failing_streak: 3,
            log: vec![Checked {
                started_at_ns: 1,
                ended_at_ns: 2,
                exit_code: -1,
                output: "no".to_owned(),
            }],
            ..HealthRecord::default()
        };
        record.write(&dir).unwrap();
        let path = dir.join(FILE);
        let golden = r#"{"version":1,"status":"unhealthy","failing_streak":3,"log":[{"started_at_ns":1,"ended_at_ns":2,"exit_code":-1,"output":"no"}]}"#;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), golden);
        assert_eq!(HealthRecord::read(&dir).unwrap(), Some(record));
        std::fs::write(&path, golden.replace(":1,\"st", ":2,\"st")).unwrap();
        let error = HealthRecord::read(&dir).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
