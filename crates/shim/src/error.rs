//! What can go wrong between us and a shim. Built where the facts are known: which shim, which verb,
//! which container, which limit. A caller acts on the variant; a person reads the message.

use std::path::PathBuf;
use std::time::Duration;

use ttrpc::Code;

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a shim, of its program, or of the connection to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The shim did the call, and it failed.
    #[error("{verb} {id}: the shim answers: {message} ({code:?})")]
    Refused {
        /// The verb.
        verb: &'static str,
        /// The container or sandbox.
        id: String,
        /// The shim's code.
        code: Code,
        /// The shim's words.
        message: String,
    },
    /// No answer came within the limit; the call may or may not be done.
    #[error("{verb} {id}: the shim at {} says nothing within {} s", .address.display(), .limit.as_secs())]
    Silent {
        /// The verb.
        verb: &'static str,
        /// The container or sandbox.
        id: String,
        /// The shim's socket.
        address: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The socket for events cannot be had.
    #[error(transparent)]
    Socket(#[from] base::socket::Error),
    /// Nobody listens at the shim's socket, or the shim hung up before it had answered: it is dead
    /// or dying.
    #[error("{verb} {id}: the shim at {} is gone", .address.display())]
    Gone {
        /// The verb.
        verb: &'static str,
        /// The container or sandbox.
        id: String,
        /// The shim's socket.
        address: PathBuf,
    },
    /// What the shim says is not what the protocol has, or cannot be true.
    #[error("{verb} {id}: the shim at {} does not keep to the protocol: {reason}", .address.display())]
    Protocol {
        /// The verb.
        verb: &'static str,
        /// The container or sandbox.
        id: String,
        /// The shim's socket.
        address: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What is asked for cannot be sent.
    #[error("{verb} {id}: {reason}")]
    Request {
        /// The verb.
        verb: &'static str,
        /// The container or sandbox.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// The shim's program failed or said what cannot be used.
    #[error("{} {verb}: {reason}", .program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// `start` or `delete`.
        verb: &'static str,
        /// What is wrong, with the program's own words.
        reason: String,
    },
    /// A call to the system failed.
    #[error("{operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// The container, process or shim that was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::NotFound,
                ..
            }
        )
    }

    /// The shim is dead.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// The shim does not know the service or the method.
    #[must_use]
    pub fn is_unimplemented(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::Unimplemented,
                ..
            }
        )
    }

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
