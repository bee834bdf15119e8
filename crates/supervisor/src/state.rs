//! `state.json`: the supervisor's record of one container, readable by any process at any time.
//! Written to a temporary file and renamed, without fsync: the directory is on a tmpfs and goes
//! with the processes it describes. Only the supervisor writes it.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use base::file::{Lasts, read_bounded, replace};
pub(crate) use base::time::now_ns;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};

/// The file's name in the container's directory.
pub(crate) const STATE_FILE: &str = "state.json";

/// A record, or a container's configuration, of more bytes is not read.
const MAX_RECORD: u64 = 16 << 20;

/// The version of the record's form that this program writes; it refuses greater ones.
const VERSION: u32 = 1;

/// What the supervisor knows of a container. How this record may change: `docs/records.md`. Readers of
/// before that page refuse every `version` but 1, and need all of the fields that are here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// The form of the record.
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// Where it stands in its life.
    pub status: Status,
    /// The container's first process as the host sees it; `None` once it has ended.
    pub pid: Option<i32>,
    /// When it was created: nanoseconds since 1970, UTC.
    pub created_at_ns: i64,
    /// The container's cgroup, relative to the root of each hierarchy.
    pub cgroup: String,
    /// What its log lacks, if it lacks something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<Box<LogLoss>>,
    /// How often it has run again by its policy, since somebody started it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a container wrote that is not in its log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLoss {
    /// Lines. Written at most every ten seconds while it grows.
    pub lines: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Why lines are lost now; `None`: they are not any more.
    #[serde(default)]
    pub why: Option<String>,
}

/// Where a container stands, with what is known only there. Times are nanoseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its first process waits for start.
    Created,
    /// Its program runs.
    Running {
        /// When the program was executed.
        started_at: i64,
    },
    /// Its cgroup is frozen.
    Paused {
        /// When the program was executed.
        started_at: i64,
    },
    /// Its first process has ended.
    Exited {
        /// When the program was executed; `None` if it never was.
        started_at: Option<i64>,
        /// When it ended.
        finished_at: i64,
        /// The program's code, or 128 and the number of the signal that killed it.
        exit_code: i32,
        /// The kernel killed a process of the container for want of memory.
        oom_killed: bool,
        /// Why it was not started.
        message: Option<String>,
    },
    /// A state that only a newer floe knows, by its name; never written.
    #[serde(skip)]
    Other(String),
}

impl Status {
    /// The state in a word, for messages.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Created => "created, not started",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Exited { .. } => "exited",
            Self::Other(name) => name,
        }
    }

    /// When the program was executed, if it was.
    #[must_use]
    pub fn started_at(&self) -> Option<i64> {
        match self {
            Self::Created | Self::Other(_) => None,
            Self::Running { started_at } | Self::Paused { started_at } => Some(*started_at),
            Self::Exited { started_at, .. } => *started_at,
        }
    }

    /// Has the container ended?
    #[must_use]
    pub fn is_exited(&self) -> bool {
        matches!(self, Self::Exited { .. })
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StatusVisitor)
    }
}

/// Takes any name for a state, where serde's own code knows only those that are listed.
struct StatusVisitor;

impl<'de> Visitor<'de> for StatusVisitor {
    type Value = Status;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a state's name, alone or with what is known in it")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Status, E> {
        match name {
            "created" => Ok(Status::Created),
            "running" | "paused" | "exited" => Err(E::missing_field("started_at")),
            other => Ok(Status::Other(other.to_owned())),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Status, A::Error> {
        #[derive(Deserialize)]
        struct Since {
            started_at: i64,
        }
        #[derive(Deserialize)]
        struct End {
            started_at: Option<i64>,
            finished_at: i64,
            exit_code: i32,
            oom_killed: bool,
            message: Option<String>,
        }
        let one = |what| A::Error::custom(format!("{what} state"));
        let name: String = map.next_key()?.ok_or_else(|| one("no"))?;
        let status = match name.as_str() {
            "running" => {
                let Since { started_at } = map.next_value()?;
                Status::Running { started_at }
            }
            "paused" => {
                let Since { started_at } = map.next_value()?;
                Status::Paused { started_at }
            }
            "exited" => {
                let end: End = map.next_value()?;
                Status::Exited {
                    started_at: end.started_at,
                    finished_at: end.finished_at,
                    exit_code: end.exit_code,
                    oom_killed: end.oom_killed,
                    message: end.message,
                }
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
                Status::Other(name)
            }
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(status),
            Some(_) => Err(one("more than one")),
        }
    }
}

impl ContainerState {
    /// The record of a container that was created just now.
    pub(crate) fn created(id: &str, pid: i32, cgroup: &str) -> Self {
        Self {
            version: VERSION,
            id: id.to_owned(),
            status: Status::Created,
            pid: Some(pid),
            created_at_ns: now_ns(),
            cgroup: cgroup.to_owned(),
            log_loss: None,
            restarts: 0,
        }
    }

    /// The record of a container that another program is about to make.
    pub(crate) fn of_shim(id: &str) -> Self {
        Self {
            pid: None,
            ..Self::created(id, 0, "")
        }
    }

    /// The record in a container's directory; `None` if there is none: the container is not made,
    /// or is deleted.
    ///
    /// # Errors
    /// A file that cannot be read or is not such a record.
    pub fn read(container_dir: &Path) -> Result<Option<Self>> {
        let path = container_dir.join(STATE_FILE);
        let Some(state) = read_json::<Self>(&path)? else {
            return Ok(None);
        };
        if state.version > VERSION {
            let reason = format!(
                "version {} of the record needs a newer floe: this one reads up to {VERSION}",
                state.version
            );
            return Err(Error::Record { path, reason });
        }
        Ok(Some(state))
    }

    /// Puts the record in its place at once.
    pub(crate) fn write(&self, container_dir: &Path) -> Result<()> {
        write_json(&container_dir.join(STATE_FILE), self)
    }

    /// Takes the record away; one that is not there is fine.
    pub(crate) fn remove(container_dir: &Path) -> Result<()> {
        remove_file(&container_dir.join(STATE_FILE))
    }
}

/// Reads a JSON record; `None` if there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let wrong = |reason: String| Error::Record {
        path: path.to_owned(),
        reason,
    };
    let bytes = match read_bounded(path, MAX_RECORD) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if is_lack(&error) => return Err(Error::io("read", path)(error)),
        Err(error) => return Err(wrong(error.to_string())),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| wrong(error.to_string()))
}

/// Is it the reader that lacks something, and not the record?
fn is_lack(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    )
}

/// Writes a JSON record so that a reader sees the old or the new, never a part.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::Record {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    replace(path, &bytes, 0o600, Lasts::UntilBoot).map_err(Error::io("write", path))
}

/// Removes a file, or whatever is in its place; what is not there is fine.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    let removed = match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::IsADirectory => std::fs::remove_dir_all(path),
        other => other,
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_version_is_refused_by_name() {
        let dir = std::env::temp_dir().join(format!("floe-state-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut state = ContainerState::created("c", 1, "g");
        state.version = 99;
        state.write(&dir).unwrap();
        let error = ContainerState::read(&dir).unwrap_err();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(error.to_string().contains("version 99"), "{error}");
    }

    #[test]
    fn a_state_that_only_a_newer_floe_knows_has_its_name() {
        let read = |status: &str| serde_json::from_str::<Status>(status);
        for text in [r#""checkpointed""#, r#"{"checkpointed":{"to":"x"}}"#] {
            let status = read(text).unwrap();
            assert_eq!(status, Status::Other("checkpointed".to_owned()));
            assert_eq!((status.word(), status.is_exited()), ("checkpointed", false));
            assert!(serde_json::to_string(&status).is_err());
        }
        // What is known and not whole is damage.
        for text in [
            r#""running""#,
            r#"{"running":{}}"#,
            r#"{"exited":{"finished_at":1}}"#,
            r#"{"created":null,"running":{"started_at":1}}"#,
            "{}",
            "7",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let added = r#"{"running":{"started_at":1,"since_boot":2}}"#;
        assert_eq!(read(added).unwrap(), Status::Running { started_at: 1 });
    }

    #[test]
    fn no_file_is_no_record() {
        let dir = std::env::temp_dir().join(format!("floe-state-none-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let read = ContainerState::read(&dir);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(read.unwrap(), None);
    }
}
