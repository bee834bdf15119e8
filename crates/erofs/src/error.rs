//! Why a tree cannot be built, or not be laid out.

use std::io;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. But for [`Error::Write`] the tree is at fault, and another form has to be found for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name is empty, `.` or `..`, has `/` or NUL in it, or more than 255 bytes.
    #[error("{0:?} is no name")]
    Name(String),
    /// Something has the name already.
    #[error("{0:?} is there already")]
    Exists(String),
    /// A name is looked for, or given, in what is not a directory.
    #[error("{0:?}: not in a directory")]
    NotDirectory(String),
    /// A directory has one name only.
    #[error("{0:?} would be another name of a directory")]
    DirectoryLink(String),
    /// More files than have numbers, or names of one file.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// The format has no place for it.
    #[error("the format cannot hold {0}")]
    Unsupported(String),
    /// The image could not be written.
    #[error("write the image: {0}")]
    Write(#[from] io::Error),
}

impl Error {
    pub(crate) fn name(name: &[u8]) -> String {
        String::from_utf8_lossy(name).into_owned()
    }
}
