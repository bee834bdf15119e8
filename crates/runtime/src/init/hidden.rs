//! config-linux.md, maskedPaths and readonlyPaths. A masked file becomes the host's /dev/null
//! (checked to be that device), a masked directory an empty read-only tmpfs. What is not in the
//! image is fine.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags, fstat, makedev};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::mounts::attach;
use super::rootfs::Root;
use super::target;
use crate::error::InitFailure;
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
    for path in &linux.masked_paths {
        mask(root, path).map_err(InitFailure::at(format_args!("mask {path}")))?;
    }
    Ok(())
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
    let tree = sys::open_tree_fd(&place, true)?;
    sys::mount_setattr(&tree, true, &READ_ONLY)?;
    attach(tree, place)
}

fn mask(root: &Root<'_>, path: &str) -> Result<(), Errno> {
    let Some(place) = place(root, path)? else {
        return Ok(());
    };
    if FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Directory {
        let target = format!("/proc/self/fd/{}", place.as_raw_fd());
        return mount(
            "tmpfs",
            target,
            "tmpfs",
            MountFlags::RDONLY,
            c"nr_blocks=1,nr_inodes=1",
        );
    }
    attach(sys::open_tree_fd(root.null.as_fd(), false)?, place)
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
