//! Mounts of layers that are files: one for the node, shared by whatever stands on the layer, so that its content
//! is in the page cache once.
//!
//! ```text
//! root file system of a container ─▶ mounted/N ─▶ overlay, which keeps the mount by itself
//! remove_writable_layer, gc       ─▶ unmounted when no container stands on it
//! ```
//! What is mounted is seen by its place: a process that was killed leaves it to the next, and a reboot leaves an
//! empty directory. Who only reads for a moment gets a mount that is nowhere. Must never be mounted twice at one
//! place, nor stay when the layer goes: its files would keep their space.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fstatfs, mkdirat, openat, statx, unlinkat};
use rustix::io::{Errno, Result as SysResult};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use super::indexed::{self, INDEX, TAR};
use super::{Form, Home, Layer, failed};
use crate::error::{Error, Result};
use crate::layout::{DIRECTORY, Layout};
use crate::{LayerRecord, Store, db, records, tree};

/// The directory of the store that they are in.
const MOUNTED: &str = "mounted";
const LOCK: &str = "mounted.lock";
/// What fstatfs(2) calls EROFS (linux/magic.h).
const EROFS_MAGIC: u32 = 0xE0F5_E1E2;
/// The longest text of an option, with its NUL (fsconfig(2)).
const OPTION: usize = 256;
/// Content is read where the archive has it: in blocks of so many bytes.
const ALIGNMENT: u32 = 512;

/// Whether a layer cannot be mounted because of what the kernel, or the file system of the store, lacks.
pub(super) fn is_lacking(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NODEV
            | Errno::NOTBLK
            | Errno::INVAL
            | Errno::OPNOTSUPP
            | Errno::PERM
            | Errno::ACCESS
            | Errno::NOSYS
    )
}

/// A mount, which is nowhere, of the index and the archive in `dir`, that lies at `path`.
pub(super) fn mount_files(dir: BorrowedFd<'_>, path: &Path) -> SysResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tar = openat(dir, TAR, flags, Mode::empty())?;
    let index = openat(dir, INDEX, flags, Mode::empty())?;
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // mountinfo shows it: a path says more to people than a descriptor.
    let named = |name: &str, file: &OwnedFd| {
        let path = path.join(name);
        match path.as_os_str().len() < OPTION {
            true => path,
            false => descriptor(file),
        }
    };
    fsconfig_set_string(context.as_fd(), "source", named(INDEX, &index))?;
    fsconfig_set_string(context.as_fd(), "device", named(TAR, &tar))?;
    if is_read_directly(&tar) {
        // Not there before Linux 6.13: the content is in the page cache twice then.
        match fsconfig_set_flag(context.as_fd(), "directio") {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    fsconfig_create(context.as_fd())?;
    // On the node nothing of an image is more than its content; an overlay has attributes of its own.
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn descriptor(file: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Whether a file can be read past the page cache from any of its blocks.
fn is_read_directly(file: &OwnedFd) -> bool {
    let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    found.is_ok_and(|found| {
        let known = found.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
        known && (1..=ALIGNMENT).contains(&found.stx_dio_offset_align)
    })
}

/// The root of a mount, to read names by and to be named to overlayfs.
pub(super) fn root_of(mount: &OwnedFd) -> SysResult<OwnedFd> {
    openat(mount, ".", DIRECTORY, Mode::empty())
}

/// The root of a layer that is mounted for all.
pub(super) fn there(layer: &Layer) -> Option<OwnedFd> {
    let dir = mounted_directory(layer.store().layout()).ok()?;
    root_at(dir.as_fd(), &place(layer))
}

fn root_at(dir: BorrowedFd<'_>, name: &str) -> Option<OwnedFd> {
    let root = openat(dir, name, DIRECTORY, Mode::empty()).ok()?;
    let kind = fstatfs(&root).ok()?.f_type;
    // Whatever its sign is on this machine.
    (kind as u32 == EROFS_MAGIC).then_some(root)
}

/// The name of its mount: short where it can be, as the kernel may want all names of an overlay in one page.
fn place(layer: &Layer) -> String {
    match layer.home() {
        Home::Here => layer.id().to_string(),
        Home::Additional(_) => foreign_place(&layer.diff_id().to_string()),
    }
}

fn foreign_place(diff_id: &str) -> String {
    diff_id.replace(':', "-")
}

/// Where all of them are.
fn mounted_directory(layout: &Layout) -> SysResult<OwnedFd> {
    openat(layout.root(), MOUNTED, DIRECTORY, Mode::empty())
}

/// The root of a layer's shared mount, which is made if need be, and its path in the store.
pub(super) fn share(layer: &Layer) -> Result<(OwnedFd, PathBuf)> {
    let path = Path::new(MOUNTED).join(place(layer));
    if let Some(root) = there(layer) {
        return Ok((root, path));
    }
    let (store, name) = (layer.store(), place(layer));
    let _lock = store.layout().lock(LOCK, store.limits().lock_wait)?;
    if let Some(root) = there(layer) {
        return Ok((root, path));
    }
    let mount = indexed::mount(layer)?;
    let attach = || {
        make_directory(store.layout().root(), MOUNTED)?;
        let dir = mounted_directory(store.layout())?;
        make_directory(dir.as_fd(), &name)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, c"", &dir, &name, flags)
    };
    attach().map_err(Error::sys("mount on", store.root().join(&path)))?;
    let root = root_of(&mount).map_err(failed("open", layer))?;
    Ok((root, path))
}

fn make_directory(parent: BorrowedFd<'_>, name: &str) -> SysResult<()> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

impl Store {
    /// What a container stood on, and is mounted for it: before it goes.
    pub(crate) fn mounts_of(&self, container: &str) -> Vec<LayerRecord> {
        if mounted_directory(self.layout()).is_err() {
            return Vec::new();
        }
        let facts = records::container(self.layout(), container);
        let roots = facts.map_or_else(Vec::new, |facts| facts.roots);
        let mounted = roots.into_iter().filter(|root| root.form == Form::Erofs);
        mounted.collect()
    }

    /// Unmounts of these what no container stands on any more. What cannot be is left to the next collection.
    pub(crate) fn unmount_unused(&self, layers: &[LayerRecord]) {
        if layers.is_empty() {
            return;
        }
        let unmounted = self
            .places_unused(layers)
            .and_then(|names| match names[..] {
                // Most containers have others beside them.
                [] => Ok(()),
                _ => self.unmount_named(&names),
            });
        if let Err(error) = unmounted {
            tracing::warn!("store: mounts of layers are left for the next collection: {error}");
        }
    }

    /// Where these may be mounted: of layers of this store, those that no container stands on.
    fn places_unused(&self, layers: &[LayerRecord]) -> Result<Vec<String>> {
        self.db().read(|db| {
            let mut names = Vec::new();
            for layer in layers {
                match db::one(db, NUMBER, &layer.diff_id)? {
                    Some(id) if db::exists(db, USED, &[&id])? => {}
                    Some(id) => names.push(id),
                    None => names.push(foreign_place(&layer.diff_id)),
                }
            }
            Ok(names)
        })
    }

    /// Unmounts all that no container stands on, and clears away what a reboot has left.
    pub(crate) fn clear_layer_mounts(&self) -> Result<()> {
        let Ok(dir) = mounted_directory(self.layout()) else {
            return Ok(());
        };
        let path = || self.root().join(MOUNTED);
        let names = tree::names(dir.as_fd()).map_err(|e| Error::sys("read", path())(e))?;
        let names: Vec<String> = names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect();
        self.unmount_named(&names)
    }

    /// A layer's files are replaced: whoever comes next mounts the new ones.
    pub(crate) fn unmount_replaced(&self, id: i64) -> Result<()> {
        let Ok(dir) = mounted_directory(self.layout()) else {
            return Ok(());
        };
        let _lock = self.layout().lock(LOCK, self.limits().lock_wait)?;
        self.unmount_one(dir.as_fd(), &id.to_string())
    }

    fn unmount_named(&self, names: &[String]) -> Result<()> {
        let Ok(dir) = mounted_directory(self.layout()) else {
            return Ok(());
        };
        let there = |name: &&String| {
            let found = statx(
                &dir,
                name.as_str(),
                AtFlags::SYMLINK_NOFOLLOW,
                StatxFlags::TYPE,
            );
            found.is_ok()
        };
        let names: Vec<&String> = names.iter().filter(there).collect();
        if names.is_empty() {
            return Ok(());
        }
        let _lock = self.layout().lock(LOCK, self.limits().lock_wait)?;
        for name in names {
            if !self.is_stood_on(name)? {
                self.unmount_one(dir.as_fd(), name)?;
            }
        }
        Ok(())
    }

    /// The caller has the lock.
    fn unmount_one(&self, dir: BorrowedFd<'_>, name: &str) -> Result<()> {
        let path = self.root().join(MOUNTED).join(name);
        // More than one only if somebody else has mounted there.
        while root_at(dir, name).is_some() {
            // An overlay has the mount for itself, and so has who has it open.
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            unmount(&path, flags).map_err(Error::sys("unmount", &path))?;
        }
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::BUSY) => Ok(()),
            Err(errno) => Err(Error::sys("remove", &path)(errno)),
        }
    }

    /// Whether a container stands on what is mounted under this name.
    fn is_stood_on(&self, name: &str) -> Result<bool> {
        if let Ok(id) = name.parse::<i64>() {
            return self.db().read(|db| db::exists(db, USED, &[&id]));
        }
        // Of layers of additional stores only the containers know.
        for container in self.layout().container_ids()? {
            let facts = records::container(self.layout(), &container);
            let mut roots = facts.iter().flat_map(|facts| &facts.roots);
            if roots.any(|root| foreign_place(&root.diff_id) == name) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a container stands on a layer, by its number, as text or not.
const USED: &str = "SELECT 1 FROM container_layers WHERE layer = CAST(?1 AS INTEGER)";
/// A layer's number, as text.
const NUMBER: &str = "SELECT CAST(id AS TEXT) FROM layers WHERE diff_id = ?1 AND ready = 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_plain_name() {
        assert_eq!(foreign_place("sha256:ab"), "sha256-ab");
    }
}
