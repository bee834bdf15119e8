//! The form of an unpacked directory: `layers/N`, a lower directory of overlayfs.
//!
//! Must never follow a link of the image: everything is opened from the store's own directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, openat, statat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::{Form, Home, Layer, Purpose, failed};
use crate::error::{Error, Result};
use crate::layout::DIRECTORY;
use crate::sys::{MountAttr, mount_setattr};
use crate::{Usage, tree};

pub(super) fn open(layer: &Layer, purpose: Purpose<'_>) -> Result<OwnedFd> {
    match purpose {
        Purpose::Directory => open_directory(layer),
        Purpose::Mount { ids } => mount(layer, ids),
        Purpose::Image => Err(Error::Unsupported {
            what: format!("layer {} as an image file", layer.diff_id()),
            why: format!("it is an unpacked {}", Form::Directory),
        }),
    }
}

pub(super) fn usage(layer: &Layer) -> Result<Usage> {
    let directory = open_directory(layer)?;
    tree::usage(directory.as_fd()).map_err(failed("walk", layer))
}

pub(super) fn owner(layer: &Layer) -> Result<(u32, u32, u32)> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = match layer.home() {
        Home::Here => statat(
            layer.store().layout().layers(),
            layer.id().to_string(),
            flags,
        ),
        Home::Additional(_) => statat(CWD, layer.path(), flags),
    };
    let stat = stat.map_err(failed("stat", layer))?;
    Ok((stat.st_mode, stat.st_uid, stat.st_gid))
}

fn open_directory(layer: &Layer) -> Result<OwnedFd> {
    let opened = match layer.home() {
        Home::Here => {
            let layers = layer.store().layout().layers();
            openat(layers, layer.id().to_string(), DIRECTORY, Mode::empty())
        }
        Home::Additional(_) => openat(CWD, layer.path(), DIRECTORY, Mode::empty()),
    };
    opened.map_err(failed("open", layer))
}

fn mount(layer: &Layer, ids: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let directory = open_directory(layer)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&directory, c"", flags).map_err(failed("clone the mount of", layer))?;
    let attr = MountAttr::private_read_only(ids);
    match mount_setattr(tree.as_fd(), &attr) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) if ids.is_some() => Err(Error::Unsupported {
            what: format!("layer {} as a mount with other ids", layer.diff_id()),
            why: "the file system of the store, or this kernel, maps none".to_owned(),
        }),
        other => other
            .map(|()| tree)
            .map_err(failed("set the attributes of a mount of", layer)),
    }
}
