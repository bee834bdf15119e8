//! The end of a volume. Needs no space, and may be asked again after a kill in the middle.

use super::GONE;
use super::record::VolumeRecord;
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Removes a volume that no container uses; false: there is none of that name.
    ///
    /// # Errors
    /// [`Error::VolumeInUse`], or what cannot be removed.
    pub fn remove_volume(&self, name: &str) -> Result<bool> {
        super::check_name(name)?;
        let _turn = self.volume_turn(name)?;
        let dir = self.volume_dir(name);
        let gone = self.volume_dirs().join(format!("{GONE}{name}"));
        disk::remove_tree(&gone)?;
        // One whose record is damaged goes as well.
        if matches!(VolumeRecord::read(&dir), Ok(None)) {
            return Ok(false);
        }
        let users = self.users_of_volume(name)?;
        if !users.is_empty() {
            return Err(Error::VolumeInUse {
                name: name.to_owned(),
                users,
            });
        }
        std::fs::rename(&dir, &gone).map_err(Error::io("rename", &dir))?;
        disk::remove_tree(&gone)?;
        Ok(true)
    }
}
