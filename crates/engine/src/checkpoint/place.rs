//! Where a checkpoint goes: a new file, or an empty directory of the caller's. Both are opened once and used by
//! descriptor from then on; a path that leads through a directory which others may change is refused, and
//! nothing that is there already is ever opened, followed or replaced.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, fstat, linkat, openat, openat2, statat, unlinkat,
};
use rustix::io::Errno;

use super::io;
use crate::error::{Error, Result};

/// The bits of a mode that let others change a directory, and the one that keeps them from what is not theirs.
const OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// A file that is to be made and is whole when it has its name. Dropped before, nothing of it is left.
#[derive(Debug)]
pub(super) struct NewFile {
    dir: OwnedFd,
    name: OsString,
    path: PathBuf,
    file: File,
    /// It has its name from the beginning, as its file system knows no files without.
    named: bool,
}

impl NewFile {
    /// Opens the directory that it shall be in.
    pub(super) fn begin(field: &str, path: &Path) -> Result<Self> {
        let (above, name) = split(field, path)?;
        let dir = directory(field, &above)?;
        private(field, &dir, &above)?;
        let taken = || Error::invalid(field, format!("{} exists already", path.display()));
        match statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => return Err(taken()),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(io("stat", path)(errno)),
        }
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let (file, named) = match openat(&dir, c".", flags, mode) {
            Ok(file) => (file, false),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
                let file = openat(&dir, &name, flags | OFlags::NOFOLLOW, mode);
                (file.map_err(io("create", path))?, true)
            }
            Err(errno) => return Err(io("create a file in", &above)(errno)),
        };
        Ok(Self {
            dir,
            name,
            path: path.to_owned(),
            file: file.into(),
            named,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name.
    pub(super) fn commit(mut self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(Error::io("sync", &self.path))?;
        let synced = |dir: &OwnedFd| rustix::fs::fsync(dir).map_err(io("sync", &self.path));
        if self.named {
            synced(&self.dir)?;
            self.named = false;
            return Ok(());
        }
        let own = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&self.file)
        );
        linkat(CWD, own, &self.dir, &self.name, AtFlags::SYMLINK_FOLLOW)
            .map_err(io("create", &self.path))?;
        synced(&self.dir)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.named
            && let Err(error) = unlinkat(&self.dir, &self.name, AtFlags::empty())
        {
            tracing::warn!(path = %self.path.display(), %error, "half a checkpoint is left");
        }
    }
}

/// An empty directory that the caller has made for a checkpoint. Dropped before it is [`kept`](Self::keep), it is
/// empty again.
#[derive(Debug)]
pub(super) struct EmptyDirectory {
    dir: OwnedFd,
    path: PathBuf,
    kept: bool,
}

impl EmptyDirectory {
    pub(super) fn open(field: &str, path: &Path) -> Result<Self> {
        let (above, name) = split(field, path)?;
        let dir = directory(field, &above.join(name))?;
        own(field, &dir, path)?;
        let mut this = Self {
            dir,
            path: path.to_owned(),
            kept: true,
        };
        if let Some(name) = this.names()?.first() {
            let reason = format!("{} is not empty: it has {name:?}", path.display());
            return Err(Error::invalid(field, reason));
        }
        this.kept = false;
        Ok(this)
    }

    /// A path that leads to it and no other directory, for this process and those that this process's user runs.
    pub(super) fn path(&self) -> PathBuf {
        let own = rustix::process::getpid().as_raw_nonzero();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.dir);
        PathBuf::from(format!("/proc/{own}/fd/{fd}"))
    }

    /// Puts on the disk what was written below it by anybody.
    pub(super) fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.dir).map_err(io("sync", &self.path))
    }

    /// The checkpoint in it is whole.
    pub(super) fn keep(mut self) -> Result<()> {
        rustix::fs::fsync(&self.dir).map_err(io("sync", &self.path))?;
        self.kept = true;
        Ok(())
    }

    fn names(&self) -> Result<Vec<OsString>> {
        let entries = std::fs::read_dir(self.path()).map_err(Error::io("read", &self.path))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let names: std::io::Result<Vec<OsString>> = names.collect();
        names.map_err(Error::io("read", &self.path))
    }
}

impl Drop for EmptyDirectory {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let within = self.path();
        let names = self.names().unwrap_or_default().into_iter();
        let left = names.map(|name| crate::disk::remove_tree(&within.join(name)));
        if let Some(error) = left.filter_map(Result::err).next() {
            tracing::warn!(path = %self.path.display(), %error, "half a checkpoint is left");
        }
    }
}

/// The directory of a path and its last name. Nothing in it may lead up.
fn split(field: &str, path: &Path) -> Result<(PathBuf, OsString)> {
    let wrong = |reason: &str| {
        let reason = format!("{:?} {reason}", path.display().to_string());
        Err(Error::invalid(field, reason))
    };
    if !path.is_absolute() {
        return wrong("must be an absolute path");
    }
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if path.as_os_str().as_bytes().contains(&0) || !path.components().all(plain) {
        return wrong("must have no \"..\" and no NUL");
    }
    match (path.parent(), path.file_name()) {
        (Some(above), Some(name)) if !ends_in_slash(path.as_os_str()) => {
            Ok((above.to_owned(), name.to_owned()))
        }
        (Some(above), Some(name)) if field != "location" => Ok((above.to_owned(), name.to_owned())),
        _ => wrong("names no file"),
    }
}

fn ends_in_slash(path: &OsStr) -> bool {
    path.as_bytes().ends_with(b"/")
}

/// Opens a directory by a path without symbolic links, after those that an administrator has put there.
pub(super) fn directory(field: &str, path: &Path) -> Result<OwnedFd> {
    let wrong = |errno: Errno| match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG => Error::invalid(
            field,
            format!("{} is no directory: {}", path.display(), text(errno)),
        ),
        errno => io("open", path)(errno),
    };
    let last = path.file_name().map(OsStr::to_owned);
    // A link as the last name is nobody's to follow.
    let real = match (path.parent(), last) {
        (Some(above), Some(last)) => std::fs::canonicalize(above).map(|above| above.join(last)),
        _ => Ok(path.to_owned()),
    };
    let code = |error: &std::io::Error| Errno::from_io_error(error).unwrap_or(Errno::IO);
    let real = real.map_err(|error| wrong(code(&error)))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(CWD, &real, flags, Mode::empty(), resolve).map_err(wrong)
}

fn text(errno: Errno) -> std::io::Error {
    errno.into()
}

/// Can nobody but its owner and root take away or replace what is made in it?
fn private(field: &str, dir: &OwnedFd, path: &Path) -> Result<()> {
    let stat = fstat(dir).map_err(io("stat", path))?;
    match stat.st_mode & OTHERS != 0 && stat.st_mode & STICKY == 0 {
        true => Err(Error::invalid(
            field,
            format!("others may change {}", path.display()),
        )),
        false => Ok(()),
    }
}

/// Is it this user's, and nobody else's to change?
pub(super) fn own(field: &str, dir: &OwnedFd, path: &Path) -> Result<()> {
    let stat = fstat(dir).map_err(io("stat", path))?;
    let mine = stat.st_uid == rustix::process::geteuid().as_raw();
    match mine && stat.st_mode & OTHERS == 0 {
        true => Ok(()),
        false => Err(Error::invalid(
            field,
            format!(
                "{} must belong to who floe runs as, and others must not be able to change it",
                path.display()
            ),
        )),
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
