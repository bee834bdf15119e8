//! What can go wrong between a config.json and a running process. The far side of a clone sends
//! its failures as [`InitFailure`]: a sentence and an errno.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::errno_text;

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of config.json cannot be accepted.
    #[error("config.json: {field}: {reason}")]
    Invalid {
        /// The field, dotted.
        field: String,
        /// Why not.
        reason: String,
    },
    /// A system call failed.
    #[error("{operation} {}: {}", .path.display(), io_text(.source))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The cgroup could not be made or joined.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    /// criu is not there, too old, or failed.
    #[error(transparent)]
    Criu(#[from] crate::criu::Failure),
    /// The seccomp profile is none.
    #[error("config.json: linux.seccomp: {0}")]
    Seccomp(#[from] crate::seccomp::Error),
    /// The container's first process failed while it set itself up.
    #[error("{0}")]
    Init(InitFailure),
    /// The program could not be executed.
    #[error("{0}")]
    Exec(InitFailure),
    /// A hook failed; the container was not made.
    #[error("error running {kind} hook #{number}: {reason}")]
    Hook {
        /// `createRuntime`, …
        kind: &'static str,
        /// From 0.
        number: usize,
        /// Why.
        reason: String,
    },
    /// The container's first process ended before it said how it went.
    #[error("the container's first process ended while it was {doing}")]
    Vanished {
        /// What it was at.
        doing: &'static str,
    },
    /// The two sides do not understand each other.
    #[error("message between runtime and init: {0}")]
    Message(serde_json::Error),
}

/// What failed in the container's first process, in words, with its errno.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitFailure {
    /// What was tried, on what, and the cause.
    pub message: String,
    /// The cause as a number.
    pub errno: Option<i32>,
}

impl std::fmt::Display for InitFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl InitFailure {
    /// A step that failed with an errno.
    pub(crate) fn new(what: impl std::fmt::Display, errno: Errno) -> Self {
        Self {
            message: format!("{what}: {}", errno_text(errno.raw_os_error())),
            errno: Some(errno.raw_os_error()),
        }
    }

    /// A step that failed for another reason.
    pub(crate) fn because(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            errno: None,
        }
    }

    /// For `map_err` on rustix calls.
    pub(crate) fn at(what: impl std::fmt::Display) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::new(what, errno)
    }
}

impl Error {
    /// What a shell would answer for this failure: 127 for a program that is missing, 126 for one
    /// that cannot be executed, 128 for anything else.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exec(failure) => match failure.errno {
                Some(libc::ENOENT | libc::ENOTDIR) => 127,
                Some(_) => 126,
                None => 127,
            },
            _ => 128,
        }
    }

    /// Is it a field of the configuration that cannot be had, rather than a fault of the host?
    #[must_use]
    pub fn is_of_request(&self) -> bool {
        match self {
            Self::Invalid { .. } | Self::Seccomp(_) => true,
            Self::Cgroup(error) => error.is_of_request(),
            // A path that leads nowhere in this root file system.
            Self::Init(failure) => matches!(
                failure.errno,
                Some(libc::ENOTDIR | libc::EISDIR | libc::ELOOP | libc::EXDEV | libc::ENAMETOOLONG)
            ),
            _ => false,
        }
    }

    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(Errno) -> Self {
        let path = path.into();
        move |errno| Self::Io {
            operation,
            path,
            source: errno.into(),
        }
    }
}

/// An I/O error in the words of [`errno_text`]; its own words if it is none of the kernel's.
fn io_text(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), errno_text)
}
