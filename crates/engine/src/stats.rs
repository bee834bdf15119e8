//! What containers and stores use: read from cgroups and from the store's counters, never by
//! walking a whole tree on the engine's own account.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::container::{Container, ContainerFilter};
use crate::disk::now_ns;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// The use of one container at one moment.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// The container.
    pub container: Container,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// CPU time in ns since start.
    pub cpu_usage_ns: u64,
    /// CPU time per second in ns over the last two readings; `None` at the first.
    pub cpu_nano_cores: Option<u64>,
    /// The runtime's cgroup figures.
    pub cgroup: runtime::cgroup::Stats,
    /// Bytes in the writable layer.
    pub writable_bytes: u64,
    /// Inodes in the writable layer.
    pub writable_inodes: u64,
}

/// The use of one file system by images or containers.
#[derive(Debug, Clone)]
pub struct FilesystemUsage {
    /// Directory of the store on that file system.
    pub mountpoint: std::path::PathBuf,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// Bytes.
    pub used_bytes: u64,
    /// Inodes.
    pub inodes_used: u64,
}

/// Images and containers apart (CRI ImageFsInfo).
#[derive(Debug, Clone)]
pub struct FsInfo {
    /// Blobs and layers.
    pub images: FilesystemUsage,
    /// Writable layers.
    pub containers: FilesystemUsage,
}

/// CPU readings of containers, to tell a rate from two of them. Lost with the process, which
/// costs one reading.
#[derive(Debug, Default)]
pub(crate) struct CpuHistory {
    last: Mutex<HashMap<String, (i64, u64)>>,
}

impl CpuHistory {
    /// Notes a reading; returns ns of CPU per second since the one before.
    fn rate(&self, id: &str, timestamp: i64, usage: u64) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, before) = last.insert(id.to_owned(), (timestamp, usage))?;
        let elapsed = u128::try_from(timestamp - then)
            .ok()
            .filter(|elapsed| *elapsed > 0)?;
        u64::try_from(u128::from(usage.saturating_sub(before)) * 1_000_000_000 / elapsed).ok()
    }

    fn forget_all_but(&self, alive: &[ContainerStats]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|id, _| alive.iter().any(|stats| stats.container.id == *id));
    }
}

impl Engine {
    /// The use of one container.
    ///
    /// # Errors
    /// An unknown container, one that has no processes any more, or a cgroup that cannot be read.
    pub fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let container = self.container(id)?;
        self.stats_of(container)
    }

    /// The use of all containers that fit and have processes; what vanishes meanwhile is skipped.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn list_container_stats(&self, filter: &ContainerFilter) -> Result<Vec<ContainerStats>> {
        let containers = self.containers(filter)?;
        let stats: Vec<ContainerStats> = containers
            .into_iter()
            .filter(|container| container.pid.is_some())
            .filter_map(|container| self.stats_of(container).ok())
            .collect();
        if filter.id.is_none() && filter.pod_id.is_none() && filter.labels.is_empty() {
            self.cpu_history().forget_all_but(&stats);
        }
        Ok(stats)
    }

    fn stats_of(&self, container: Container) -> Result<ContainerStats> {
        if container.pid.is_none() {
            let state = "without a process".to_owned();
            return Err(Error::State {
                verb: "read the use of",
                what: "container",
                id: container.id,
                state,
            });
        }
        let cgroup = self.with_handler(&container, |handler, at| handler.stats(at))?;
        let timestamp = now_ns();
        let cpu_usage_ns = cgroup.cpu.as_ref().map_or(0, |cpu| cpu.usage);
        let written = self.store().rw_usage(&container.id)?;
        Ok(ContainerStats {
            cpu_nano_cores: self
                .cpu_history()
                .rate(&container.id, timestamp, cpu_usage_ns),
            container,
            timestamp,
            cpu_usage_ns,
            cgroup,
            writable_bytes: written.bytes,
            writable_inodes: written.inodes,
        })
    }

    /// What images and writable layers take.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn fs_info(&self) -> Result<FsInfo> {
        let root = &self.config().root_table.root;
        let timestamp = now_ns();
        let usage = |used: store::Usage, mountpoint: std::path::PathBuf| FilesystemUsage {
            mountpoint,
            timestamp,
            used_bytes: used.bytes,
            inodes_used: used.inodes,
        };
        let mut written = store::Usage::default();
        for id in self.store().rw_ids()? {
            if let Ok(one) = self.store().rw_usage(&id) {
                written.bytes += one.bytes;
                written.inodes += one.inodes;
            }
        }
        Ok(FsInfo {
            images: usage(self.store().usage()?, root.clone()),
            containers: usage(written, root.join("containers")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_readings_and_survives_a_clock_that_stands_still() {
        let history = CpuHistory::default();
        assert_eq!(history.rate("a", 1_000_000_000, 100), None);
        assert_eq!(history.rate("a", 3_000_000_000, 1_000_100), Some(500_000));
        assert_eq!(history.rate("a", 3_000_000_000, 2_000_000), None);
        assert_eq!(history.rate("b", 4_000_000_000, 2_000_000), None);
    }
}
