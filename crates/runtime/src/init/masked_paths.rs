//! config-linux.md, maskedPaths and readonlyPaths. A masked file becomes the host's /dev/null
//! (checked to be that device), a masked directory an empty read-only tmpfs. What is not in the
//! image is fine.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags, fstat, makedev};
use rustix::io::Errno;

use super::mounts::attach;
use super::rootfs::Root;
use super::target;
use super::tmpfs;
use crate::error::InitFailure;
use crate::labels;
use crate::spec::Linux;
use crate::sys::{self, MountAttr};

const READ_ONLY: MountAttr = MountAttr {
    set: 1,
    clear: 0,
    propagation: 0,
    userns_fd: 0,
};

pub(super) fn perform(root: &Root<'_>, linux: &Linux) -> Result<(), InitFailure> {
    for path in &linux.readonly_paths {
        read_only(root, path).map_err(InitFailure::at(format_args!("make {path} read-only")))?;
    }
    if !linux.masked_paths.is_empty() {
        check_null(&root.null)?;
    }
    let mut empty = None;
    let mut done: HashSet<&String> = HashSet::new();
    for path in &linux.masked_paths {
        if done.insert(path) {
            mask(root, path, &mut empty, labels::mount_label(linux))
                .map_err(InitFailure::at(format_args!("mask {path}")))?;
        }
    }
    Ok(())
}

/// Makes a mount read-only.
pub(super) fn make_read_only(mount: &OwnedFd) -> Result<(), InitFailure> {
    sys::mount_setattr(mount, false, &READ_ONLY).map_err(InitFailure::at("make a mount read-only"))
}

fn place(root: &Root<'_>, path: &str) -> Result<Option<OwnedFd>, Errno> {
    match target::open(root.fd(), Path::new(path), OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn read_only(root: &Root<'_>, path: &str) -> Result<(), Errno> {
    let Some(place) = place(root, path)? else {
        return Ok(());
    };
    if target::is_root(root.fd(), &place)? {
        // A mount on it would be out of sight.
        return sys::mount_setattr(root.fd(), false, &READ_ONLY);
    }
    let tree = sys::open_tree_fd(&place, true)?;
    sys::mount_setattr(&tree, true, &READ_ONLY)?;
    attach(tree, place)
}

/// All masked directories show the same `empty` one, made for the first of them.
fn mask(
    root: &Root<'_>,
    path: &str,
    empty: &mut Option<OwnedFd>,
    label: Option<&str>,
) -> Result<(), Errno> {
    let Some(place) = place(root, path)? else {
        return Ok(());
    };
    if FileType::from_raw_mode(fstat(&place)?.st_mode) != FileType::Directory {
        return attach(sys::open_tree_fd(root.null.as_fd(), false)?, place);
    }
    if target::is_root(root.fd(), &place)? {
        return Err(Errno::BUSY);
    }
    if let Some(empty) = empty {
        return attach(sys::open_tree_fd(&*empty, false)?, place);
    }
    let mut options = vec![("nr_blocks", "1"), ("nr_inodes", "1")];
    options.extend(label.map(|label| ("context", label)));
    let made = tmpfs::make(&options, true)?;
    attach(&made, place)?;
    *empty = Some(made);
    Ok(())
}

fn check_null(null: &OwnedFd) -> Result<(), InitFailure> {
    let stat = fstat(null).map_err(InitFailure::at("stat /dev/null"))?;
    let real = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(1, 3);
    if real {
        Ok(())
    } else {
        Err(InitFailure::because(
            "the host's /dev/null is not the null device",
        ))
    }
}
