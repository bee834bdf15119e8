//! Opening a log's file. Must never follow a symbolic link, in the place of the file or of a directory below
//! the pod's log directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, unlinkat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::protocol::LogTarget;

/// A log's file that was made just now.
#[derive(Debug)]
pub(crate) struct MadeLog {
    directory: OwnedFd,
    name: OsString,
}

impl MadeLog {
    /// Removes it: its container does not come to be.
    pub(crate) fn remove(&self) {
        // The error that is on its way says more than this one could.
        let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

/// The file, its size, and what it takes to remove it if it was made.
pub(super) fn open_log(target: &LogTarget) -> Result<(File, u64, Option<MadeLog>)> {
    let path = &target.path;
    let (directory, name) = open_directory(target)?;
    // NONBLOCK: a FIFO in the log's place must not hold up the pod.
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(0o640);
    let (fd, made) = match openat(
        &directory,
        name,
        flags | OFlags::CREATE | OFlags::EXCL,
        mode,
    ) {
        Ok(fd) => (fd, true),
        Err(Errno::EXIST) => match openat(&directory, name, flags, mode) {
            Err(Errno::LOOP) => return Err(wrong(path, "is a symbolic link")),
            other => (other.map_err(Error::io("open log", path))?, false),
        },
        Err(error) => return Err(Error::io("create log", path)(error)),
    };
    let file = File::from(fd);
    let metadata = file.metadata().map_err(Error::io("look at log", path))?;
    if !metadata.is_file() {
        return Err(wrong(path, "is not a plain file"));
    }
    let name = name.to_owned();
    let made = made.then_some(MadeLog { directory, name });
    Ok((file, metadata.len(), made))
}

/// The directory of the log and the file's name in it. Below the pod's log directory no link is
/// followed: containers may be able to make some there.
fn open_directory(target: &LogTarget) -> Result<(OwnedFd, &OsStr)> {
    let path = &target.path;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let invalid = || wrong(path, "is not below its directory");
    let name = path.file_name().ok_or_else(invalid)?;
    let top = target.beneath.as_deref().unwrap_or(parent);
    let below = parent.strip_prefix(top).map_err(|_| invalid())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory =
        open(top, flags, Mode::empty()).map_err(Error::io("open the directory of", path))?;
    for part in below.components() {
        let Component::Normal(part) = part else {
            return Err(invalid());
        };
        let next = openat(
            directory.as_fd(),
            part,
            flags | OFlags::NOFOLLOW,
            Mode::empty(),
        );
        directory = match next {
            // What NOFOLLOW and DIRECTORY together say of a link.
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(wrong(path, "leads through a symbolic link or a file"));
            }
            other => other.map_err(Error::io("open the directory of", path))?,
        };
    }
    Ok((directory, name))
}

fn wrong(path: &Path, reason: &str) -> Error {
    Error::invalid("log", format!("{} {reason}", path.display()))
}
