//! Whose the files of a container's root file system and image volumes are, and which label they have: as its
//! config.json says it.

use std::os::fd::{AsFd, OwnedFd};

use runtime::spec::{Linux, NamespaceKind, Spec};
use rustix::fs::{Mode, OFlags, open};
use store::{Access, MappedIds, MountOptions};

use crate::error::{Error, Result};
use crate::pod::UserIds;

/// Owners and label of what is mounted for a container.
#[derive(Debug)]
pub(crate) struct Owners {
    /// The user namespace that maps them, and what its root is outside.
    users: Option<(OwnedFd, (u32, u32))>,
    label: Option<String>,
}

impl Owners {
    /// # Errors
    /// A user namespace that cannot be opened, or has no root.
    pub(crate) fn of(spec: &Spec) -> Result<Self> {
        let linux = spec.linux.as_ref();
        let label = linux.and_then(|linux| linux.mount_label.clone());
        Ok(Self {
            users: linux.map(users).transpose()?.flatten(),
            label: label.filter(|label| !label.is_empty()),
        })
    }

    /// How to mount it.
    pub(crate) fn options(&self, access: Access) -> MountOptions<'_> {
        MountOptions {
            access,
            label: self.label.as_deref(),
            ids: self.users.as_ref().map(|(users, root)| MappedIds {
                users: users.as_fd(),
                root: *root,
            }),
        }
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
