//! What can go wrong while an image moves: the place, the thing and the cause.

use std::io;
use std::path::{Path, PathBuf};

use image::{Digest, MediaType};

/// The result of moving an image.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A place is not written as one.
    #[error("image name {text:?}: {why}")]
    Location {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// A place cannot be used for what it was asked for.
    #[error("{place}: {why}")]
    Place {
        /// The place, as it is written.
        place: String,
        /// Why not.
        why: String,
    },
    /// A place does not have the image that is named.
    #[error("{place}: {why}")]
    Missing {
        /// The place, as it is written.
        place: String,
        /// What it has instead.
        why: String,
    },
    /// A file could not be read or written.
    #[error("{op} {path}: {source}")]
    Io {
        /// What was done, such as `read`.
        op: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A document is not what it should be.
    #[error("{document}: {source}")]
    Json {
        /// Which document.
        document: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A name or a document of an image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A policy or signature.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] distribution::Error),
    /// floe's store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A blob ended early, went on too long or has other bytes.
    #[error("blob {digest}: {source}")]
    Blob {
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A manifest cannot be written in the form that is wanted.
    #[error("{from} cannot become {to}: {why}")]
    Convert {
        /// What it is.
        from: MediaType,
        /// What it was to be.
        to: MediaType,
        /// Why not.
        why: String,
    },
    /// Digests were to stay as they are.
    #[error("the digests cannot be preserved: {0}")]
    Digests(String),
    /// Signatures were to go along, and would be for something else.
    #[error(
        "its signatures would no longer fit, as {0}: give --remove-signatures to leave them behind"
    )]
    Signed(String),
    /// A task of the program ended without an outcome.
    #[error("a copying task failed: {0}")]
    Task(String),
}

impl Error {
    /// For `map_err` on what the system said about a file.
    pub(crate) fn io(
        op: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { op, path, source }
    }

    /// What a source said while a blob was read: a registry, or a digest, in its own words.
    pub(crate) fn of_blob(digest: &Digest, source: io::Error) -> Error {
        let digest = digest.clone();
        let kind = source.kind();
        let known = source
            .get_ref()
            .is_some_and(|inner| inner.is::<distribution::Error>() || inner.is::<image::Error>());
        if !known {
            return Error::Blob { digest, source };
        }
        let inner = source.into_inner().map(|inner| {
            let inner = inner.downcast().map(|error| Error::Registry(*error));
            inner.or_else(|inner| inner.downcast().map(|error| Error::Image(*error)))
        });
        match inner {
            Some(Ok(error)) => error,
            _ => Error::Blob {
                digest,
                source: kind.into(),
            },
        }
    }

    pub(crate) fn place(place: impl ToString, why: impl Into<String>) -> Error {
        Error::Place {
            place: place.to_string(),
            why: why.into(),
        }
    }

    /// What reading a tar file said: a flaw of the archive, or the file's own error.
    pub(crate) fn archive(op: &'static str, path: &Path) -> impl Fn(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |error| match error.kind() {
            io::ErrorKind::InvalidData => {
                Error::place(path.display(), format!("the archive is damaged: {error}"))
            }
            _ => Error::io(op, &path)(error),
        }
    }

    pub(crate) fn missing(place: impl ToString, why: impl Into<String>) -> Error {
        Error::Missing {
            place: place.to_string(),
            why: why.into(),
        }
    }

    pub(crate) fn json(document: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Error {
        let document = document.into();
        move |source| Error::Json { document, source }
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Error {
        Error::Task(error.to_string())
    }
}
