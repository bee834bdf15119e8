//! Lists whose entries have names: mounts by their place, devices by their path, variables, namespaces.

use super::Making;
use crate::api::{
    Field, KeyValue, LinuxDevice, LinuxNamespace, Mount, OwningPlugins, removal, removed,
};
use crate::error::Result;

/// One of them.
trait Named: Clone {
    fn name(&self) -> &str;
    /// What says that the entry of that name goes.
    fn gone(name: String) -> Self;
}

impl Named for Mount {
    fn name(&self) -> &str {
        &self.destination
    }

    fn gone(name: String) -> Self {
        Self {
            destination: name,
            ..Self::default()
        }
    }
}

impl Named for LinuxDevice {
    fn name(&self) -> &str {
        &self.path
    }

    fn gone(name: String) -> Self {
        Self {
            path: name,
            ..Self::default()
        }
    }
}

impl Named for KeyValue {
    fn name(&self) -> &str {
        &self.key
    }

    fn gone(name: String) -> Self {
        Self {
            key: name,
            ..Self::default()
        }
    }
}

impl Named for LinuxNamespace {
    fn name(&self) -> &str {
        &self.r#type
    }

    fn gone(name: String) -> Self {
        Self {
            r#type: name,
            ..Self::default()
        }
    }
}

/// Adds what a plugin says of such a list to what all have said; `of` is the container, the field and the
/// plugin. What is gone stands before what is set, so that one can be set again.
fn list<T: Named>(
    owners: &mut OwningPlugins,
    (container, field, plugin): (&str, Field, &str),
    said: &[T],
    to: &mut Vec<T>,
) -> Result<()> {
    for name in said.iter().filter_map(|one| removed(one.name())) {
        owners.clear_entry(container, field, name, plugin);
        let mark = removal(name);
        to.retain(|other| other.name() != name && other.name() != mark);
        to.insert(0, T::gone(mark));
    }
    for one in said.iter().filter(|one| removed(one.name()).is_none()) {
        owners.claim_entry(container, field, one.name(), plugin)?;
        to.retain(|other| other.name() != one.name());
        to.push(one.clone());
    }
    Ok(())
}

/// The list as the next plugin is to see it.
fn show<T: Named>(said: Vec<T>, shown: &mut Vec<T>) {
    for one in said {
        let name = removed(one.name()).unwrap_or(one.name());
        shown.retain(|other| other.name() != name);
        if removed(one.name()).is_none() {
            shown.push(one);
        }
    }
}

impl Making {
    pub(super) fn mounts(&mut self, said: Vec<Mount>, plugin: &str) -> Result<()> {
        let of = (self.container.id.as_str(), Field::Mounts, plugin);
        list(&mut self.updates.owners, of, &said, &mut self.adjust.mounts)?;
        show(said, &mut self.container.mounts);
        Ok(())
    }

    pub(super) fn devices(&mut self, said: Vec<LinuxDevice>, plugin: &str) -> Result<()> {
        let of = (self.container.id.as_str(), Field::Devices, plugin);
        let to = &mut self.adjust.linux.get_or_insert_default().devices;
        list(&mut self.updates.owners, of, &said, to)?;
        show(
            said,
            &mut self.container.linux.get_or_insert_default().devices,
        );
        Ok(())
    }

    pub(super) fn env(&mut self, said: Vec<KeyValue>, plugin: &str) -> Result<()> {
        let of = (self.container.id.as_str(), Field::Env, plugin);
        list(&mut self.updates.owners, of, &said, &mut self.adjust.env)?;
        let shown = &mut self.container.env;
        for one in said {
            let name = removed(&one.key).unwrap_or(&one.key);
            shown.retain(|variable| variable.split('=').next() != Some(name));
            if removed(&one.key).is_none() {
                shown.push(format!("{}={}", one.key, one.value));
            }
        }
        Ok(())
    }

    pub(super) fn namespaces(&mut self, said: Vec<LinuxNamespace>, plugin: &str) -> Result<()> {
        let container = self.container.id.as_str();
        let to = &mut self.adjust.linux.get_or_insert_default().namespaces;
        let owners = &mut self.updates.owners;
        for one in &said {
            // To give up a namespace is to set it, too.
            let name = removed(one.name()).unwrap_or(one.name());
            owners.claim_entry(container, Field::Namespace, name, plugin)?;
            to.push(one.clone());
        }
        show(
            said,
            &mut self.container.linux.get_or_insert_default().namespaces,
        );
        Ok(())
    }
}
