//! What can go wrong with plugins.

use std::path::PathBuf;

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure that its caller must act on. A plugin that is gone or does not answer is none: it is hung up on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A plugin says no.
    #[error("NRI plugin {plugin} refuses {event}: {message}")]
    Refused {
        /// Index and name.
        plugin: String,
        /// What it was asked.
        event: &'static str,
        /// Its words.
        message: String,
    },
    /// Two plugins want different things.
    #[error("NRI plugins {plugin} and {other} both set {field}")]
    Conflict {
        /// Who came second.
        plugin: String,
        /// Who came first.
        other: String,
        /// The field, and which of its entries.
        field: String,
    },
    /// A plugin's answer cannot be.
    #[error("NRI plugin {plugin}: {reason}")]
    Answer {
        /// Index and name.
        plugin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A validator does not let the container be made.
    #[error("NRI validator {validator} rejects the container: {reason}")]
    Rejected {
        /// Who.
        validator: String,
        /// Its words.
        reason: String,
    },
    /// What a plugin is to be told is longer than the protocol allows.
    #[error("{event} cannot be told to NRI plugin {plugin}: {reason}")]
    Request {
        /// Index and name.
        plugin: String,
        /// What it was to be asked.
        event: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The socket or a directory of plugins cannot be used.
    #[error("{operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Somebody else listens at the socket.
    #[error("{}: another runtime listens there", .0.display())]
    Taken(PathBuf),
    /// The socket cannot be had.
    #[error(transparent)]
    Socket(base::socket::Error),
}

impl Error {
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}
