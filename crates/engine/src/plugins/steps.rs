//! The steps of a pod's and a container's life as plugins hear of them. What refuses is a step that begins; the
//! end of anything goes on whatever a plugin says.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use nri::{Event, InFlight, Nri, api};
use runtime::spec;

use super::adjust::Adjust;
use super::{limits, views};
use crate::container::record::ContainerRecord;
use crate::container::{Container, ContainerFilter, Resources};
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::Sandbox;
use crate::pod::record::{PodRecord, Stage};
use crate::pod::{Origin, PodSize};

/// A pod that plugins have let be made. Dropped before [`NewPod::made`], they are told that it is not.
#[must_use = "plugins are told that it is not made when this is dropped"]
pub(crate) struct NewPod<'a> {
    nri: &'a Nri,
    told: Option<api::PodSandbox>,
    _in_flight: InFlight,
}

impl NewPod<'_> {
    /// It is made.
    pub(crate) fn made(mut self) {
        self.told = None;
    }
}

impl Drop for NewPod<'_> {
    fn drop(&mut self) {
        if let Some(pod) = self.told.take() {
            object(&pod.id.clone(), self.nri.stop_pod(pod.clone()));
            object(&pod.id.clone(), self.nri.remove_pod(pod));
        }
    }
}

/// A container that plugins have let be made. Dropped before [`NewContainer::made`], they are told that it is not.
#[must_use = "plugins are told that it is not made when this is dropped"]
pub(crate) struct NewContainer<'a> {
    engine: &'a Engine,
    nri: &'a Nri,
    told: Option<(api::PodSandbox, api::Container)>,
    _in_flight: InFlight,
}

impl NewContainer<'_> {
    /// It is made.
    pub(crate) fn made(mut self) {
        let Some((pod, container)) = self.told.take() else {
            return;
        };
        if !self.nri.wants(Event::PostCreateContainer) {
            return;
        }
        let id = container.id;
        let found = self
            .engine
            .container(&id)
            .map(|view| self.engine.told(&view));
        if let Ok(container) = found {
            object(&id, self.nri.container_created(pod, container));
        }
    }
}

impl Drop for NewContainer<'_> {
    fn drop(&mut self) {
        if let Some((pod, container)) = self.told.take() {
            self.nri.undo_create(pod, container);
        }
    }
}

/// What is about to be removed, as plugins are told of it afterwards.
pub(crate) struct Removal<'a> {
    nri: &'a Nri,
    pod: api::PodSandbox,
    containers: Vec<api::Container>,
    whole_pod: bool,
}

impl Removal<'_> {
    /// It is gone.
    pub(crate) fn done(self) {
        for container in self.containers {
            self.nri.remove_container(self.pod.clone(), container);
        }
        if self.whole_pod && self.nri.wants(Event::RemovePodSandbox) {
            object(&self.pod.id.clone(), self.nri.remove_pod(self.pod));
        }
    }
}

/// What a plugin says to something that is done.
fn object(id: &str, said: nri::Result<()>) {
    if let Err(error) = said {
        tracing::warn!(id, %error, "an NRI plugin objects to what is done");
    }
}

impl Engine {
    fn told_pod(&self, record: &PodRecord) -> Result<api::PodSandbox> {
        let ips: &[IpAddr] = match &record.stage {
            Stage::Made { ips } => ips,
            _ => &[],
        };
        let sandbox = self.sandbox(record)?;
        Ok(views::pod(record, sandbox.as_ref(), ips))
    }

    /// A container as it is; of one whose config.json is gone, what its record says.
    pub(super) fn told(&self, container: &Container) -> api::Container {
        let path: PathBuf = container.bundle.join("config.json");
        let config: Option<spec::Spec> = disk::read_json(&path).unwrap_or_else(|error| {
            tracing::warn!(container = container.id, %error, "plugins are told less of it");
            None
        });
        views::container(container, config.as_ref())
    }

    /// A container and its pod.
    fn told_both(
        &self,
        container: &Container,
    ) -> Result<Option<(api::PodSandbox, api::Container)>> {
        let Some(pod) = self.pod_record(&container.pod_id)? else {
            return Ok(None);
        };
        Ok(Some((self.told_pod(&pod)?, self.told(container))))
    }

    /// The plugins of a container that want to be told of this.
    fn asked_about(&self, event: Event, container: &Container) -> Option<&Nri> {
        let nri = self.asked().filter(|nri| nri.wants(event))?;
        let pod = self.pod_record(&container.pod_id).ok().flatten()?;
        (pod.spec.origin == Origin::Cri).then_some(nri)
    }

    /// All but the last of the steps that make a pod are done. Nobody has seen it yet.
    ///
    /// # Errors
    /// A plugin refuses.
    pub(crate) fn plugins_let_pod(
        &self,
        record: &PodRecord,
        ips: &[IpAddr],
    ) -> Result<Option<NewPod<'_>>> {
        let Some(nri) = self.plugins().nri.get() else {
            return Ok(None);
        };
        let mut new = NewPod {
            _in_flight: nri.begin(),
            told: None,
            nri,
        };
        if self.asked_for(Event::RunPodSandbox, record).is_some() {
            let sandbox = self.sandbox(record)?;
            let pod = views::pod(record, sandbox.as_ref(), ips);
            nri.run_pod(pod.clone()).map_err(Error::Plugin)?;
            new.told = Some(pod);
        }
        Ok(Some(new))
    }

    /// A pod is about to change its size.
    ///
    /// # Errors
    /// A plugin refuses.
    pub(crate) fn plugins_let_pod_change(
        &self,
        record: &PodRecord,
        change: &PodSize,
    ) -> Result<()> {
        let Some(nri) = self.asked_for(Event::UpdatePodSandbox, record) else {
            return Ok(());
        };
        let limits = |of: &Option<Resources>| of.as_ref().map(limits::of_request);
        let (overhead, resources) = (limits(&change.overhead), limits(&change.resources));
        let told = self.told_pod(record)?;
        let asked = nri.update_pod(told, overhead, resources);
        asked.map_err(Error::Plugin)
    }

    /// A pod has changed its size.
    pub(crate) fn plugins_saw_pod_change(&self, record: &PodRecord) {
        if let Some(nri) = self.asked_for(Event::PostUpdatePodSandbox, record)
            && let Ok(told) = self.told_pod(record)
        {
            object(&record.id, nri.pod_updated(told));
        }
    }

    /// A pod's containers have ended, and what holds the pod lives, if it did.
    pub(crate) fn plugins_saw_pod_stop(&self, record: &PodRecord, sandbox: Option<&Sandbox>) {
        let Stage::Made { ips } = &record.stage else {
            return;
        };
        let Some(nri) = self.asked_of(record) else {
            return;
        };
        let told = views::pod(record, sandbox, ips);
        if nri.wants(Event::StopContainer) {
            for container in self.containers_of(&record.id) {
                nri.container_stopped(told.clone(), self.told(&container));
            }
        }
        if nri.wants(Event::StopPodSandbox) {
            object(&record.id, nri.stop_pod(told));
        }
    }

    fn containers_of(&self, pod: &str) -> Vec<Arc<Container>> {
        let found = self.containers(&ContainerFilter {
            pod_id: Some(pod.to_owned()),
            ..ContainerFilter::default()
        });
        found.unwrap_or_else(|error| {
            tracing::warn!(pod, %error, "plugins are not told of its containers");
            Vec::new()
        })
    }

    /// A pod with its containers is about to be removed. Of one that never came to be they have been told.
    pub(crate) fn plugins_see_pod_go(&self, record: &PodRecord) -> Option<Removal<'_>> {
        if matches!(record.stage, Stage::Failed) {
            return None;
        }
        let nri = self.asked_of(record)?;
        let containers = self.containers_of(&record.id);
        Some(Removal {
            nri,
            pod: self.told_pod(record).ok()?,
            containers: containers.iter().map(|one| self.told(one)).collect(),
            whole_pod: true,
        })
    }

    /// A container is about to be removed.
    pub(crate) fn plugins_see_container_go(&self, container: &Container) -> Option<Removal<'_>> {
        let nri = self.asked()?;
        let (pod, container) = self.told_both(container).ok().flatten()?;
        Some(Removal {
            nri,
            pod,
            containers: vec![container],
            whole_pod: false,
        })
    }

    /// A container is about to be made: its config.json and its record are as plugins want them afterwards.
    ///
    /// # Errors
    /// A plugin refuses, two contradict each other, or they want what cannot be.
    pub(crate) fn plugins_let_container(
        &self,
        pod: &PodRecord,
        record: &mut ContainerRecord,
        config: &mut spec::Spec,
        all_devices: bool,
    ) -> Result<Option<NewContainer<'_>>> {
        let Some(nri) = self.plugins().nri.get() else {
            return Ok(None);
        };
        let mut new = NewContainer {
            _in_flight: nri.begin(),
            told: None,
            engine: self,
            nri,
        };
        if self.asked_of(pod).is_none() {
            return Ok(Some(new));
        }
        let told = self.told_pod(pod)?;
        let container = views::new_container(record, &record.spec, config);
        let created = nri.create_container(told.clone(), container.clone());
        let created = created.map_err(Error::Plugin)?;
        new.told = Some((told, container));
        done(nri.apply(created.updates, created.evictions))?;
        let adjust = Adjust {
            pod_cgroup: &pod.cgroup,
            in_users: pod.spec.namespaces.users.ids().is_some(),
            record,
            config,
            cdi_dirs: &self.config().runtime.cdi_spec_dirs,
            all_devices,
        };
        adjust.apply(created.adjust)?;
        self.check_memory(pod, record.spec.resources.memory_limit)?;
        Ok(Some(new))
    }

    /// A container is about to be started.
    ///
    /// # Errors
    /// A plugin refuses.
    pub(crate) fn plugins_let_start(&self, container: &Container) -> Result<()> {
        let Some(nri) = self.asked_about(Event::StartContainer, container) else {
            return Ok(());
        };
        match self.told_both(container)? {
            Some((pod, told)) => nri.start_container(pod, told).map_err(Error::Plugin),
            None => Ok(()),
        }
    }

    /// A container is started.
    pub(crate) fn plugins_saw_start(&self, container: &Container) {
        if let Some(nri) = self.asked_about(Event::PostStartContainer, container)
            && let Ok(now) = self.container(&container.id)
            && let Ok(Some((pod, told))) = self.told_both(&now)
        {
            object(&now.id, nri.container_started(pod, told));
        }
    }

    /// A container has ended.
    pub(crate) fn plugins_saw_stop(&self, container: &Container) {
        if let Some(nri) = self.asked_about(Event::StopContainer, container)
            && let Ok(Some(now)) = self.container_if_any(&container.id)
            && let Ok(Some((pod, told))) = self.told_both(&now)
        {
            nri.container_stopped(pod, told);
        }
    }

    /// Does anybody want to be told when a container starts or ends?
    pub(crate) fn plugins_see_lives(&self) -> bool {
        self.asked().is_some_and(|nri| {
            let events = [
                Event::StartContainer,
                Event::PostStartContainer,
                Event::StopContainer,
            ];
            events.into_iter().any(|event| nri.wants(event))
        })
    }

    /// A container is about to have other limits; those it is to have, if plugins want others.
    ///
    /// # Errors
    /// A plugin refuses, or two contradict each other.
    pub(crate) fn plugins_let_limits(
        &self,
        container: &Container,
        change: &Resources,
    ) -> Result<Option<api::LinuxResources>> {
        let Some(nri) = self.asked_about(Event::UpdateContainer, container) else {
            return Ok(None);
        };
        let Some((pod, told)) = self.told_both(container)? else {
            return Ok(None);
        };
        let updated = nri.update_container(pod, told, limits::of_request(change));
        let updated = updated.map_err(Error::Plugin)?;
        done(nri.apply(updated.updates, updated.evictions))?;
        Ok(updated.resources)
    }

    /// A container has other limits.
    pub(crate) fn plugins_saw_limits(&self, container: &Container) {
        if let Some(nri) = self.asked_about(Event::PostUpdateContainer, container)
            && let Ok(now) = self.container(&container.id)
            && let Ok(Some((pod, told))) = self.told_both(&now)
        {
            object(&now.id, nri.container_updated(pod, told));
        }
    }
}

/// What plugins wanted of others is done, or those that mind are named.
fn done(failed: Vec<api::ContainerUpdate>) -> Result<()> {
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(Error::invalid(
            "NRI",
            format!(
                "the limits that a plugin wants for container {} cannot be set",
                first.container_id
            ),
        )),
    }
}
