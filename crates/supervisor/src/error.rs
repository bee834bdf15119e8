//! What can go wrong between a pod supervisor and its callers. One type on both sides of the
//! socket: the supervisor builds the error where the facts are known and sends it as it is, so a
//! caller can act on the variant and a person can read the message.
//!
//! Must never hold a cause only as a number: [`std::io::Error`]s cross the socket by errno.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the supervisor, of its client, or of the runtime below.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Error {
    /// No container of that id is in the pod.
    #[error("container {id} does not exist in this pod")]
    NotFound {
        /// The id as asked for.
        id: String,
    },
    /// A container of that id is in the pod already.
    #[error("container {id} exists already in this pod")]
    Exists {
        /// The id as asked for.
        id: String,
    },
    /// The verb does not fit the container's state.
    #[error("cannot {verb} container {id}: it is {state}")]
    State {
        /// The verb.
        verb: String,
        /// The container.
        id: String,
        /// Its state in words.
        state: String,
    },
    /// A field of the request or of a file it names cannot be accepted.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field, as the request names it.
        field: String,
        /// Why not.
        reason: String,
    },
    /// The program of a container or of an exec could not be executed.
    #[error("{message}")]
    Start {
        /// The runtime's words: which program, and why not.
        message: String,
        /// What a shell would answer: 127 for a missing program, 126 for one that cannot be
        /// executed, 128 for a failure before that.
        exit_code: i32,
    },
    /// The runtime library failed.
    #[error("{verb} container {id}: {message}")]
    Runtime {
        /// What was tried.
        verb: String,
        /// The container.
        id: String,
        /// The runtime's words.
        message: String,
    },
    /// A system call failed.
    #[error("{operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: String,
        /// On which file; for sockets and processes, what stands for them.
        path: PathBuf,
        /// The cause.
        #[serde(with = "errno")]
        source: io::Error,
    },
    /// A part of the pod cannot be set up.
    #[error("set up {part}: {reason}")]
    SetUp {
        /// Which part.
        part: String,
        /// Why not.
        reason: String,
    },
    /// A sysctl of the pod cannot be set.
    #[error("sysctl {name}={value:?}: {reason}")]
    Sysctl {
        /// The name as asked for.
        name: String,
        /// The value as asked for.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A record on disk is not what this program writes.
    #[error("{} is damaged: {reason}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The supervisor's program did not start.
    #[error("{} supervise: {reason}", .program.display())]
    Launch {
        /// The program.
        program: PathBuf,
        /// How it ended.
        reason: String,
    },
    /// The supervisor is not there, or went away while a request was under way.
    #[error("the supervisor of pod {} is gone", .dir.display())]
    Gone {
        /// The pod's directory.
        dir: PathBuf,
    },
    /// The supervisor is there and says nothing: it is stopped, or the kernel holds it. What it was
    /// asked for may still happen.
    #[error("the supervisor of pod {} has not answered for {seconds} s", .dir.display())]
    Silent {
        /// The pod's directory.
        dir: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The supervisor does not know what it was asked for.
    #[error("the pod's supervisor is of floe {version} and cannot {ability}: a pod made anew can")]
    Unsupported {
        /// The request, or the part of it, by its name on the wire.
        ability: String,
        /// The supervisor's version.
        version: String,
    },
    /// A failure that only a newer floe has a name for.
    #[error("the pod's supervisor, which is of a newer floe, answers {answer}")]
    Newer {
        /// The answer as it came, cut short where it is long.
        answer: String,
    },
    /// The other side of the socket does not speak the protocol.
    #[error("supervisor protocol: {reason}")]
    Protocol {
        /// What was wrong.
        reason: String,
    },
}

impl Error {
    /// Is the answer that there is no such container? A remove may take it for success.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Is there no supervisor to answer?
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// Is there a supervisor that does not answer? It tells nothing of the pod's state.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Silent { .. })
    }

    /// A supervisor that has not answered for so long.
    pub fn silent(dir: &std::path::Path, limit: std::time::Duration) -> Self {
        Self::Silent {
            dir: dir.to_owned(),
            seconds: limit.as_secs(),
        }
    }

    /// A failed system call with its place, for `map_err`.
    pub(crate) fn io<E: Into<io::Error>>(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation: operation.to_owned(),
            path,
            source: source.into(),
        }
    }

    /// A request that cannot be accepted.
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// As it is, but what says that a name is unknown is [`Error::Unsupported`] with that name:
    /// supervisors of before that error was say it so.
    pub(crate) fn or_unsupported(self, version: &str) -> Self {
        let Self::Protocol { reason } = &self else {
            return self;
        };
        let name = reason.strip_prefix("decode: unknown variant `");
        match name.and_then(|rest| rest.split('`').next()) {
            None => self,
            Some(name) => Self::Unsupported {
                ability: name.chars().take(80).collect(),
                version: version.to_owned(),
            },
        }
    }

    /// The other side broke the protocol.
    pub(crate) fn protocol(reason: impl Into<String>) -> Self {
        Self::Protocol {
            reason: reason.into(),
        }
    }
}

/// Reads the error of a supervisor of any floe: one that this program has no name for is
/// [`Error::Newer`].
pub(crate) fn of_any_floe<'de, D: Deserializer<'de>>(from: D) -> Result<Error, D::Error> {
    let answer = serde_json::Value::deserialize(from)?;
    Ok(
        Error::deserialize(&answer).unwrap_or_else(|_| Error::Newer {
            answer: answer.to_string().chars().take(1000).collect(),
        }),
    )
}

/// An [`io::Error`] as its errno, so that the far side has the same kind and the same words.
mod errno {
    use std::io;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(error: &io::Error, to: S) -> Result<S::Ok, S::Error> {
        match error.raw_os_error() {
            Some(number) => Wire::Errno(number),
            None => Wire::Text(error.to_string()),
        }
        .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<io::Error, D::Error> {
        Ok(match Wire::deserialize(from)? {
            Wire::Errno(number) => io::Error::from_raw_os_error(number),
            Wire::Text(text) => io::Error::other(text),
        })
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Wire {
        Errno(i32),
        Text(String),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_keeps_kind_and_words_across_the_socket() {
        let before = Error::io("open", "/x")(io::Error::from_raw_os_error(libc::ENOENT));
        let json = serde_json::to_string(&before).unwrap();
        let after: Error = serde_json::from_str(&json).unwrap();
        assert_eq!(after.to_string(), before.to_string());
        assert!(
            matches!(after, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
        );
    }

    #[test]
    fn what_an_older_supervisor_does_not_know_is_named() {
        let old = "decode: unknown variant `subscribe`, expected one of `set_up`, `create`";
        let error = Error::protocol(old).or_unsupported("an older one");
        let text = error.to_string();
        assert!(text.contains("cannot subscribe"), "{text}");
        let other = Error::protocol("decode: missing field `id`").or_unsupported("x");
        assert!(matches!(other, Error::Protocol { .. }), "{other}");
    }

    #[test]
    fn a_failure_of_a_newer_supervisor_keeps_its_words() {
        use crate::protocol::Response;
        let text = r#"{"failed":{"quota_exceeded":{"id":"c","limit":5}}}"#;
        let Response::Failed(error) = serde_json::from_str(text).unwrap() else {
            panic!("no failure");
        };
        let text = error.to_string();
        assert!(
            text.contains("newer floe") && text.contains("quota_exceeded"),
            "{text}"
        );
        let known = r#"{"failed":{"not_found":{"id":"c","why":"gone"}}}"#;
        let Response::Failed(error) = serde_json::from_str(known).unwrap() else {
            panic!("no failure");
        };
        assert!(error.is_not_found());
    }
}
