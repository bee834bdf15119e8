//! Other limits for containers that are made, asked for by plugins while something else happens.

use super::resources::Merge;
use crate::api::{ContainerUpdate, LinuxContainerUpdate, LinuxResources, OwningPlugins};
use crate::error::{Error, Result};

/// Who asks for what of whom.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    all: Vec<ContainerUpdate>,
    pub(super) owners: OwningPlugins,
    /// A container that cannot be changed: it is being made.
    not: Option<String>,
}

impl Updates {
    /// While that container is being made.
    pub(super) fn while_making(container: &str) -> Self {
        Self {
            not: Some(container.to_owned()),
            ..Self::default()
        }
    }

    /// While that container is about to have other limits: what plugins say of it is added to those.
    pub(crate) fn beginning_with(container: &str, limits: LinuxResources) -> Self {
        let mut updates = Self::default();
        let first = updates.of(container);
        first.linux = Some(LinuxContainerUpdate {
            resources: Some(limits),
        });
        updates
    }

    fn of(&mut self, container: &str) -> &mut ContainerUpdate {
        let place = self
            .all
            .iter()
            .position(|one| one.container_id == container);
        let place = place.unwrap_or_else(|| {
            self.all.push(ContainerUpdate {
                container_id: container.to_owned(),
                linux: None,
                ignore_failure: true,
            });
            self.all.len() - 1
        });
        &mut self.all[place]
    }

    /// Adds what a plugin asks for.
    ///
    /// # Errors
    /// Another plugin has asked for something else, and this one minds; or it asks for the container that is
    /// being made.
    pub(crate) fn add(&mut self, asked: &[ContainerUpdate], plugin: &str) -> Result<()> {
        for update in asked {
            let id = &update.container_id;
            if self.not.as_ref() == Some(id) {
                return Err(Error::Answer {
                    plugin: plugin.to_owned(),
                    reason: format!("it updates container {id}, which is being made"),
                });
            }
            let said = update.linux.as_ref();
            let said = said.and_then(|linux| linux.resources.as_ref());
            // A copy: what is refused changes nothing.
            let known = self.of(id).linux.clone().unwrap_or_default();
            let mut limits = known.resources.unwrap_or_default();
            let mut merge = Merge {
                owners: &mut self.owners,
                container: id,
                plugin,
            };
            match said.map(|said| merge.resources(said, &mut limits)) {
                Some(Err(error)) if !update.ignore_failure => return Err(error),
                Some(Err(error)) => {
                    tracing::warn!(container = %id, %error, "an update is left out");
                    continue;
                }
                _ => {}
            }
            let to = self.of(id);
            to.ignore_failure &= update.ignore_failure;
            to.linux = Some(LinuxContainerUpdate {
                resources: Some(limits),
            });
        }
        Ok(())
    }

    /// What the container is to have until now.
    pub(crate) fn resources(&self, container: &str) -> Option<LinuxResources> {
        let update = self.all.iter().find(|one| one.container_id == container)?;
        update.linux.as_ref()?.resources.clone()
    }

    /// All, in the order in which containers were spoken of first.
    pub(crate) fn finish(self) -> Vec<ContainerUpdate> {
        let mut all = self.all;
        all.retain(|update| update.linux.is_some());
        all
    }

    /// As they are now, for a validator.
    pub(super) fn so_far(&self) -> Vec<ContainerUpdate> {
        self.all.clone()
    }
}
