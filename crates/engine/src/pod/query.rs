//! PodSandboxStatus and ListPodSandbox: reading, never changing.

use std::sync::Arc;

use super::{Pod, PodFilter};
use crate::choose::{has_labels, resolve_prefix};
use crate::container::{Container, ContainerFilter};
use crate::disk::{self, now_ns};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::Pending;
use crate::view::{is_of, origin};

impl Engine {
    /// One pod, by id or its unambiguous beginning.
    ///
    /// # Errors
    /// `NotFound`, or an ambiguous beginning.
    pub fn pod(&self, id: &str) -> Result<Pod> {
        let missing = || Error::NotFound {
            what: "pod",
            name: id.to_owned(),
        };
        let full = self.find_pod_id(id)?.ok_or_else(missing)?;
        if let Some(pod) = self.cached(|cache| cache.pod(&full)?.view.clone()) {
            return pod.map(Arc::unwrap_or_clone).ok_or_else(missing);
        }
        let record = self.pod_record(&full)?.ok_or_else(missing)?;
        self.view_pod(&record)?.ok_or_else(missing)
    }

    /// A pod with its containers, and a time (nanoseconds since 1970) that they are at least as new as.
    ///
    /// # Errors
    /// As [`Engine::pod`].
    pub fn pod_views(&self, id: &str) -> Result<(Pod, Vec<Arc<Container>>, i64)> {
        let as_of = now_ns();
        let pod = self.pod(id)?;
        let kept = self.cached(|cache| cache.pod(&pod.id).map(|kept| kept.views().containers));
        let containers = match kept {
            Some(kept) => kept.unwrap_or_default(),
            None => self.containers(&ContainerFilter {
                pod_id: Some(pod.id.clone()),
                ..ContainerFilter::default()
            })?,
        };
        Ok((pod, containers, as_of))
    }

    /// The pods that fit, newest first. A filter that nothing fits gives an empty list.
    ///
    /// # Errors
    /// A directory that cannot be read. A pod whose record cannot be read is listed and not ready.
    pub fn pods(&self, filter: &PodFilter) -> Result<Vec<Arc<Pod>>> {
        let kept = self.cached(|cache| {
            let made = |(_, pod): (_, &crate::view::CachedPod)| pod.view.clone();
            cache.pods().filter_map(made).collect()
        });
        let mut pods: Vec<Arc<Pod>> = match kept {
            Some(pods) => pods,
            None => self.read_pods(filter.id.as_deref())?,
        };
        pods.retain(|pod| {
            let prefix = filter.id.as_deref().unwrap_or_default();
            pod.id.starts_with(prefix)
                && filter.state.is_none_or(|state| state == pod.state)
                && is_of(origin(pod), filter.origin)
                && has_labels(&pod.spec.labels, &filter.labels)
        });
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
        Ok(pods)
    }

    /// All pods whose ids begin so, read from their files.
    fn read_pods(&self, prefix: Option<&str>) -> Result<Vec<Arc<Pod>>> {
        let mut pods = Vec::new();
        for id in self.layout().pod_ids()? {
            if !prefix.is_none_or(|prefix| id.starts_with(prefix)) {
                continue;
            }
            let Some(record) = self.pod_record(&id)? else {
                continue;
            };
            pods.extend(self.view_pod(&record)?.map(Arc::new));
        }
        Ok(pods)
    }

    /// Completes once the pod's sandbox is gone, however it went; at once if it is. To be waited for in
    /// a tokio runtime; dropping it harms nothing.
    ///
    /// # Errors
    /// `NotFound`, an ambiguous beginning, or a sandbox that cannot be watched.
    pub fn sandbox_gone(&self, id: &str) -> Result<Pending<()>> {
        let missing = || Error::NotFound {
            what: "pod",
            name: id.to_owned(),
        };
        let full = self.find_pod_id(id)?.ok_or_else(missing)?;
        let record = self.pod_record(&full)?.ok_or_else(missing)?;
        let dir = self.layout().pod(&full);
        self.handler_of(&record)?.gone(record.at(&dir))
    }

    /// The full id that `prefix` begins; `None` if there is none.
    pub(crate) fn find_pod_id(&self, prefix: &str) -> Result<Option<String>> {
        // A whole id needs no look at the others.
        if disk::is_id(prefix) && self.layout().pod(prefix).is_dir() {
            return Ok(Some(prefix.to_owned()));
        }
        match self.cached(|cache| cache.find_pod(prefix)) {
            Some(found) => found,
            None => resolve_prefix("pod", prefix, self.layout().pod_ids()?),
        }
    }
}
