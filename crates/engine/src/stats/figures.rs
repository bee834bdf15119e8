//! All that is told of the use of every pod (CRI ListPodSandboxMetrics): more than [`super::ContainerStats`]
//! has, and read from many more files, as nobody asks for it as often.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use runtime::cgroup::Stats;

use super::Written;
use super::interfaces::{self, Interface};
use super::layers::LAYER_AGE;
use super::processes::Processes;
use super::threads::in_threads;
use crate::config::MetricGroup;
use crate::container::Container;
use crate::disk::now_ns;
use crate::engine::Engine;
use crate::error::Result;
use crate::pod::{Origin, Pod, PodFilter};

/// Of all pods of CRI's clients that are ready.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// When they were read: nanoseconds since 1970.
    pub at: i64,
    /// The pods.
    pub pods: Vec<Arc<PodFigures>>,
    /// The file system of the writable layers.
    pub filesystem: Option<FilesystemSize>,
    /// Names of the block devices that are spoken of, such as `/dev/sda`, by major and minor number.
    pub devices: BTreeMap<(u32, u32), String>,
}

/// Of one pod.
#[derive(Debug)]
pub struct PodFigures {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its network's interfaces; `None` of a pod with the node's network.
    pub interfaces: Option<Vec<Interface>>,
    /// Those of its containers that have processes.
    pub containers: Vec<ContainerFigures>,
}

/// Of one container.
#[derive(Debug)]
pub struct ContainerFigures {
    /// The container.
    pub container: Arc<Container>,
    /// The runtime's figures; `None` where no group of metrics needs them.
    pub cgroup: Option<Stats>,
    /// Its writable layer.
    pub written: Option<Written>,
    /// Its processes; `None` where they are not on this node.
    pub processes: Option<Processes>,
}

/// A file system as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemSize {
    /// Its device's name, or numbers.
    pub device: String,
    /// Bytes.
    pub bytes: u64,
    /// Inodes; `None` of one that makes them as it needs them.
    pub inodes: Option<u64>,
    /// Inodes that are not in use; likewise.
    pub inodes_free: Option<u64>,
}

/// The last figures, for as long as the configuration has them told again.
#[derive(Debug, Default)]
pub(crate) struct LastFigures(Mutex<Option<Arc<Figures>>>);

/// Of which cgroup figures are needed.
const OF_CGROUPS: [MetricGroup; 7] = [
    MetricGroup::Cpu,
    MetricGroup::DiskIo,
    MetricGroup::Hugetlb,
    MetricGroup::Memory,
    MetricGroup::Oom,
    MetricGroup::Process,
    MetricGroup::Pressure,
];

impl Engine {
    /// What the metrics of these groups need of every ready pod. What vanishes meanwhile is skipped.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn figures(&self, groups: &BTreeSet<MetricGroup>) -> Result<Arc<Figures>> {
        let period = self.config().stats.period_ns();
        if period == 0 {
            return Ok(Arc::new(self.read_figures(groups)?));
        }
        // Held while they are read: who asks meanwhile is told the same.
        let mut last = self
            .last_figures()
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref()
            && (0..period).contains(&(now_ns() - last.at))
        {
            return self.still_there(last);
        }
        let now = Arc::new(self.read_figures(groups)?);
        *last = Some(Arc::clone(&now));
        Ok(now)
    }

    /// Without pods that have gone since.
    fn still_there(&self, last: &Figures) -> Result<Arc<Figures>> {
        let pods = self.pods(&PodFilter::default())?;
        let there: HashSet<&str> = pods.iter().map(|pod| pod.id.as_str()).collect();
        let mut last = last.clone();
        last.pods.retain(|pod| there.contains(pod.pod.id.as_str()));
        Ok(Arc::new(last))
    }

    fn read_figures(&self, groups: &BTreeSet<MetricGroup>) -> Result<Figures> {
        let filter = PodFilter {
            origin: Some(Origin::Cri),
            ..PodFilter::default()
        };
        let pods = self.ready_pods(&filter)?;
        let network = groups.contains(&MetricGroup::Network);
        let pods = in_threads(&pods, |(pod, containers)| {
            let running = containers.iter().filter(|one| one.pid.is_some());
            Some(Arc::new(PodFigures {
                pod: Arc::clone(pod),
                interfaces: network.then(|| interfaces::of(pod)).flatten(),
                containers: running
                    .filter_map(|container| self.figures_of(container, groups).ok())
                    .collect(),
            }))
        });
        let layers = self.config().root_table.root.join("containers");
        let mut devices = BTreeMap::new();
        for container in pods.iter().flat_map(|pod| &pod.containers) {
            for &device in container.cgroup.iter().flat_map(|cgroup| cgroup.io.keys()) {
                devices.entry(device).or_insert_with(|| device_name(device));
            }
        }
        Ok(Figures {
            at: now_ns(),
            pods,
            filesystem: groups
                .contains(&MetricGroup::Disk)
                .then(|| filesystem(&layers))
                .flatten(),
            devices,
        })
    }

    fn figures_of(
        &self,
        container: &Arc<Container>,
        groups: &BTreeSet<MetricGroup>,
    ) -> Result<ContainerFigures> {
        let of_cgroups = OF_CGROUPS.iter().any(|group| groups.contains(group));
        let (cgroup, here) = self.with_handler(container, |handler, at| {
            let stats = of_cgroups.then(|| handler.stats(at)).transpose()?;
            Ok((stats, handler.counted_in(at).is_some()))
        })?;
        let measure = || Ok(self.store().writable_layer_usage(&container.id)?);
        let measured = match groups.contains(&MetricGroup::Disk) {
            true => self
                .layer_usage()
                .get(&container.id, LAYER_AGE, measure)
                .ok(),
            false => None,
        };
        let processes = match here && groups.contains(&MetricGroup::Process) {
            true => Processes::of(container),
            false => None,
        };
        Ok(ContainerFigures {
            container: Arc::clone(container),
            cgroup,
            written: measured.map(Written::from),
            processes,
        })
    }
}

/// The name of a block device, as the kernel gives it; its numbers of what is none.
fn device_name((major, minor): (u32, u32)) -> String {
    let numbers = format!("{major}:{minor}");
    let device = std::fs::read_link(format!("/sys/dev/block/{numbers}"));
    let name = device.as_deref().ok().and_then(Path::file_name);
    match name.and_then(std::ffi::OsStr::to_str) {
        Some(name) => format!("/dev/{name}"),
        None => numbers,
    }
}

fn filesystem(dir: &Path) -> Option<FilesystemSize> {
    let of = rustix::fs::stat(dir).ok()?.st_dev;
    let size = rustix::fs::statvfs(dir).ok()?;
    let inodes = (size.f_files > 0).then_some(size.f_files);
    Some(FilesystemSize {
        device: device_name((rustix::fs::major(of), rustix::fs::minor(of))),
        bytes: size.f_blocks.saturating_mul(size.f_frsize),
        inodes,
        inodes_free: inodes.map(|_| size.f_ffree),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_called_by_its_name_and_what_is_none_by_its_numbers() {
        assert_eq!(device_name((0, 4_000_000)), "0:4000000");
        let Some(device) = std::fs::read_dir("/sys/dev/block")
            .ok()
            .and_then(|mut all| all.next())
        else {
            eprintln!("SKIP: this host has no block devices");
            return;
        };
        let device = device.unwrap();
        let name = device.file_name().into_string().unwrap();
        let (major, minor) = name.split_once(':').unwrap();
        let found = device_name((major.parse().unwrap(), minor.parse().unwrap()));
        let link = std::fs::read_link(device.path()).unwrap();
        assert_eq!(Path::new(&found).file_name(), link.file_name());
        assert!(found.starts_with("/dev/"), "{found}");
    }

    #[test]
    fn a_file_system_has_room() {
        let size = filesystem(Path::new("/")).unwrap();
        assert!(size.bytes > 0 && !size.device.is_empty());
        assert!(size.inodes_free <= size.inodes);
        assert_eq!(filesystem(Path::new("/proc/none")), None);
    }
}
