//! What plugins want of one container, one after the other: each sees the container as those before it have
//! made it, and what two of them set to different things is a conflict. Pure.

mod lists;
mod owners;
mod resources;
#[cfg(test)]
mod tests;
mod updates;

pub(crate) use updates::Updates;

use std::collections::BTreeMap;

use self::resources::Merge;
use crate::api::{
    Container, ContainerAdjustment, Field, Hooks, LinuxContainerAdjustment, LinuxRdt,
    OwningPlugins, ValidateContainerAdjustmentRequest, removal, removed,
};
use crate::error::Result;

/// A container that is being made.
#[derive(Debug)]
pub(crate) struct Making {
    /// As the next plugin is to see it.
    pub(crate) container: Container,
    /// What all have asked for until now.
    adjust: ContainerAdjustment,
    /// What they have asked for of others, and who owns what.
    pub(crate) updates: Updates,
}

impl Making {
    pub(crate) fn new(container: Container) -> Self {
        Self {
            updates: Updates::while_making(&container.id),
            adjust: ContainerAdjustment::default(),
            container,
        }
    }

    fn owners(&mut self) -> &mut OwningPlugins {
        &mut self.updates.owners
    }

    /// The question for validators; `before` is the container as it was.
    pub(crate) fn question(&self, before: Container) -> ValidateContainerAdjustmentRequest {
        ValidateContainerAdjustmentRequest {
            pod: None,
            container: Some(before),
            adjust: Some(self.adjust.clone()),
            update: self.updates.so_far(),
            owners: Some(self.updates.owners.clone()),
            plugins: Vec::new(),
        }
    }

    /// What is to be done.
    pub(crate) fn finish(self) -> (ContainerAdjustment, Vec<crate::api::ContainerUpdate>) {
        (self.adjust, self.updates.finish())
    }

    /// Adds what a plugin asks for.
    ///
    /// # Errors
    /// Another plugin has asked for something else.
    pub(crate) fn adjust(&mut self, said: ContainerAdjustment, plugin: &str) -> Result<()> {
        self.annotations(said.annotations, plugin)?;
        self.mounts(said.mounts, plugin)?;
        self.env(said.env, plugin)?;
        self.args(said.args, plugin)?;
        self.hooks(said.hooks, plugin);
        if let Some(linux) = said.linux {
            self.linux(linux, plugin)?;
        }
        let id = self.container.id.clone();
        for limit in said.rlimits {
            self.owners()
                .claim_entry(&id, Field::Rlimits, &limit.r#type, plugin)?;
            let shown = &mut self.container.rlimits;
            shown.retain(|other| other.r#type != limit.r#type);
            shown.push(limit.clone());
            self.adjust.rlimits.push(limit);
        }
        for device in said.cdi_devices {
            self.owners()
                .claim_entry(&id, Field::CdiDevices, &device.name, plugin)?;
            self.adjust.cdi_devices.push(device);
        }
        Ok(())
    }

    fn linux(&mut self, said: LinuxContainerAdjustment, plugin: &str) -> Result<()> {
        self.devices(said.devices, plugin)?;
        self.resources(said.resources, plugin)?;
        self.namespaces(said.namespaces, plugin)?;
        self.sysctls(said.sysctl, plugin)?;
        self.net_devices(said.net_devices, plugin)?;
        self.rdt(said.rdt, plugin)?;
        let id = &self.container.id;
        let owners = &mut self.updates.owners;
        let shown = self.container.linux.get_or_insert_default();
        let to = self.adjust.linux.get_or_insert_default();
        if !said.cgroups_path.is_empty() {
            owners.claim(id, Field::CgroupsPath, plugin)?;
            shown.cgroups_path.clone_from(&said.cgroups_path);
            to.cgroups_path = said.cgroups_path;
        }
        macro_rules! whole {
            ($field:ident, $owned:ident, $($shown:ident)?) => {
                if said.$field.is_some() {
                    owners.claim(id, Field::$owned, plugin)?;
                    $(shown.$shown.clone_from(&said.$field);)?
                    to.$field = said.$field;
                }
            };
        }
        whole!(oom_score_adj, OomScoreAdj, oom_score_adj);
        whole!(io_priority, IoPriority, io_priority);
        whole!(seccomp_policy, SeccompPolicy, seccomp_policy);
        whole!(scheduler, LinuxSched, scheduler);
        whole!(memory_policy, MemoryPolicy,);
        Ok(())
    }

    fn resources(&mut self, said: Option<crate::api::LinuxResources>, plugin: &str) -> Result<()> {
        let Some(said) = said else { return Ok(()) };
        let mut merge = Merge {
            owners: &mut self.updates.owners,
            container: &self.container.id,
            plugin,
        };
        let linux = self.adjust.linux.get_or_insert_default();
        merge.resources(&said, linux.resources.get_or_insert_default())?;
        // The next one sees it: nobody can object any more.
        let mut show = Merge {
            owners: &mut OwningPlugins::default(),
            container: &self.container.id,
            plugin,
        };
        let shown = self.container.linux.get_or_insert_default();
        show.resources(&said, shown.resources.get_or_insert_default())
    }

    fn args(&mut self, mut said: Vec<String>, plugin: &str) -> Result<()> {
        let Some(first) = said.first() else {
            return Ok(());
        };
        let replaces = first.is_empty();
        let id = self.container.id.clone();
        if replaces {
            self.owners().clear(&id, Field::Args, plugin);
            said.remove(0);
        }
        self.owners().claim(&id, Field::Args, plugin)?;
        self.container.args.clone_from(&said);
        self.adjust.args = said;
        Ok(())
    }

    fn hooks(&mut self, said: Option<Hooks>, plugin: &str) {
        let Some(said) = said else { return };
        if said == Hooks::default() {
            return;
        }
        let id = self.container.id.clone();
        self.owners().add(&id, Field::OciHooks, plugin);
        let add = |to: &mut Hooks| {
            to.prestart.extend(said.prestart.iter().cloned());
            to.create_runtime
                .extend(said.create_runtime.iter().cloned());
            to.create_container
                .extend(said.create_container.iter().cloned());
            to.start_container
                .extend(said.start_container.iter().cloned());
            to.poststart.extend(said.poststart.iter().cloned());
            to.poststop.extend(said.poststop.iter().cloned());
        };
        add(self.container.hooks.get_or_insert_default());
        add(self.adjust.hooks.get_or_insert_default());
    }

    fn rdt(&mut self, said: Option<LinuxRdt>, plugin: &str) -> Result<()> {
        let Some(said) = said else { return Ok(()) };
        let id = &self.container.id;
        let owners = &mut self.updates.owners;
        let to = &mut self.adjust.linux.get_or_insert_default().rdt;
        if said.remove {
            for field in [
                Field::RdtClosId,
                Field::RdtSchemata,
                Field::RdtEnableMonitoring,
            ] {
                owners.clear(id, field, plugin);
            }
            *to = Some(LinuxRdt {
                remove: true,
                ..LinuxRdt::default()
            });
        }
        let to = to.get_or_insert_default();
        if said.clos_id.is_some() {
            owners.claim(id, Field::RdtClosId, plugin)?;
            to.clos_id = said.clos_id;
        }
        if said.schemata.is_some() {
            owners.claim(id, Field::RdtSchemata, plugin)?;
            to.schemata = said.schemata;
        }
        if said.enable_monitoring.is_some() {
            owners.claim(id, Field::RdtEnableMonitoring, plugin)?;
            to.enable_monitoring = said.enable_monitoring;
        }
        Ok(())
    }

    fn annotations(&mut self, said: BTreeMap<String, String>, plugin: &str) -> Result<()> {
        let shown = &mut self.container.annotations;
        let owners = &mut self.updates.owners;
        let of = (self.container.id.as_str(), Field::Annotations, plugin);
        map(
            owners,
            of,
            said,
            String::new,
            shown,
            &mut self.adjust.annotations,
        )
    }

    fn sysctls(&mut self, said: BTreeMap<String, String>, plugin: &str) -> Result<()> {
        let shown = &mut self.container.linux.get_or_insert_default().sysctl;
        let to = &mut self.adjust.linux.get_or_insert_default().sysctl;
        let owners = &mut self.updates.owners;
        let of = (self.container.id.as_str(), Field::Sysctl, plugin);
        map(owners, of, said, String::new, shown, to)
    }

    fn net_devices(
        &mut self,
        said: BTreeMap<String, crate::api::LinuxNetDevice>,
        plugin: &str,
    ) -> Result<()> {
        let shown = &mut self.container.linux.get_or_insert_default().net_devices;
        let to = &mut self.adjust.linux.get_or_insert_default().net_devices;
        let owners = &mut self.updates.owners;
        let of = (self.container.id.as_str(), Field::LinuxNetDevices, plugin);
        map(owners, of, said, Default::default, shown, to)
    }
}

/// Entries by name, some of which may be taken away; `of` is the container, the field and the plugin.
fn map<T: Clone>(
    owners: &mut OwningPlugins,
    (container, field, plugin): (&str, Field, &str),
    said: BTreeMap<String, T>,
    none: impl Fn() -> T,
    shown: &mut BTreeMap<String, T>,
    to: &mut BTreeMap<String, T>,
) -> Result<()> {
    // Marks sort before names: what is taken away may be set again.
    let (gone, set): (Vec<_>, Vec<_>) = said
        .into_iter()
        .partition(|(name, _)| removed(name).is_some());
    for (mark, _) in gone {
        let name = removed(&mark).unwrap_or_default();
        owners.clear_entry(container, field, name, plugin);
        shown.remove(name);
        to.remove(name);
        to.insert(removal(name), none());
    }
    for (name, value) in set {
        owners.claim_entry(container, field, &name, plugin)?;
        shown.insert(name.clone(), value.clone());
        to.insert(name, value);
    }
    Ok(())
}
