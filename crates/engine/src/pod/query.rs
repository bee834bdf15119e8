//! PodSandboxStatus and ListPodSandbox: reading, never changing.

use super::{Pod, PodFilter};
use crate::engine::{Engine, has_labels, resolve_prefix};
use crate::error::{Error, Result};
use crate::handler::Pending;

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
        let record = self.pod_record(&full)?.ok_or_else(missing)?;
        self.view_pod(&record)?.ok_or_else(missing)
    }

    /// The pods that fit, newest first. A filter that nothing fits gives an empty list.
    ///
    /// # Errors
    /// A directory that cannot be read. A pod whose record cannot be read is listed and not ready.
    pub fn pods(&self, filter: &PodFilter) -> Result<Vec<Pod>> {
        let mut pods = Vec::new();
        for id in self.layout().pod_ids()? {
            if !filter
                .id
                .as_deref()
                .is_none_or(|prefix| id.starts_with(prefix))
            {
                continue;
            }
            let Some(record) = self.pod_record(&id)? else {
                continue;
            };
            let fits =
                has_labels(&record.spec.labels, &filter.labels) && record.is_of(filter.origin);
            if !fits {
                continue;
            }
            if let Some(pod) = self.view_pod(&record)?
                && filter.state.is_none_or(|state| state == pod.state)
            {
                pods.push(pod);
            }
        }
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
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
        resolve_prefix("pod", prefix, self.layout().pod_ids()?)
    }
}
