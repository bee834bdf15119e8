//! ContainerStatus and ListContainers: reading, never changing.

use std::path::Path;
use std::sync::Arc;

use super::record::ContainerRecord;
use super::{Container, ContainerFilter};
use crate::choose::{has_labels, resolve_prefix};
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{Sandbox, State};
use crate::pod::Origin;
use crate::pod::record::{PodRecord, Stage};
use crate::view::{Cache, Listed, is_of};

impl Engine {
    /// One container, by id or its unambiguous beginning.
    ///
    /// # Errors
    /// `NotFound`, or an ambiguous beginning.
    pub fn container(&self, id: &str) -> Result<Container> {
        self.container_if_any(id)?.ok_or_else(|| Error::NotFound {
            what: "container",
            name: id.to_owned(),
        })
    }

    /// The pod of a container, by the container's id or its unambiguous beginning; `None` if there
    /// is no such container.
    ///
    /// # Errors
    /// An ambiguous beginning, or directories that cannot be read.
    pub fn pod_of_container(&self, id: &str) -> Result<Option<String>> {
        Ok(self.container_place(id)?.map(|(pod, _)| pod))
    }

    /// Pod and full id of a container.
    fn container_place(&self, prefix: &str) -> Result<Option<(String, String)>> {
        if prefix.is_empty() {
            return Err(Error::invalid("container_id", "must not be empty"));
        }
        if let Some(found) = self.cached(|cache| cache.find_container(prefix)) {
            return found;
        }
        let mut places = Vec::new();
        for pod in self.layout().pod_ids()? {
            for id in self.layout().container_ids(&pod)? {
                if id.starts_with(prefix) {
                    places.push((pod.clone(), id));
                }
            }
        }
        let ids = places.iter().map(|(_, id)| id.clone()).collect();
        let Some(id) = resolve_prefix("container", prefix, ids)? else {
            return Ok(None);
        };
        Ok(places.into_iter().find(|(_, candidate)| *candidate == id))
    }

    pub(crate) fn container_if_any(&self, prefix: &str) -> Result<Option<Container>> {
        let cached = |cache: &Cache| {
            let found = cache.find_container(prefix)?;
            Ok(found.and_then(|(pod, id)| cache.pod(&pod)?.containers.get(&*id)?.view.clone()))
        };
        if !prefix.is_empty()
            && let Some(found) = self.cached(cached)
        {
            return found.map(|view: Option<_>| view.map(Arc::unwrap_or_clone));
        }
        let Some((pod, id)) = self.container_place(prefix)? else {
            return Ok(None);
        };
        let Some(record) = self.container_record(&pod, &id)? else {
            return Ok(None);
        };
        let Some(pod_record) = self.pod_record(&pod)? else {
            return Ok(None);
        };
        let sandbox = self.sandbox(&pod_record)?;
        self.view_container(&pod_record, record, sandbox.as_ref())
            .map(Some)
    }

    /// A container as callers see it; `sandbox` is its pod's, if that lives.
    pub(crate) fn view_container(
        &self,
        pod: &PodRecord,
        record: ContainerRecord,
        sandbox: Option<&Sandbox>,
    ) -> Result<Container> {
        let dir = self.layout().pod(&pod.id);
        let bundle = self.layout().container(&pod.id, &record.id);
        let state = match self.handlers().of(&record.handler) {
            // Whatever its cgroup is like: nobody has made it.
            Ok(_) if is_defined(pod, &bundle) => Some(State::CREATED),
            Ok(handler) => handler.state(record.at(&dir, &bundle), sandbox)?,
            Err(error) => {
                disk::warn_once(&bundle, &error);
                None
            }
        };
        let of_person = pod.spec.origin == Origin::Cli;
        Ok(record.view(bundle, state.or(of_person.then_some(State::CREATED))))
    }

    /// The containers that fit, newest first. A filter that nothing fits gives an empty list.
    ///
    /// # Errors
    /// A directory that cannot be read. A container whose record cannot be read is listed by its id.
    pub fn containers(&self, filter: &ContainerFilter) -> Result<Vec<Arc<Container>>> {
        let all = match self.cached(|cache| cache.containers().collect()) {
            Some(all) => all,
            None => self.read_containers(filter)?,
        };
        let begins = |id: &str, prefix: &Option<String>| {
            id.starts_with(prefix.as_deref().unwrap_or_default())
        };
        let fits = |listed: &Listed| {
            let container = &listed.container;
            begins(&container.id, &filter.id)
                && begins(&container.pod_id, &filter.pod_id)
                && is_of(listed.origin, filter.origin)
                && filter
                    .state
                    .is_none_or(|state| state == container.state.kind())
                && has_labels(&container.spec.labels, &filter.labels)
        };
        let mut containers: Vec<Arc<Container>> = all
            .into_iter()
            .filter(fits)
            .map(|listed| listed.container)
            .collect();
        containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
        Ok(containers)
    }

    /// All containers of pods and with ids that fit, read from their files.
    fn read_containers(&self, filter: &ContainerFilter) -> Result<Vec<Listed>> {
        let begins = |id: &str, prefix: &Option<String>| {
            id.starts_with(prefix.as_deref().unwrap_or_default())
        };
        let mut containers = Vec::new();
        for pod in self.layout().pod_ids()? {
            if !begins(&pod, &filter.pod_id) {
                continue;
            }
            let Some(pod_record) = self.pod_record(&pod)? else {
                continue;
            };
            let origin = (!pod_record.is_damaged()).then_some(pod_record.spec.origin);
            let sandbox = self.sandbox(&pod_record)?;
            for id in self.layout().container_ids(&pod)? {
                if !begins(&id, &filter.id) {
                    continue;
                }
                let Some(record) = self.container_record(&pod, &id)? else {
                    continue;
                };
                let container = self.view_container(&pod_record, record, sandbox.as_ref())?;
                containers.push(Listed {
                    container: Arc::new(container),
                    origin,
                });
            }
        }
        Ok(containers)
    }
}

/// Was the container not made since its pod was defined?
fn is_defined(pod: &PodRecord, bundle: &Path) -> bool {
    matches!(pod.stage, Stage::Defined) && !bundle.join("state.json").exists()
}
