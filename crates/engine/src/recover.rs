//! What an engine does when it starts: find what the last one left half made and clear it away;
//! let everything else run on. Nothing that another process is making right now is touched: its
//! name is locked.

use crate::container::record::ContainerRecord;
use crate::disk::{self, Lock};
use crate::engine::Engine;
use crate::error::Result;
use crate::pod::record::{PodRecord, Stage, live_supervisor};

/// What was found at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Pods whose supervisor lives.
    pub running: usize,
    /// Pods whose supervisor is gone: they are not ready, and kubelet will remove them.
    pub dead: usize,
    /// Pods and containers that were half made and are cleared away.
    pub cleared: usize,
}

impl Engine {
    /// Clears away what a killed engine left half made. Safe at any time, beside other engines.
    ///
    /// # Errors
    /// Directories that cannot be read; a single object that cannot be cleared is a warning.
    pub fn recover(&self) -> Result<Recovered> {
        let mut found = Recovered::default();
        let layers = self.store().rw_ids()?;
        let mut known = Vec::new();
        for id in disk::entries(&self.layout().pods())? {
            if let Err(error) = self.recover_pod(&id, &mut found) {
                tracing::warn!(pod = %id, %error, "left as it is");
            }
            known.extend(disk::entries(&self.layout().pod(&id).join("containers"))?);
        }
        // Layers were listed first: the directory of a container is made before its layer.
        for layer in layers.into_iter().filter(|layer| !known.contains(layer)) {
            self.store().remove_rw(&layer)?;
            found.cleared += 1;
        }
        found.cleared += self.clear_networks()?;
        self.clear_names()?;
        self.store().gc()?;
        Ok(found)
    }

    fn recover_pod(&self, id: &str, found: &mut Recovered) -> Result<()> {
        let dir = self.layout().pod(id);
        let Some(record) = PodRecord::read(&dir)? else {
            // Killed before the first record, or being made this very moment: its name knows.
            return Ok(());
        };
        if matches!(record.stage, Stage::Creating) {
            let parts = PodRecord::name_parts(&record.spec);
            if let Some(name) = disk::Reservation::try_lock(&self.layout().names(), &parts)? {
                self.destroy_pod(&record)?;
                name.release()?;
                found.cleared += 1;
            }
            return Ok(());
        }
        match live_supervisor(id, &dir)? {
            Some(_) => found.running += 1,
            None => found.dead += 1,
        }
        // Whoever makes a container holds this lock shared.
        let Some(_lock) = Lock::try_exclusive(&dir.join("lock"))? else {
            return Ok(());
        };
        for container in disk::entries(&dir.join("containers"))? {
            if ContainerRecord::read(&self.layout().container(id, &container))?.is_none() {
                self.discard_container(id, &container)?;
                found.cleared += 1;
            }
        }
        Ok(())
    }

    /// Addresses and host ports of pods that are gone: their remover was killed in between.
    fn clear_networks(&self) -> Result<usize> {
        let mut cleared = 0;
        for id in self.attached_pods()? {
            // A pod's directory is made before its network and removed after it.
            if !self.layout().pod(&id).exists() {
                self.detach_gone(&id)?;
                cleared += 1;
            }
        }
        Ok(cleared)
    }

    /// Names whose object is gone: their holder was killed between reserving and making.
    fn clear_names(&self) -> Result<()> {
        let mut alive = disk::entries(&self.layout().pods())?;
        for pod in alive.clone() {
            alive.extend(disk::entries(&self.layout().pod(&pod).join("containers"))?);
        }
        for name in disk::entries(&self.layout().names())? {
            if let Some(mut reservation) =
                disk::Reservation::try_lock_file(&self.layout().names().join(name))?
                && !reservation
                    .holder()?
                    .is_some_and(|holder| alive.contains(&holder))
            {
                reservation.release()?;
            }
        }
        Ok(())
    }
}
