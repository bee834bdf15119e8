//! What containers and stores use: read from cgroups and from the store's counters, never by
//! walking a whole tree on the engine's own account.
//!
//! Lists of many containers read few files of each, in as many threads as there are processors, and
//! measure a writable layer once in [`LAYER_AGE`]: that is a walk over a tree that the container can make
//! as large as it likes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::container::{Container, ContainerFilter};
use crate::disk::now_ns;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// The use of one container at one moment.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// The container.
    pub container: Arc<Container>,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// CPU time in ns since start.
    pub cpu_usage_ns: u64,
    /// CPU time per second in ns over the last two readings; `None` at the first.
    pub cpu_nano_cores: Option<u64>,
    /// The runtime's cgroup figures.
    pub cgroup: runtime::cgroup::Basics,
    /// When the writable layer was measured: nanoseconds since 1970.
    pub written_at: i64,
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

    fn forget_all_but(&self, alive: &HashSet<&str>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|id, _| alive.contains(id.as_str()));
    }
}

/// How old the figure of a writable layer may be in a list: kubelet's own interval.
const LAYER_AGE: i64 = 10_000_000_000;
/// With more containers a list is read by several threads.
const MANY: usize = 32;
/// And by at most so many.
const THREADS: usize = 4;

/// When a writable layer was measured, in nanoseconds since 1970, and what it takes.
type Measured = (i64, store::Usage);

/// The figures of writable layers, by container.
#[derive(Debug, Default)]
pub(crate) struct LayerUsage {
    last: Mutex<HashMap<String, Measured>>,
}

impl LayerUsage {
    /// The last figure that is younger than `age`, or else one that is measured now.
    fn get(
        &self,
        id: &str,
        age: i64,
        measure: impl FnOnce() -> Result<store::Usage>,
    ) -> Result<Measured> {
        let now = now_ns();
        let known = self.lock().get(id).copied();
        if let Some(known) = known
            && (0..age).contains(&(now - known.0))
        {
            return Ok(known);
        }
        let measured = (now, measure()?);
        self.lock().insert(id.to_owned(), measured);
        Ok(measured)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Measured>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` with each of `items` in as many threads as pay; what has no result is left out. The order
/// is kept.
fn in_threads<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Option<R> + Sync) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = match items.len() > MANY {
        true => processors.min(THREADS),
        false => 1,
    };
    if threads == 1 {
        return items.iter().filter_map(work).collect();
    }
    let part = items.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let work = &work;
        let begun: Vec<_> = items
            .chunks(part)
            .map(|items| {
                let all = move || items.iter().filter_map(work).collect::<Vec<R>>();
                (items, std::thread::Builder::new().spawn_scoped(scope, all))
            })
            .collect();
        let mut results = Vec::with_capacity(items.len());
        for (items, begun) in begun {
            match begun.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(part)) => results.extend(part),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                // No thread to be had: this one does it.
                Err(_) => results.extend(items.iter().filter_map(work)),
            }
        }
        results
    })
}

impl Engine {
    /// The use of one container.
    ///
    /// # Errors
    /// An unknown container, one that has no processes any more, or a cgroup that cannot be read.
    pub fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let container = self.container(id)?;
        self.stats_of(Arc::new(container), 0)
    }

    /// The use of all containers that fit and have processes; what vanishes meanwhile is skipped.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn list_container_stats(&self, filter: &ContainerFilter) -> Result<Vec<ContainerStats>> {
        let containers = self.containers(filter)?;
        let running = |container: &Arc<Container>| {
            let some = container.pid.is_some().then(|| Arc::clone(container));
            some.and_then(|container| self.stats_of(container, LAYER_AGE).ok())
        };
        let stats = in_threads(&containers, running);
        if filter.id.is_none() && filter.pod_id.is_none() && filter.labels.is_empty() {
            let alive: HashSet<&str> = stats.iter().map(|one| one.container.id.as_str()).collect();
            self.cpu_history().forget_all_but(&alive);
            self.layer_usage()
                .lock()
                .retain(|id, _| alive.contains(id.as_str()));
        }
        Ok(stats)
    }

    /// `age`: how old the figure of its layer may be, in nanoseconds.
    fn stats_of(&self, container: Arc<Container>, age: i64) -> Result<ContainerStats> {
        if container.pid.is_none() {
            let state = "without a process".to_owned();
            return Err(Error::State {
                verb: "read the use of",
                what: "container",
                id: container.id.clone(),
                state,
            });
        }
        let cgroup = self.with_handler(&container, |handler, at| handler.basics(at))?;
        let timestamp = now_ns();
        let cpu_usage_ns = cgroup.cpu_usage.unwrap_or(0);
        let measure = || Ok(self.store().writable_layer_usage(&container.id)?);
        let (written_at, written) = self.layer_usage().get(&container.id, age, measure)?;
        Ok(ContainerStats {
            cpu_nano_cores: self
                .cpu_history()
                .rate(&container.id, timestamp, cpu_usage_ns),
            container,
            timestamp,
            cpu_usage_ns,
            cgroup,
            written_at,
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
        for id in self.store().writable_layer_ids()? {
            if let Ok(one) = self.store().writable_layer_usage(&id) {
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
    fn a_layer_is_measured_again_when_its_figure_is_old() {
        let usage = LayerUsage::default();
        let figure = |bytes| move || Ok(store::Usage { bytes, inodes: 1 });
        let first = usage.get("a", 0, figure(1)).unwrap();
        assert_eq!(usage.get("a", i64::MAX, figure(2)).unwrap(), first);
        assert_eq!(usage.get("b", i64::MAX, figure(3)).unwrap().1.bytes, 3);
        assert_eq!(usage.get("a", 0, figure(4)).unwrap().1.bytes, 4);
    }

    #[test]
    fn threads_keep_the_order_and_leave_out_what_is_nothing() {
        let items: Vec<u32> = (0..1000).collect();
        let odd = |number: &u32| (number % 2 == 1).then_some(*number);
        let expected: Vec<u32> = items.iter().filter_map(odd).collect();
        assert_eq!(in_threads(&items, odd), expected);
        assert_eq!(in_threads(&items[..3], odd), [1]);
        assert!(in_threads(&items[..0], odd).is_empty());
    }

    #[test]
    fn a_rate_needs_two_readings_and_survives_a_clock_that_stands_still() {
        let history = CpuHistory::default();
        assert_eq!(history.rate("a", 1_000_000_000, 100), None);
        assert_eq!(history.rate("a", 3_000_000_000, 1_000_100), Some(500_000));
        assert_eq!(history.rate("a", 3_000_000_000, 2_000_000), None);
        assert_eq!(history.rate("b", 4_000_000_000, 2_000_000), None);
    }
}
