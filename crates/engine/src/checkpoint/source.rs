//! A directory that CheckpointPod has written, to be read: opened once, and all of it looked at before anything is
//! made of it. It must belong to who floe runs as, and hold plain files and directories that nobody else can
//! change: criu acts on what its images say, so who may write them may do what floe may.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use base::file::read_bounded;
use runtime::spec::Spec;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};

use super::manifest::Manifest;
use super::place::{directory, own};
use super::{FIELD, io};
use crate::error::{Error, Result};

/// As many files are in one directory of a checkpoint at the most: criu writes a few for each process.
const FILES: usize = 200_000;
/// A config.json is shorter.
const LONGEST_SPEC: u64 = 16 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Source {
    dir: OwnedFd,
    path: PathBuf,
    pub(super) manifest: Manifest,
}

/// The part of one container.
#[derive(Debug)]
pub(super) struct Part {
    dir: OwnedFd,
    path: PathBuf,
    pub(super) images: OwnedFd,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let dir = directory(FIELD, path)?;
        own(FIELD, &dir, path)?;
        look(&dir, path, &["containers"])?;
        let manifest = Manifest::read(dir.as_fd(), FIELD)?;
        Ok(Self {
            dir,
            path: path.to_owned(),
            manifest,
        })
    }

    /// The part of the container at that place of the manifest.
    pub(super) fn part(&self, place: usize) -> Result<Part> {
        let name = format!("containers/{place}");
        let path = self.path.join(&name);
        let dir = below(&self.dir, &name, &self.path)?;
        look(&dir, &path, &["checkpoint"])?;
        let images = below(&dir, "checkpoint", &path)?;
        look(&images, &path.join("checkpoint"), &[])?;
        Ok(Part { dir, path, images })
    }

    /// The archive of the pod's /dev/shm, if there is one.
    pub(super) fn shm(&self) -> Result<Option<File>> {
        match self.manifest.shm {
            true => file(&self.dir, "shm.tar", &self.path).map(Some),
            false => Ok(None),
        }
    }
}

impl Part {
    /// What the container has written.
    pub(super) fn difference(&self) -> Result<File> {
        file(&self.dir, "rootfs-diff.tar", &self.path)
    }

    /// Its config.json.
    pub(super) fn spec(&self) -> Result<Spec> {
        let path = self.path.join("spec.dump");
        let wrong = |reason: String| Error::invalid(FIELD, format!("{}: {reason}", path.display()));
        let within = format!("/proc/self/fd/{}/spec.dump", self.dir.as_raw_fd());
        let bytes = read_bounded(within.as_ref(), LONGEST_SPEC);
        let bytes = bytes.map_err(|error| wrong(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| wrong("is missing".to_owned()))?;
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
    }

    /// A path of criu's images that leads nowhere else, for those that this process's user runs.
    pub(super) fn images_path(&self) -> PathBuf {
        let pid = rustix::process::getpid().as_raw_nonzero();
        format!("/proc/{pid}/fd/{}", self.images.as_raw_fd()).into()
    }
}

/// Opens something below a directory, through no link and on the same file system.
fn open_below(dir: &OwnedFd, name: &str, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat2(dir, name, flags, Mode::empty(), resolve).map_err(|errno| {
        let path = path.join(name);
        Error::invalid(
            FIELD,
            format!("{}: {}", path.display(), std::io::Error::from(errno)),
        )
    })
}

fn below(dir: &OwnedFd, name: &str, path: &Path) -> Result<OwnedFd> {
    let opened = open_below(dir, name, path, OFlags::DIRECTORY)?;
    own(FIELD, &opened, &path.join(name))?;
    Ok(opened)
}

fn file(dir: &OwnedFd, name: &str, path: &Path) -> Result<File> {
    let opened = open_below(dir, name, path, OFlags::NOFOLLOW)?;
    own(FIELD, &opened, &path.join(name))?;
    Ok(opened.into())
}

/// Is all that is in a directory a plain file that nobody else can change, but for those directories?
fn look(dir: &OwnedFd, path: &Path, directories: &[&str]) -> Result<()> {
    let entries = Dir::read_from(dir).map_err(io("read", path))?;
    for (number, entry) in entries.enumerate() {
        let entry = entry.map_err(io("read", path))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let wrong = |what: &str| {
            let path = path.join(name.to_string_lossy().as_ref());
            Err(Error::invalid(FIELD, format!("{} {what}", path.display())))
        };
        if number > FILES {
            return wrong("is one file too many for a checkpoint");
        }
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io("stat", path))?;
        let named = directories
            .iter()
            .any(|one| one.as_bytes() == name.to_bytes());
        let expected = match named {
            true => FileType::Directory,
            false => FileType::RegularFile,
        };
        if FileType::from_raw_mode(stat.st_mode) != expected {
            return wrong("is no plain file or directory of a checkpoint");
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
            return wrong(
                "must belong to who floe runs as, and others must not be able to change it",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
