//! A container's root file system on its way to the supervisor: a mount that only the container will see, or
//! paths where the kernel or the supervisor is too old for one (docs/decisions/005).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime::spec::{Linux, NamespaceKind, Spec};
use rustix::fs::{Mode, OFlags, open};
use store::{Access, MappedIds, MountOptions, RootFilesystem};
use supervisor::RootfsSource;

use crate::error::{Error, Result};
use crate::pod::UserIds;

/// What the supervisor is told of a root file system, and what goes with that.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) source: RootfsSource,
    mount: Option<OwnedFd>,
}

impl Root {
    /// Of a container that dies with its mount and has this config.json.
    pub(super) fn hand_over(
        root: &RootFilesystem,
        takes_mounts: bool,
        spec: &Spec,
    ) -> Result<Root> {
        let linux = spec.linux.as_ref();
        let label = linux.and_then(|linux| linux.mount_label.as_deref());
        let users = linux.map(users).transpose()?.flatten();
        let options = MountOptions {
            access: Access::Volatile,
            label: label.filter(|label| !label.is_empty()),
            ids: users.as_ref().map(|(users, root)| MappedIds {
                users: users.as_fd(),
                root: *root,
            }),
        };
        if takes_mounts {
            match root.open(&options) {
                // Paths would lead to files of other owners.
                Err(store::Error::Unsupported { .. }) if options.ids.is_none() => {}
                opened => {
                    return Ok(Root {
                        source: RootfsSource::Mount,
                        mount: Some(opened?),
                    });
                }
            }
        }
        let paths = root.overlay_paths()?;
        Ok(Root {
            source: RootfsSource::Overlay {
                lower: paths.lower,
                upper: paths.upper,
                work: paths.work,
            },
            mount: None,
        })
    }

    /// See [`RootfsSource::Mount`].
    pub(super) fn mount(&self) -> Option<BorrowedFd<'_>> {
        self.mount.as_ref().map(AsFd::as_fd)
    }
}

/// The user namespace that config.json has the container join, and what its root is outside.
fn users(linux: &Linux) -> Result<Option<(OwnedFd, (u32, u32))>> {
    let mut namespaces = linux.namespaces.iter();
    let users = namespaces.find(|one| one.kind == NamespaceKind::User);
    let Some(path) = users.and_then(|one| one.path.as_deref()) else {
        return Ok(None);
    };
    let ids = UserIds {
        uids: linux.uid_mappings.clone(),
        gids: linux.gid_mappings.clone(),
    };
    let root = ids.root().ok_or_else(|| {
        Error::invalid(
            "userns_options",
            "the user namespace has no user or group 0",
        )
    })?;
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::io("open", path)(errno.into()))?;
    Ok(Some((fd, root)))
}
