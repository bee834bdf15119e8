//! Root file systems whose files belong to others outside than inside, for containers with a user namespace:
//! each layer, and what the container writes, is a mount of its own whose owners are mapped, and the overlay
//! is of these. So nothing on disk changes its owner, containers of other ids share the layers, and what was
//! written is committed as any other's. An image's layers that are files are such mounts too, with the owners
//! that they have: overlayfs takes them while somebody holds them.
//!
//! The kernel makes files of the overlay's own (the work directory's, whiteouts) as whoever mounts it: that must
//! be an id that is mapped. So a thread that ends afterwards mounts as the container's root.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::overlay::{self, Failure, Tree};
use super::{Access, MountOptions, RootFilesystem, StoreRoot, nothing_to_read, used_again};
use crate::error::{Error, Result};
use crate::layer::Purpose;
use crate::layout::DIRECTORY;
use crate::sys::{self, MountAttr, mount_setattr};
use crate::{Store, tree};

/// Whose the files of a mount are.
#[derive(Debug, Clone, Copy)]
pub struct MappedIds<'a> {
    /// The user namespace whose id maps hold.
    pub users: BorrowedFd<'a>,
    /// Its user 0 and group 0 as they are outside.
    pub root: (u32, u32),
}

/// Mounts of the directories of an overlay, none of them anywhere.
struct Parts {
    /// Top first.
    lower: Vec<OwnedFd>,
    /// That of the container, with `upper` and `work` in it.
    writable: Option<OwnedFd>,
}

impl RootFilesystem {
    /// [`open`](Self::open) as an overlay of mounts.
    pub(super) fn open_of_mounts(&self, options: &MountOptions<'_>) -> Result<OwnedFd> {
        let parts = self.parts(options.access, options.ids)?;
        self.mounted(&parts, options)
    }

    fn mounted(&self, parts: &Parts, options: &MountOptions<'_>) -> Result<OwnedFd> {
        let place = self.store.0.layout().path().join("tmp");
        let mounted = std::thread::scope(|scope| {
            let mounting = scope.spawn(|| mount(&place, parts, options));
            let panicked = || Err(Failure::Kernel("mount an overlay of", Errno::AGAIN));
            mounting.join().unwrap_or_else(|_| panicked())
        });
        mounted.map_err(|failure| match failure {
            Failure::Kernel(what, errno @ (Errno::INVAL | Errno::OPNOTSUPP))
                if options.ids.is_some() =>
            {
                Error::Unsupported {
                    what: "a root file system with mapped ids".to_owned(),
                    why: format!("this kernel cannot {what} id-mapped layers: {errno}"),
                }
            }
            other => self.unmountable(other),
        })
    }

    /// Its directories as mounts.
    fn parts(&self, access: Access, ids: Option<MappedIds<'_>>) -> Result<Parts> {
        let purpose = Purpose::Mount {
            ids: ids.map(|ids| ids.users),
        };
        let layers = self.layers.iter().map(|layer| {
            if self.writable.is_some() {
                // So that its content is shared with containers of other ids.
                layer.lower()?;
            }
            layer.open(purpose)
        });
        let mut lower = layers.collect::<Result<Vec<_>>>()?;
        let own = match (&self.writable, access) {
            (None, Access::ReadOnly) => None,
            (None, _) => return Err(self.unwritable()),
            (Some(own), _) => Some(self.container_directory(&own.container, access)?),
        };
        let mut writable = None;
        match own {
            Some(own) if access == Access::ReadOnly => {
                let upper = openat(own, "upper", DIRECTORY, Mode::empty());
                let upper = upper.map_err(Error::sys("open", self.store.0.root()))?;
                lower.insert(0, self.mount_of(&upper, ids)?);
            }
            Some(own) => writable = Some(self.mount_of(&own, ids)?),
            None => {}
        }
        // overlayfs needs a lower directory, and two where nothing can be written.
        let least = if writable.is_some() { 1 } else { 2 };
        if lower.len() < least {
            lower.push(self.mount_of(&self.empty_layer()?, ids)?);
        }
        if lower.len() < least {
            return Err(nothing_to_read());
        }
        Ok(Parts { lower, writable })
    }

    /// The directory of a container, whose `upper` and `work` must be in one mount.
    fn container_directory(&self, container: &str, access: Access) -> Result<OwnedFd> {
        let containers = self.store.0.layout().containers();
        let open = || {
            let dir = openat(containers, container, DIRECTORY, Mode::empty())?;
            if access == Access::Durable {
                used_again(&dir)?;
            }
            Ok(dir)
        };
        open().map_err(Error::sys("open", self.container_path(container)))
    }

    /// A mount of a directory of the store that is nowhere; with `ids`, its owners are mapped.
    fn mount_of(&self, dir: &OwnedFd, ids: Option<MappedIds<'_>>) -> Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let root = self.store.0.root();
        let tree = open_tree(dir, c"", flags).map_err(Error::sys("clone a mount of", root))?;
        let Some(ids) = ids else {
            return Ok(tree);
        };
        match mount_setattr(tree.as_fd(), &MountAttr::private_mapped(ids.users)) {
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Err(Error::Unsupported {
                what: format!("a mount of {} with other ids", root.display()),
                why: "the file system of the store, or this kernel, maps none".to_owned(),
            }),
            other => other
                .map(|()| tree)
                .map_err(Error::sys("map the ids of a mount of", root)),
        }
    }
}

impl Store {
    /// Tries whether root file systems with mapped ids can be made here; nothing stays.
    ///
    /// # Errors
    /// What the kernel, or the file system of the store, lacks.
    pub fn try_mapped_root(&self, ids: MappedIds<'_>) -> Result<()> {
        let layout = self.layout();
        let name = layout.temp_name();
        let failed = || Error::sys("try an overlay in", layout.temp_path(&name));
        let make = || {
            mkdirat(layout.tmp(), &name, Mode::RWXU)?;
            let dir = openat(layout.tmp(), &name, DIRECTORY, Mode::empty())?;
            for part in ["lower", "upper", "work"] {
                mkdirat(&dir, part, Mode::RWXU)?;
            }
            let lower = openat(&dir, "lower", DIRECTORY, Mode::empty())?;
            Ok((dir, lower))
        };
        let root = RootFilesystem {
            layers: Vec::new(),
            writable: None,
            store: StoreRoot(self.clone()),
        };
        let tried = make().map_err(failed()).and_then(|(dir, lower)| {
            let ids = Some(ids);
            let parts = Parts {
                lower: vec![root.mount_of(&lower, ids)?],
                writable: Some(root.mount_of(&dir, ids)?),
            };
            let options = MountOptions {
                ids,
                ..MountOptions::new(Access::Volatile)
            };
            root.mounted(&parts, &options).map(drop)
        });
        let removed = CString::new(name.as_bytes())
            .map_err(|_| Errno::INVAL)
            .and_then(|name| tree::remove(layout, layout.tmp(), &name));
        tried.and(removed.map_err(failed()))
    }
}

/// By a thread of its own: by descriptors, or by names where the kernel takes none of mounts that are nowhere
/// (before Linux 6.15).
fn mount(place: &Path, parts: &Parts, options: &MountOptions<'_>) -> Result<OwnedFd, Failure> {
    match by_descriptors(parts, options) {
        Err(Failure::NoDescriptors | Failure::Kernel(_, Errno::INVAL)) => {
            by_names(place, parts, options)
        }
        other => other,
    }
}

fn by_descriptors(parts: &Parts, options: &MountOptions<'_>) -> Result<OwnedFd, Failure> {
    let open = |container: &OwnedFd, name| {
        openat(container, name, DIRECTORY, Mode::empty())
            .map_err(overlay::at("open a directory of the overlay of"))
    };
    let context = overlay::Context::new(options)?;
    for lower in &parts.lower {
        context.set_directory(c"lowerdir+", lower.as_fd())?;
    }
    if let Some(container) = &parts.writable {
        context.set_directory(c"upperdir", open(container, "upper")?.as_fd())?;
        context.set_directory(c"workdir", open(container, "work")?.as_fd())?;
    }
    make_files_for(options.ids).map_err(overlay::at("act as the root of"))?;
    context.finish()
}

/// In a mount namespace of the thread's own, where the mounts have short names.
fn by_names(place: &Path, parts: &Parts, options: &MountOptions<'_>) -> Result<OwnedFd, Failure> {
    let mut trees: Vec<Tree<'_>> = Vec::new();
    let mut lower = Vec::new();
    for (number, mount) in parts.lower.iter().enumerate() {
        let name = PathBuf::from(number.to_string());
        lower.push(name.clone());
        trees.push((name, mount.as_fd()));
    }
    let mut writable = None;
    if let Some(container) = &parts.writable {
        trees.push(("c".into(), container.as_fd()));
        writable = Some(("c/upper".into(), "c/work".into()));
    }
    let names = overlay::Names { lower, writable };
    overlay::mount_hidden(place, &trees, &names, options, || {
        make_files_for(options.ids)
    })
}

/// What overlayfs makes by itself is the root's of these ids.
fn make_files_for(ids: Option<MappedIds<'_>>) -> rustix::io::Result<()> {
    ids.map_or(Ok(()), |ids| sys::make_files_as(ids.root))
}

#[cfg(test)]
mod tests;
