//! What can go wrong between this process and the kernel, with the words of the request.

use std::io;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a request.
    #[error("{operation} {object}: {source}{}", Detail(.detail))]
    Refused {
        /// What was asked, as a verb ("add address").
        operation: &'static str,
        /// What it was asked for ("10.87.0.2/16 on eth0").
        object: String,
        /// The kernel's errno.
        source: io::Error,
        /// The kernel's own explanation, where it gave one.
        detail: Option<String>,
    },
    /// A socket could not be opened or used.
    #[error("netlink: {operation}: {source}")]
    Socket {
        /// The call that failed.
        operation: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// The kernel's answer could not be understood.
    #[error("netlink: unexpected answer to {operation} {object}: {what}")]
    Answer {
        /// What was asked.
        operation: &'static str,
        /// For which object.
        object: String,
        /// What is wrong with the answer.
        what: &'static str,
    },
}

impl Error {
    /// The errno of a refused request, for callers that take one of them as an answer.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused { source, .. } => source.raw_os_error(),
            Error::Socket { .. } | Error::Answer { .. } => None,
        }
    }

    /// Whether the socket's queue had no room for an answer (ENOBUFS).
    pub(crate) fn is_overflow(&self) -> bool {
        matches!(self, Error::Socket { source, .. } if source.raw_os_error() == Some(libc::ENOBUFS))
    }
}

/// The kernel's explanation in brackets, or nothing.
struct Detail<'a>(&'a Option<String>);

impl std::fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}
