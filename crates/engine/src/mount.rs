//! Root file systems for a person or a builder: an image for reading, a container for reading or, when nothing runs
//! in it, for writing. In the mount namespace of this process, below the store.

use std::path::PathBuf;

use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Mounts an image read-only and returns where; at once when it is mounted already. It stays mounted until
    /// [`unmount`](Self::unmount), and its layers as long.
    ///
    /// # Errors
    /// An unknown image, or a mount that the kernel refuses.
    pub fn mount_image(&self, image: &str) -> Result<PathBuf> {
        let record = self.image(image)?;
        Ok(self.store().mount_image(&record)?)
    }

    /// Mounts a container's root file system and returns where; at once when it is mounted already, however it
    /// is. It goes with the container.
    ///
    /// # Errors
    /// An unknown container, one that runs when it is to be `writable`, or a mount that the kernel refuses.
    pub fn mount_container(&self, container: &str, writable: bool) -> Result<PathBuf> {
        let found = self.container(container)?;
        if writable && !found.is_at_rest() {
            return Err(Error::State {
                verb: "mount for writing",
                what: "container",
                id: found.id,
                state: "not ended: stop it first, or mount it for reading".into(),
            });
        }
        let access = match writable {
            true => store::Access::Durable,
            false => store::Access::ReadOnly,
        };
        let mounted = self.store().mount_container(&found.id, access)?;
        mounted.ok_or(Error::NotFound {
            what: "container",
            name: found.id,
        })
    }

    /// Takes a mount of an image or a container back; `false` when there is none.
    ///
    /// # Errors
    /// A mount that somebody uses.
    pub fn unmount(&self, of: &str) -> Result<bool> {
        let id = match self.store().find(of)? {
            Some(image) => image.id,
            None => of.to_owned(),
        };
        Ok(self.store().unmount(&id)?)
    }
}
