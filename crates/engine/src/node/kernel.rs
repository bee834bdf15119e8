//! What this node's kernel can beyond the oldest that floe runs on (`runtime::kernel`), each tried when it
//! is first asked for.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use runtime::spec::IdMapping;
use serde_json::{Value, json};
use store::Store;

/// See the module.
#[derive(Debug)]
pub struct Kernel {
    /// The store's root: what depends on a file system depends on the one that layers are on.
    root: PathBuf,
    overlay_layers_by_descriptor: OnceLock<bool>,
    erofs_from_file: OnceLock<bool>,
    idmapped_mounts: OnceLock<bool>,
    mapped_roots: OnceLock<Result<(), String>>,
    fuse_resend: OnceLock<bool>,
    fanotify_pre_content: OnceLock<bool>,
    cgroup_kill: OnceLock<bool>,
}

impl Kernel {
    /// Of a node whose store is at `root`; tries nothing yet.
    pub(super) fn of(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            overlay_layers_by_descriptor: OnceLock::new(),
            erofs_from_file: OnceLock::new(),
            idmapped_mounts: OnceLock::new(),
            mapped_roots: OnceLock::new(),
            fuse_resend: OnceLock::new(),
            fanotify_pre_content: OnceLock::new(),
            cgroup_kill: OnceLock::new(),
        }
    }

    /// As uname(2) has it, such as `6.1.0-57-amd64`.
    #[must_use]
    pub fn release(&self) -> String {
        let names = rustix::system::uname();
        names.release().to_string_lossy().into_owned()
    }

    /// Overlayfs takes layers as descriptors, one by one.
    #[must_use]
    pub fn overlay_layers_by_descriptor(&self) -> bool {
        let probe = runtime::kernel::overlay_layers_by_descriptor;
        *self.overlay_layers_by_descriptor.get_or_init(probe)
    }

    /// EROFS mounts images that are plain files of the store.
    #[must_use]
    pub fn erofs_from_file(&self) -> bool {
        let probe = || runtime::kernel::erofs_from_file(&self.file());
        *self.erofs_from_file.get_or_init(probe)
    }

    /// Mounts can show files as other users'; the store's file system may have none of it.
    #[must_use]
    pub fn idmapped_mounts(&self) -> bool {
        let probe = runtime::kernel::idmapped_mounts;
        *self.idmapped_mounts.get_or_init(probe)
    }

    /// Root file systems whose files belong to others outside than inside can be made of the layers of this
    /// store: what a user namespace of a pod needs.
    ///
    /// # Errors
    /// What the kernel, or the file system of the store, lacks.
    pub fn mapped_roots(&self, store: &Store) -> Result<(), String> {
        let probe = || {
            let ids = [IdMapping {
                container_id: 0,
                host_id: 1,
                size: 1,
            }];
            let users = runtime::user_namespace(&ids, &ids).map_err(|error| error.to_string())?;
            let ids = store::MappedIds {
                users: users.as_fd(),
                root: (1, 1),
            };
            store
                .try_mapped_root(ids)
                .map_err(|error| error.to_string())
        };
        self.mapped_roots.get_or_init(probe).clone()
    }

    /// FUSE sends unanswered requests to the next server again.
    #[must_use]
    pub fn fuse_resend(&self) -> bool {
        let probe = runtime::kernel::fuse_resend;
        *self.fuse_resend.get_or_init(probe)
    }

    /// fanotify asks before the content of a file of the store is read.
    #[must_use]
    pub fn fanotify_pre_content(&self) -> bool {
        let probe = || runtime::kernel::fanotify_pre_content(&self.file());
        *self.fanotify_pre_content.get_or_init(probe)
    }

    /// A cgroup is killed at one word.
    #[must_use]
    pub fn cgroup_kill(&self) -> bool {
        let probe = runtime::cgroup::kills_at_once;
        *self.cgroup_kill.get_or_init(probe)
    }

    /// A plain file of the store, which every store has.
    fn file(&self) -> PathBuf {
        self.root.join("oci-layout")
    }

    pub(super) fn report(&self) -> Value {
        json!({
            "release": self.release(),
            "overlay_layers_by_descriptor": self.overlay_layers_by_descriptor(),
            "erofs_from_file": self.erofs_from_file(),
            "idmapped_mounts": self.idmapped_mounts(),
            "fuse_resend": self.fuse_resend(),
            "fanotify_pre_content": self.fanotify_pre_content(),
            "cgroup_kill": self.cgroup_kill(),
        })
    }
}
