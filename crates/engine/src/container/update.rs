//! UpdateContainerResources: other limits for a container that is there.
//!
//! The cgroup first, then the record, so that a status never shows what the kernel refused.

use nri::api::LinuxResources;

use super::record::ContainerRecord;
use super::{Container, ContainerState, Resources};
use crate::disk::Lock;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::LIMIT;
use crate::oci;
use crate::plugins::{as_request, merge_limits};

impl Engine {
    /// Changes the limits that `change` sets; zero and empty leave what is.
    ///
    /// # Errors
    /// An unknown container or one that has ended, limits that do not fit together, more memory in use than
    /// a lower limit leaves once the kernel has taken back what it can, or what the kernel refuses; those that
    /// the record tells hold again then, and it is as it was.
    pub fn update_container(&self, id: &str, change: &Resources) -> Result<()> {
        let container = self.container(id)?;
        if !matches!(
            container.state,
            ContainerState::Created | ContainerState::Running { .. }
        ) {
            return Err(super::life::state_error("update", &container));
        }
        let by_plugins = self.plugins_let_limits(&container, change)?;
        let wanted = by_plugins.as_ref().map(as_request).transpose()?;
        // Two updates of one pod come one after the other.
        let turn = Lock::exclusive(&self.layout().pod(&container.pod_id).join("lock"))?;
        let change = wanted.as_ref().unwrap_or(change);
        self.change_limits(&container, change, by_plugins.as_ref())?;
        drop(turn);
        self.plugins_saw_limits(&container);
        Ok(())
    }

    /// Sets limits of a container that has not ended, and writes them down; `more` has those that only plugins
    /// can name.
    ///
    /// # Errors
    /// As [`Engine::update_container`].
    pub(crate) fn change_limits(
        &self,
        container: &Container,
        change: &Resources,
        more: Option<&LinuxResources>,
    ) -> Result<()> {
        let _turn = self.turn_of_limits(&container.id);
        let bundle = self.layout().container(&container.pod_id, &container.id);
        let mut record = ContainerRecord::read(&bundle)?.ok_or_else(|| Error::NotFound {
            what: "container",
            name: container.id.clone(),
        })?;
        if let Some(pod) = self.pod_record(&container.pod_id)? {
            self.check_memory(&pod, change.memory_limit)?;
        }
        let change = &record.spec.resources.completed(change);
        let merged = record.spec.resources.with(change);
        // What does not fit together is refused before the kernel is asked.
        oci::limits(&merged)?;
        let mut limits = oci::limits(change)?;
        if let Some(more) = more {
            merge_limits(more, &mut limits)?;
        }
        let set = |limits: &runtime::spec::Resources| {
            self.with_handler(container, |handler, at| handler.update(at, limits, LIMIT))
        };
        if let Err(refused) = set(&limits) {
            let former = oci::limits(&record.spec.resources)?;
            if let Err(error) = set(&former) {
                let id = &container.id;
                tracing::warn!(id, %error, "the former limits are not set again");
            }
            return Err(refused);
        }
        record.spec.resources = merged;
        record.write(&bundle)
    }
}

impl Resources {
    /// The change as it was meant: a memory limit alone that rises above the one of memory and swap
    /// together lifts that one as well, and leaves as much swap as there was. runc on cgroup v2, where
    /// swap is counted alone, does the same.
    fn completed(&self, change: &Resources) -> Resources {
        let mut change = change.clone();
        let old = self.memory_swap_limit;
        if change.memory_swap_limit == 0 && old > 0 && change.memory_limit > old {
            let swap = old.saturating_sub(self.memory_limit).max(0);
            change.memory_swap_limit = change.memory_limit.saturating_add(swap);
        }
        change
    }

    /// These limits, with what `change` sets instead.
    #[must_use]
    pub fn with(&self, change: &Resources) -> Resources {
        let number = |old: i64, new: i64| if new == 0 { old } else { new };
        let text = |old: &String, new: &String| match new.is_empty() {
            true => old.clone(),
            false => new.clone(),
        };
        let mut merged = Resources {
            cpu_period: number(self.cpu_period, change.cpu_period),
            cpu_quota: number(self.cpu_quota, change.cpu_quota),
            cpu_shares: number(self.cpu_shares, change.cpu_shares),
            memory_limit: number(self.memory_limit, change.memory_limit),
            memory_swap_limit: number(self.memory_swap_limit, change.memory_swap_limit),
            oom_score_adj: self.oom_score_adj,
            cpuset_cpus: text(&self.cpuset_cpus, &change.cpuset_cpus),
            cpuset_mems: text(&self.cpuset_mems, &change.cpuset_mems),
            hugepage_limits: self.hugepage_limits.clone(),
            unified: self.unified.clone(),
            pids_limit: number(self.pids_limit, change.pids_limit),
        };
        for (size, limit) in &change.hugepage_limits {
            merged.hugepage_limits.retain(|(other, _)| other != size);
            merged.hugepage_limits.push((size.clone(), *limit));
        }
        merged.unified.extend(change.unified.clone());
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_alone_above_the_old_limit_with_swap_leaves_as_much_swap() {
        let limits = |memory_limit, memory_swap_limit| Resources {
            memory_limit,
            memory_swap_limit,
            ..Resources::default()
        };
        for (old, change, then) in [
            ((10, 15), (20, 0), (20, 25)),
            ((10, 10), (20, 0), (20, 20)),
            ((10, 15), (12, 0), (12, 0)),
            ((10, -1), (20, 0), (20, 0)),
            ((10, 15), (20, 40), (20, 40)),
            ((10, 0), (20, 0), (20, 0)),
        ] {
            let completed = limits(old.0, old.1).completed(&limits(change.0, change.1));
            assert_eq!(completed, limits(then.0, then.1), "{old:?} {change:?}");
        }
    }

    #[test]
    fn what_is_not_set_stays() {
        let old = Resources {
            memory_limit: 10,
            cpu_shares: 5,
            cpuset_cpus: "0".into(),
            hugepage_limits: vec![("2MB".into(), 1), ("1GB".into(), 2)],
            ..Resources::default()
        };
        let change = Resources {
            memory_limit: 20,
            hugepage_limits: vec![("2MB".into(), 3)],
            ..Resources::default()
        };
        let merged = old.with(&change);
        assert_eq!((merged.memory_limit, merged.cpu_shares), (20, 5));
        assert_eq!(merged.cpuset_cpus, "0");
        assert_eq!(
            merged.hugepage_limits,
            [("1GB".to_owned(), 2), ("2MB".to_owned(), 3)]
        );
    }

    #[test]
    fn a_file_of_the_cgroup_is_reset_by_its_name() {
        let files = |high: &str, min: &str| Resources {
            unified: [("memory.high", high), ("memory.min", min)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Resources::default()
        };
        let reset = files("max", "0");
        assert_eq!(files("1000", "500").with(&reset), reset);
        let sent = oci::limits(&reset).unwrap().unified;
        assert_eq!(sent, reset.unified);
        // One that is not named stays.
        assert_eq!(reset.with(&Resources::default()), reset);
    }
}
