//! Files of a store, opened for reading below a directory.
//!
//! Must never open what is no regular file (a FIFO waits, a device does things), nor leave the
//! directory.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

/// A regular file; `how` says what becomes of symbolic links that leave `dir`.
pub(super) fn open_file(dir: BorrowedFd<'_>, path: &Path, how: ResolveFlags) -> io::Result<File> {
    let found = open(dir, path, OFlags::PATH | OFlags::NOFOLLOW, how)?;
    if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// A directory below `dir`.
pub(super) fn open_dir(dir: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    Ok(open(dir.as_fd(), path, flags, ResolveFlags::BENEATH)?)
}

fn open(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let how = how | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            // A rename at the same time; the kernel says to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// A path from the root without the root, `.` and `..`, resolved by words as the store's own tools do.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => plain.push(part),
            Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}
