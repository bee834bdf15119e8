//! What containers, pods and stores use: read from cgroups, from the tables of network namespaces and from
//! the store's counters, never by walking a whole tree on the engine's own account.
//!
//! Lists of many read few files of each, once, in as many threads as there are processors. What a node
//! does not count is `None`, never zero.

mod figures;
mod file_systems;
mod gauge;
mod interfaces;
mod layers;
mod processes;
mod threads;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use runtime::cgroup::{Basics, Of};

use crate::container::{Container, ContainerFilter};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::{Pod, PodFilter, PodState};

pub(crate) use figures::LastFigures;
pub use figures::{ContainerFigures, Figures, FilesystemSize, PodFigures};
pub use file_systems::{FilesystemUsage, FsInfo};
pub(crate) use gauge::Gauges;
use gauge::{Reading, Source};
pub use interfaces::{Interface, Traffic};
pub(crate) use layers::LayerUsage;
use layers::{LAYER_AGE, Measured};
pub use processes::{Open, Processes};
use threads::in_threads;

/// The use of one container at one moment.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// The container.
    pub container: Arc<Container>,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// CPU time per second in ns over the last two readings; `None` at the first.
    pub cpu_nano_cores: Option<u64>,
    /// The runtime's cgroup figures.
    pub cgroup: Basics,
    /// Its writable layer; `None` where that cannot be measured.
    pub written: Option<Written>,
}

/// What a writable layer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// When it was measured: nanoseconds since 1970.
    pub at: i64,
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl From<Measured> for Written {
    fn from(measured: Measured) -> Self {
        Self {
            at: measured.at,
            bytes: measured.usage.bytes,
            inodes: measured.usage.inodes,
        }
    }
}

/// The use of one pod at one moment: all that runs in its cgroup, its supervisor included.
#[derive(Debug, Clone)]
pub struct PodStats {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// CPU time per second in ns over the last two readings; `None` at the first.
    pub cpu_nano_cores: Option<u64>,
    /// The figures of its cgroup.
    pub cgroup: Basics,
    /// Its network's interfaces as the kernel lists them; `None` of a pod with the node's network.
    pub interfaces: Option<Vec<Interface>>,
    /// Those of its containers that have processes.
    pub containers: Vec<ContainerStats>,
}

/// A pod and its containers.
type WithContainers = (Arc<Pod>, Vec<Arc<Container>>);

/// How old what is told may be.
#[derive(Debug, Clone, Copy)]
struct Age {
    /// Figures of cgroups, in nanoseconds.
    figures: i64,
    /// Of writable layers, in nanoseconds.
    layers: i64,
    /// The same is asked again and again.
    again: bool,
}

/// All that the kernel counts of one container, for a person who looks at it.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Of its cgroup.
    pub cgroup: runtime::cgroup::Stats,
    /// Of its pod's network; none where that is the node's.
    pub interfaces: Vec<Interface>,
}

impl Engine {
    /// All that the kernel counts of one container.
    ///
    /// # Errors
    /// An unknown container, or one that has no processes any more.
    pub fn container_usage(&self, id: &str) -> Result<Usage> {
        let container = self.running_container("read the use of", id)?;
        let cgroup = self.with_handler(&container, |handler, at| handler.stats(at))?;
        let pod = self.pod(&container.pod_id)?;
        Ok(Usage {
            cgroup,
            interfaces: interfaces::of(&pod).unwrap_or_default(),
        })
    }

    /// The processes of a container on this node.
    ///
    /// # Errors
    /// An unknown container, one that does not run, or a cgroup that cannot be read.
    pub fn container_processes(&self, id: &str) -> Result<Vec<i32>> {
        let container = self.running_container("look at the processes of", id)?;
        let failed = |source| Error::Cgroup {
            id: container.id.clone(),
            source,
        };
        let cgroup = runtime::cgroup::Cgroup::open(&container.cgroup).map_err(failed)?;
        cgroup.processes().map_err(failed)
    }

    /// The use of one container.
    ///
    /// # Errors
    /// An unknown container, one that has no processes any more, or a cgroup that cannot be read.
    pub fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let container = self.container(id)?;
        self.stats_of(Arc::new(container), self.one())
    }

    /// The use of all containers that fit and have processes; what vanishes meanwhile is skipped.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn list_container_stats(&self, filter: &ContainerFilter) -> Result<Vec<ContainerStats>> {
        let containers = self.containers(filter)?;
        let age = self.list();
        let stats = in_threads(&containers, |container| self.running(container, age));
        if filter.id.is_none() && filter.pod_id.is_none() && filter.labels.is_empty() {
            let alive: HashSet<&str> = stats.iter().map(|one| one.container.id.as_str()).collect();
            self.gauges().forget_all_but(Of::Container, &alive);
            // The layer of one that has ended stays, and is told in the sum of all.
            let there = containers.iter().map(|one| one.id.as_str()).collect();
            self.layer_usage().forget_all_but(&there);
        }
        Ok(stats)
    }

    /// The use of one pod.
    ///
    /// # Errors
    /// An unknown pod, one that is not ready, or a cgroup that cannot be read.
    pub fn pod_stats(&self, id: &str) -> Result<PodStats> {
        let pod = Arc::new(self.pod(id)?);
        if pod.state != PodState::Ready {
            return Err(Error::State {
                verb: "read the use of",
                what: "pod",
                id: pod.id.clone(),
                state: "not ready".to_owned(),
            });
        }
        let filter = ContainerFilter {
            pod_id: Some(pod.id.clone()),
            ..ContainerFilter::default()
        };
        self.stats_of_pod(pod, &self.containers(&filter)?, self.one())
    }

    /// The use of all pods that fit and are ready; what vanishes meanwhile is skipped.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn list_pod_stats(&self, filter: &PodFilter) -> Result<Vec<PodStats>> {
        let pods = self.ready_pods(filter)?;
        let age = self.list();
        let stats = in_threads(&pods, |(pod, containers)| {
            self.stats_of_pod(Arc::clone(pod), containers, age).ok()
        });
        if filter.id.is_none() && filter.labels.is_empty() {
            let containers = stats.iter().flat_map(|pod| &pod.containers);
            let containers: HashSet<&str> =
                containers.map(|one| one.container.id.as_str()).collect();
            self.gauges().forget_all_but(Of::Container, &containers);
            let pods = stats.iter().map(|one| one.pod.id.as_str()).collect();
            self.gauges().forget_all_but(Of::Pod, &pods);
        }
        Ok(stats)
    }

    /// The pods that fit and are ready, each with its containers.
    fn ready_pods(&self, filter: &PodFilter) -> Result<Vec<WithContainers>> {
        let mut filter = filter.clone();
        filter.state = Some(PodState::Ready);
        let mut members: HashMap<String, Vec<Arc<Container>>> = HashMap::new();
        for container in self.containers(&ContainerFilter::default())? {
            let of = members.entry(container.pod_id.clone()).or_default();
            of.push(container);
        }
        let pods = self.pods(&filter)?.into_iter().map(|pod| {
            let containers = members.remove(&pod.id).unwrap_or_default();
            (pod, containers)
        });
        Ok(pods.collect())
    }

    /// For an answer about one: it is read now, unless the configuration has it kept.
    fn one(&self) -> Age {
        Age {
            figures: self.config().stats.period_ns(),
            layers: 0,
            again: false,
        }
    }

    fn list(&self) -> Age {
        Age {
            layers: LAYER_AGE,
            again: true,
            ..self.one()
        }
    }

    /// The use of a container, if it has processes that can be counted.
    fn running(&self, container: &Arc<Container>, age: Age) -> Option<ContainerStats> {
        container.pid?;
        self.stats_of(Arc::clone(container), age).ok()
    }

    fn stats_of(&self, container: Arc<Container>, age: Age) -> Result<ContainerStats> {
        if container.pid.is_none() {
            let state = "without a process".to_owned();
            return Err(Error::State {
                verb: "read the use of",
                what: "container",
                id: container.id.clone(),
                state,
            });
        }
        let reading = self.reading(&container, age)?;
        let measure = || Ok(self.store().writable_layer_usage(&container.id)?);
        let written = self.layer_usage().get(&container.id, age.layers, measure);
        Ok(ContainerStats {
            container,
            timestamp: reading.timestamp,
            cpu_nano_cores: reading.cpu_nano_cores,
            cgroup: reading.basics,
            written: written.ok().map(Written::from),
        })
    }

    fn reading(&self, container: &Container, age: Age) -> Result<Reading> {
        self.with_handler(container, |handler, at| {
            let ask = || Ok(handler.stats(at)?.basics());
            let source = match handler.counted_in(at) {
                Some(cgroup) => Source::Cgroup(cgroup),
                None => Source::Asked(&ask),
            };
            self.gauges().read(
                (Of::Container, &container.id),
                age.figures,
                age.again,
                &source,
            )
        })
    }

    fn stats_of_pod(
        &self,
        pod: Arc<Pod>,
        containers: &[Arc<Container>],
        age: Age,
    ) -> Result<PodStats> {
        let source = Source::Cgroup(&pod.cgroup_parent);
        let reading = self
            .gauges()
            .read((Of::Pod, &pod.id), age.figures, age.again, &source)?;
        let containers = containers.iter();
        Ok(PodStats {
            timestamp: reading.timestamp,
            cpu_nano_cores: reading.cpu_nano_cores,
            cgroup: reading.basics,
            interfaces: interfaces::of(&pod),
            containers: containers
                .filter_map(|container| self.running(container, age))
                .collect(),
            pod,
        })
    }
}
