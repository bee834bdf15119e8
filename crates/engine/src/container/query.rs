//! ContainerStatus and ListContainers: reading, never changing.

use super::{Container, ContainerFilter};
use crate::disk;
use crate::engine::{Engine, has_labels, resolve_prefix};
use crate::error::{Error, Result};

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
        let Some((pod, id)) = self.container_place(prefix)? else {
            return Ok(None);
        };
        let bundle = self.layout().container(&pod, &id);
        let Some(record) = self.container_record(&pod, &id)? else {
            return Ok(None);
        };
        let dir = self.layout().pod(&pod);
        let state = match self.handlers().of(&record.handler) {
            Ok(handler) => {
                let at = record.at(&dir, &bundle);
                handler.state(at, handler.sandbox(at.pod)?.as_ref())?
            }
            Err(error) => {
                disk::warn_once(&bundle, &error);
                None
            }
        };
        Ok(Some(record.view(bundle, state)))
    }

    /// The containers that fit, newest first. A filter that nothing fits gives an empty list.
    ///
    /// # Errors
    /// A directory that cannot be read. A container whose record cannot be read is listed by its id.
    pub fn containers(&self, filter: &ContainerFilter) -> Result<Vec<Container>> {
        let mut containers = Vec::new();
        for pod in self.layout().pod_ids()? {
            if !filter
                .pod_id
                .as_deref()
                .is_none_or(|prefix| pod.starts_with(prefix))
            {
                continue;
            }
            let dir = self.layout().pod(&pod);
            let Some(pod_record) = self.pod_record(&pod)? else {
                continue;
            };
            if !pod_record.is_of(filter.origin) {
                continue;
            }
            let sandbox = self.sandbox(&pod_record)?;
            let handler = self.handler_of(&pod_record).ok();
            for id in self.layout().container_ids(&pod)? {
                if !filter
                    .id
                    .as_deref()
                    .is_none_or(|prefix| id.starts_with(prefix))
                {
                    continue;
                }
                let bundle = self.layout().container(&pod, &id);
                let Some(record) = self.container_record(&pod, &id)? else {
                    continue;
                };
                if !has_labels(&record.spec.labels, &filter.labels) {
                    continue;
                }
                let state = match handler {
                    Some(handler) => handler.state(record.at(&dir, &bundle), sandbox.as_ref())?,
                    None => None,
                };
                let container = record.view(bundle, state);
                if filter
                    .state
                    .is_none_or(|state| state == container.state.kind())
                {
                    containers.push(container);
                }
            }
        }
        containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
        Ok(containers)
    }
}
