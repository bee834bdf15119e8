//! UpdatePodSandboxResources: the pod as a whole grows or shrinks (KEP-1287, KEP-5419).
//!
//! kubelet owns the cgroup that it has named and has sized it when it tells this: then what is told is
//! kept, once what is in use fits. A cgroup of floe's own gets the limits here.

use std::time::Duration;

use runtime::cgroup::Cgroup;

use super::PodSize;
use super::record::PodRecord;
use crate::container::Resources;
use crate::disk::Lock;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::oci;

/// How long the kernel may take to get memory back.
const RECLAIM: Duration = Duration::from_secs(10);

impl Engine {
    /// Changes the limits of a pod as a whole; zero, empty and `None` leave what is. Memory above a lower
    /// limit is taken back first.
    ///
    /// # Errors
    /// An unknown pod or one that is not ready, limits that do not fit together, more memory in use than the
    /// limit leaves, or what the kernel refuses; the record tells the old ones then.
    pub fn update_pod(&self, id: &str, change: &PodSize) -> Result<()> {
        let pod = self.require_ready("update", id)?;
        let dir = self.layout().pod(&pod.id);
        let _turn = Lock::exclusive(&dir.join("lock"))?;
        let mut record = PodRecord::read(&dir)?.ok_or_else(|| Error::NotFound {
            what: "pod",
            name: pod.id.clone(),
        })?;
        self.plugins_let_pod_change(&record, change)?;
        let size = record.spec.size.with(change);
        let total = size.total();
        oci::limits(&total)?;
        if let Err(refused) = self.limit_pod(&record, &total) {
            if record.owns_cgroup
                && let Err(error) = self.limit_pod(&record, &record.spec.size.total())
            {
                tracing::warn!(pod = %record.id, %error, "the former limits are not set again");
            }
            return Err(refused);
        }
        record.spec.size = size;
        record.write(&dir)?;
        self.plugins_saw_pod_change(&record);
        Ok(())
    }

    /// Sees to it that what is in use fits, and sets the limits of a cgroup that is floe's own.
    pub(super) fn limit_pod(&self, record: &PodRecord, total: &Resources) -> Result<()> {
        let failed = |source| Error::Cgroup {
            id: record.id.clone(),
            source,
        };
        if *total == Resources::default() {
            return Ok(());
        }
        let cgroup = Cgroup::open_managed(&record.cgroup).map_err(failed)?;
        let sets = record.owns_cgroup;
        if let Ok(lower) = u64::try_from(total.memory_limit)
            && lower > 0
            && !(sets && cgroup.limit_makes_room())
        {
            cgroup.make_room(lower, RECLAIM).map_err(failed)?;
        }
        match sets {
            true => cgroup.update(&oci::limits(total)?).map_err(failed),
            false => Ok(()),
        }
    }
}

impl PodSize {
    /// This size, with what `change` sets instead.
    fn with(&self, change: &PodSize) -> PodSize {
        let with = |old: &Option<Resources>, new: &Option<Resources>| match (old, new) {
            (old, None) => old.clone(),
            (None, new) => new.clone(),
            (Some(old), Some(new)) => Some(old.with(new)),
        };
        PodSize {
            overhead: with(&self.overhead, &change.overhead),
            resources: with(&self.resources, &change.resources),
        }
    }

    /// The limits of the pod's cgroup: both together, of what the containers have a limit of.
    pub(super) fn total(&self) -> Resources {
        let Some(mut total) = self.resources.clone() else {
            return Resources::default();
        };
        let Some(overhead) = &self.overhead else {
            return total;
        };
        for (limit, more) in [
            (&mut total.cpu_shares, overhead.cpu_shares),
            (&mut total.memory_limit, overhead.memory_limit),
            (&mut total.memory_swap_limit, overhead.memory_limit),
        ] {
            if *limit > 0 {
                *limit = limit.saturating_add(more.max(0));
            }
        }
        if total.cpu_quota > 0 && overhead.cpu_quota > 0 && overhead.cpu_period > 0 {
            let period = i128::from(period(total.cpu_period));
            let more = i128::from(overhead.cpu_quota) * period / i128::from(overhead.cpu_period);
            let more = i64::try_from(more).unwrap_or(i64::MAX);
            total.cpu_quota = total.cpu_quota.saturating_add(more);
        }
        total
    }
}

/// The kernel's, where none is given.
fn period(given: i64) -> i64 {
    if given > 0 { given } else { 100_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_limits_are_those_of_its_containers_and_what_it_costs_beyond() {
        let resources = Resources {
            cpu_quota: 50_000,
            cpu_period: 100_000,
            cpu_shares: 512,
            memory_limit: 100,
            ..Resources::default()
        };
        let overhead = Resources {
            cpu_quota: 5_000,
            cpu_period: 50_000,
            cpu_shares: 20,
            memory_limit: 7,
            ..Resources::default()
        };
        let size = PodSize {
            overhead: Some(overhead.clone()),
            resources: Some(resources),
        };
        let total = size.total();
        assert_eq!((total.cpu_quota, total.cpu_shares), (60_000, 532));
        assert_eq!((total.memory_limit, total.memory_swap_limit), (107, 0));
        // Without a limit of the containers there is none of the pod.
        let unlimited = PodSize {
            overhead: Some(overhead.clone()),
            resources: Some(Resources::default()),
        };
        assert_eq!(unlimited.total(), Resources::default());
        let nothing = PodSize {
            overhead: Some(overhead),
            resources: None,
        };
        assert_eq!(nothing.total(), Resources::default());
    }

    #[test]
    fn what_is_not_told_stays() {
        let memory = |memory_limit| Resources {
            memory_limit,
            cpu_shares: 2,
            ..Resources::default()
        };
        let old = PodSize {
            overhead: Some(memory(1)),
            resources: None,
        };
        let grown = old.with(&PodSize {
            overhead: None,
            resources: Some(memory(5)),
        });
        assert_eq!(grown.overhead, Some(memory(1)));
        let again = grown.with(&PodSize {
            overhead: None,
            resources: Some(Resources {
                memory_limit: 9,
                ..Resources::default()
            }),
        });
        assert_eq!(again.resources, Some(memory(9)));
    }
}
