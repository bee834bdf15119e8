//! Root file systems mounted for a person or a builder: `mounts/NAME`, in the mount namespace of whoever asks.
//!
//! ```text
//! mount_image ─▶ mounts/image-ID, read-only    ┐
//! mount_container ─▶ mounts/CONTAINER          ┴─▶ unmount
//! ```
//! A directory in `mounts/` comes first and goes last, so that whatever a kill or a reboot leaves is found by it: the
//! next collection removes what is not mounted any more. What an image's mount stands on is kept as a container's
//! is, by a writable layer under the name, which stays empty. Must never take a mount from under somebody: a
//! busy one stays, and says so.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, StatxAttributes, StatxFlags, mkdirat, openat, statx, unlinkat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};

use crate::error::{Error, Result};
use crate::layout::DIRECTORY;
use crate::{Access, ImageRecord, MountOptions, RootFilesystem, Store, tree};

/// The directory of the store that they are in.
const MOUNTS: &str = "mounts";
const LOCK: &str = "mounts.lock";
const IMAGE: &str = "image-";

impl Store {
    /// Mounts an image read-only and returns where; at once when it is mounted already. The image's layers
    /// stay as long as it is.
    pub fn mount_image(&self, record: &ImageRecord) -> Result<PathBuf> {
        let name = format!("{IMAGE}{}", record.id);
        self.mounted(&name, |store| {
            let held = match store.container_root(&name)? {
                Some(held) => held,
                None => store.create_writable_layer(&name, record)?,
            };
            Ok((held, Access::ReadOnly))
        })
    }

    /// Mounts a container's root file system and returns where; at once when it is mounted already, however it
    /// is. `None`: there is no such container.
    ///
    /// For writing (`Access::Durable`) no process may run in it: the caller sees to that. What a container that
    /// runs changes meanwhile may be seen or not by a mount for reading.
    pub fn mount_container(&self, container: &str, access: Access) -> Result<Option<PathBuf>> {
        let Some(root) = self.container_root(container)? else {
            return Ok(None);
        };
        self.mounted(container, |_| Ok((root, access))).map(Some)
    }

    /// Takes a mount back, by the ID of a container or of an image; `false` when there is none.
    ///
    /// Errors with [`Error::Io`] (busy) while somebody uses it.
    pub fn unmount(&self, of: &str) -> Result<bool> {
        let _lock = self.layout().lock(LOCK, self.limits().lock_wait)?;
        let Some(dir) = self.mounts_directory(false)? else {
            return Ok(false);
        };
        for name in [of.to_owned(), format!("{IMAGE}{of}")] {
            if !is_plain(&name) || !is_there(dir.as_fd(), &name) {
                continue;
            }
            let path = self.mount_path(&name);
            if is_mounted(dir.as_fd(), &name) {
                unmount(&path, UnmountFlags::NOFOLLOW).map_err(Error::sys("unmount", &path))?;
            }
            self.clear_mount(dir.as_fd(), &name)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// What is mounted: the ID of the container or image, and where.
    pub fn mounts(&self) -> Result<Vec<(String, PathBuf)>> {
        let Some(dir) = self.mounts_directory(false)? else {
            return Ok(Vec::new());
        };
        let names = self.mount_names(dir.as_fd())?;
        let mounted = names
            .into_iter()
            .filter(|name| is_mounted(dir.as_fd(), name));
        let shown = mounted.map(|name| {
            let path = self.mount_path(&name);
            (name.strip_prefix(IMAGE).unwrap_or(&name).to_owned(), path)
        });
        Ok(shown.collect())
    }

    /// A further mount of what is mounted for a container, which is in no mount namespace; `None` when nothing is.
    pub(crate) fn clone_mount(&self, container: &str) -> Result<Option<OwnedFd>> {
        let Some(dir) = self.mounts_directory(false)? else {
            return Ok(None);
        };
        if !is_mounted(dir.as_fd(), container) {
            return Ok(None);
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        let cloned = open_tree(&dir, container, flags);
        cloned
            .map(Some)
            .map_err(Error::sys("mount", self.mount_path(container)))
    }

    /// Whether a writable layer is only what the mount of an image stands on.
    pub(crate) fn is_mount_of_image(name: &str) -> bool {
        name.starts_with(IMAGE)
    }

    /// Removes what a kill or a reboot has left of mounts.
    pub(crate) fn clear_mounts(&self) -> Result<()> {
        let Some(dir) = self.mounts_directory(false)? else {
            return Ok(());
        };
        let names = self.mount_names(dir.as_fd())?;
        if names.is_empty() {
            return Ok(());
        }
        let _lock = self.layout().lock(LOCK, self.limits().lock_wait)?;
        for name in names {
            if !is_mounted(dir.as_fd(), &name) {
                self.clear_mount(dir.as_fd(), &name)?;
            }
        }
        Ok(())
    }

    /// A container goes, and so does its mount, now or with its last user.
    pub(crate) fn detach_mount(&self, container: &str) {
        let Ok(Some(dir)) = self.mounts_directory(false) else {
            return;
        };
        if !is_there(dir.as_fd(), container) {
            return;
        }
        let path = self.mount_path(container);
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        if is_mounted(dir.as_fd(), container)
            && let Err(e) = unmount(&path, flags)
        {
            tracing::warn!(path = %path.display(), "store: mount of a container that is removed stays: {e}");
            return;
        }
        // Whatever is left is cleared by the next collection.
        let _ = unlinkat(&dir, container, AtFlags::REMOVEDIR);
    }

    fn mounted(
        &self,
        name: &str,
        root: impl FnOnce(&Store) -> Result<(RootFilesystem, Access)>,
    ) -> Result<PathBuf> {
        let _lock = self.layout().lock(LOCK, self.limits().lock_wait)?;
        let path = self.mount_path(name);
        let dir = self.mounts_directory(true)?;
        let dir = dir.ok_or_else(|| Error::sys("open", self.root().join(MOUNTS))(Errno::NOENT))?;
        match mkdirat(&dir, name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) if is_mounted(dir.as_fd(), name) => return Ok(path),
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::sys("create", path)(e)),
        }
        let made =
            root(self).and_then(|(root, access)| root.mount_at(&path, &MountOptions::new(access)));
        match made {
            Ok(()) => Ok(path),
            Err(error) => {
                if let Err(left) = self.clear_mount(dir.as_fd(), name) {
                    tracing::warn!("store: left for the next collection: {left}");
                }
                Err(error)
            }
        }
    }

    /// Removes the directory of what is not mounted, and what an image's mount stood on.
    fn clear_mount(&self, dir: BorrowedFd<'_>, name: &str) -> Result<()> {
        if Store::is_mount_of_image(name) {
            self.remove_writable_layer(name)?;
        }
        let doomed = CString::new(name).unwrap_or_default();
        tree::remove(self.layout(), dir, &doomed)
            .map_err(Error::sys("remove", self.mount_path(name)))
    }

    fn mount_path(&self, name: &str) -> PathBuf {
        self.root().join(MOUNTS).join(name)
    }

    fn mount_names(&self, dir: BorrowedFd<'_>) -> Result<Vec<String>> {
        let path = || self.root().join(MOUNTS);
        let names = tree::names(dir).map_err(|e| Error::sys("read", path())(e))?;
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.collect())
    }

    fn mounts_directory(&self, make: bool) -> Result<Option<OwnedFd>> {
        let root = self.layout().root();
        let failed = |op| Error::sys(op, self.root().join(MOUNTS));
        if make {
            match mkdirat(root, MOUNTS, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(failed("create")(e)),
            }
        }
        match openat(root, MOUNTS, DIRECTORY, Mode::empty()) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(failed("open")(e)),
        }
    }
}

fn is_plain(name: &str) -> bool {
    Path::new(name).file_name() == Some(name.as_ref())
}

fn is_there(dir: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn is_mounted(dir: BorrowedFd<'_>, name: &str) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, StatxFlags::TYPE)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
