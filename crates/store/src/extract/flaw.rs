//! Why an entry of a layer is refused: what the entry is, said as the end of a sentence about it.

use std::io;

use rustix::io::Errno;

/// Why an entry is refused or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EntryFlaw {
    /// The name leads out of the root.
    #[error("its name leads out of the root with \"..\"")]
    Escape,
    /// The name of a hard link's target leads out of the root.
    #[error("its target {0:?} leads out of the root with \"..\"")]
    TargetEscape(String),
    /// A name in the path is longer than file systems take.
    #[error("a name in its path is longer than 255 bytes")]
    LongName,
    /// The path is longer or deeper than the limits.
    #[error("its path is too long or too deep")]
    LongPath,
    /// The root of the layer is not a directory.
    #[error("the root must be a directory")]
    Root,
    /// A device node other than those of [`super::devices`].
    #[error(
        "it is a {kind} device, {major}:{minor}: of device nodes a layer may hold only those of every container"
    )]
    Device {
        /// `character` or `block`.
        kind: &'static str,
        /// The device's major number.
        major: u32,
        /// The device's minor number.
        minor: u32,
    },
    /// A type of entry that has no meaning in a layer.
    #[error("entries of type {0:?} are not supported")]
    Type(char),
    /// A whiteout of nothing.
    #[error("it is a whiteout without a valid name")]
    Whiteout,
    /// A parent is a file.
    #[error("{0:?} in its path is not a directory")]
    NotADirectory(String),
    /// Too many symbolic links in the path.
    #[error("too many symbolic links in its path")]
    Loop,
    /// A hard link to what is not in the layer.
    #[error("its target {0:?} is not a file of this layer")]
    Target(String),
    /// A symbolic link to nothing.
    #[error("its target is empty")]
    NoTarget,
    /// An extended attribute with which an image could forge overlayfs's own state.
    #[error("the extended attribute {0:?} is not allowed in a layer")]
    Xattr(String),
    /// An extended attribute that the file system has no place for.
    #[error("the file system cannot keep the extended attribute {0:?}")]
    XattrTooLarge(String),
    /// A hard link to what was left out.
    #[error("its target {0:?} was left out")]
    TargetLeftOut(String),
    /// A system call failed.
    #[error("{op}: {source}")]
    Io {
        /// The call, as `mkdir`.
        op: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl EntryFlaw {
    pub(super) fn sys(op: &'static str) -> impl FnOnce(Errno) -> EntryFlaw {
        move |errno| EntryFlaw::Io {
            op,
            source: errno.into(),
        }
    }
}
