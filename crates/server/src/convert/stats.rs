//! What containers use: the engine's figures to CRI's. What a node cannot tell is absent, never 0.

use std::path::Path;

use engine::container::ContainerFilter;
use engine::crates::runtime::cgroup::{Basics, Pressure, PressureLine};
use engine::pod::{Origin, PodFilter};
use engine::stats::{ContainerStats, Interface, PodStats, Written};

use super::given;
use super::pod::metadata;

/// The interface that is told as the default one where there is one of that name, as CNI has it.
const DEFAULT_INTERFACE: &str = "eth0";
const LOOPBACK: &str = "lo";

/// Which containers to measure: only those of CRI's own pods.
pub(crate) fn filter(filter: Option<cri::ContainerStatsFilter>) -> ContainerFilter {
    let filter = filter.unwrap_or_default();
    ContainerFilter {
        id: given(filter.id),
        state: None,
        pod_id: given(filter.pod_sandbox_id),
        labels: filter.label_selector,
        origin: Some(Origin::Cri),
    }
}

/// Which pods to measure: only CRI's own.
pub(crate) fn pod_filter(filter: Option<cri::PodSandboxStatsFilter>) -> PodFilter {
    let filter = filter.unwrap_or_default();
    PodFilter {
        id: given(filter.id),
        state: None,
        labels: filter.label_selector,
        origin: Some(Origin::Cri),
    }
}

/// The figures of one container; `layers` is the directory of the writable layers.
pub(crate) fn stats(figures: ContainerStats, layers: &Path) -> cri::ContainerStats {
    let moment = Moment {
        timestamp: figures.timestamp,
        cpu_nano_cores: figures.cpu_nano_cores,
        cgroup: figures.cgroup,
    };
    let spec = &figures.container.spec;
    cri::ContainerStats {
        cpu: moment.cpu(),
        memory: moment.memory(),
        swap: moment.swap(),
        io: moment.io(),
        writable_layer: figures
            .written
            .map(|written| written_layer(written, layers)),
        attributes: Some(cri::ContainerAttributes {
            metadata: Some(cri::ContainerMetadata {
                name: spec.name.clone(),
                attempt: spec.attempt,
            }),
            id: figures.container.id.clone(),
            labels: spec.labels.clone(),
            annotations: spec.annotations.clone(),
        }),
    }
}

/// The figures of one pod and its containers.
pub(crate) fn pod_stats(figures: PodStats, layers: &Path) -> cri::PodSandboxStats {
    let moment = Moment {
        timestamp: figures.timestamp,
        cpu_nano_cores: figures.cpu_nano_cores,
        cgroup: figures.cgroup,
    };
    let tasks = moment.cgroup.tasks;
    let timestamp = moment.timestamp;
    let containers = figures.containers.into_iter();
    let spec = &figures.pod.spec;
    cri::PodSandboxStats {
        attributes: Some(cri::PodSandboxAttributes {
            id: figures.pod.id.clone(),
            metadata: Some(metadata(spec)),
            labels: spec.labels.clone(),
            annotations: spec.annotations.clone(),
        }),
        linux: Some(cri::LinuxPodSandboxStats {
            cpu: moment.cpu(),
            memory: moment.memory(),
            network: figures.interfaces.and_then(|all| network(timestamp, &all)),
            process: tasks.map(|count| cri::ProcessUsage {
                timestamp,
                process_count: number(count),
            }),
            io: moment.io(),
            containers: containers.map(|one| stats(one, layers)).collect(),
        }),
        windows: None,
    }
}

/// What a cgroup said at one moment.
struct Moment {
    timestamp: i64,
    cpu_nano_cores: Option<u64>,
    cgroup: Basics,
}

impl Moment {
    fn cpu(&self) -> Option<cri::CpuUsage> {
        Some(cri::CpuUsage {
            timestamp: self.timestamp,
            usage_core_nano_seconds: number(self.cgroup.cpu_usage?),
            usage_nano_cores: self.cpu_nano_cores.and_then(number),
            psi: psi(self.cgroup.pressure.and_then(|all| all.cpu)),
        })
    }

    fn memory(&self) -> Option<cri::MemoryUsage> {
        let memory = self.cgroup.memory.as_ref()?;
        Some(cri::MemoryUsage {
            timestamp: self.timestamp,
            working_set_bytes: number(memory.working_set),
            available_bytes: left(memory.limit, memory.working_set),
            usage_bytes: number(memory.usage),
            rss_bytes: number(memory.rss),
            page_faults: number(memory.page_faults),
            major_page_faults: number(memory.major_page_faults),
            psi: psi(self.cgroup.pressure.and_then(|all| all.memory)),
        })
    }

    fn swap(&self) -> Option<cri::SwapUsage> {
        let memory = self.cgroup.memory.as_ref()?;
        let used = memory.swap?;
        Some(cri::SwapUsage {
            timestamp: self.timestamp,
            swap_available_bytes: left(memory.swap_limit, used),
            swap_usage_bytes: number(used),
        })
    }

    fn io(&self) -> Option<cri::IoUsage> {
        let io = self.cgroup.pressure?.io?;
        Some(cri::IoUsage {
            timestamp: self.timestamp,
            psi: Some(psi(Some(io))?),
        })
    }
}

fn written_layer(written: Written, layers: &Path) -> cri::FilesystemUsage {
    cri::FilesystemUsage {
        timestamp: written.at,
        fs_id: Some(cri::FilesystemIdentifier {
            mountpoint: layers.display().to_string(),
        }),
        used_bytes: number(written.bytes),
        inodes_used: number(written.inodes),
    }
}

/// Every interface but the loopback one, and the default one once more, as containerd has it. Absent without
/// one: kubelet takes it for granted that there is a default.
fn network(timestamp: i64, all: &[Interface]) -> Option<cri::NetworkUsage> {
    let outer = || all.iter().filter(|one| one.name != LOOPBACK);
    let default = outer().find(|one| one.name == DEFAULT_INTERFACE);
    Some(cri::NetworkUsage {
        timestamp,
        default_interface: Some(interface(default.or_else(|| outer().next())?)),
        interfaces: outer().map(interface).collect(),
    })
}

fn interface(one: &Interface) -> cri::NetworkInterfaceUsage {
    cri::NetworkInterfaceUsage {
        name: one.name.clone(),
        rx_bytes: number(one.received.bytes),
        rx_errors: number(one.received.errors),
        tx_bytes: number(one.sent.bytes),
        tx_errors: number(one.sent.errors),
    }
}

/// Absent where the kernel or cgroup v1 does not count it, or not both: kubelet takes both for granted. The
/// kernel counts µs, CRI ns.
fn psi(pressure: Option<Pressure>) -> Option<cri::PsiStats> {
    let pressure = pressure?;
    let data = |line: PressureLine| cri::PsiData {
        total: line.total.saturating_mul(1000),
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
    };
    Some(cri::PsiStats {
        full: Some(data(pressure.full?)),
        some: Some(data(pressure.some?)),
    })
}

/// What a limit leaves; absent without one.
fn left(limit: Option<u64>, used: u64) -> Option<cri::UInt64Value> {
    number(limit?.saturating_sub(used))
}

fn number(value: u64) -> Option<cri::UInt64Value> {
    Some(cri::UInt64Value { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_needs_a_limit_and_is_never_negative() {
        assert_eq!(left(None, 5), None);
        assert_eq!(left(Some(7), 5), number(2));
        assert_eq!(left(Some(5), 7), number(0));
    }

    #[test]
    fn the_default_interface_is_eth0_or_the_first_that_leads_out() {
        let names = |all: &[&str]| {
            let named = |name: &&str| Interface {
                name: (*name).to_owned(),
                ..Interface::default()
            };
            let all: Vec<Interface> = all.iter().map(named).collect();
            let usage = network(7, &all)?;
            let names = usage.interfaces.into_iter().map(|one| one.name);
            Some((usage.default_interface?.name, names.collect::<Vec<_>>()))
        };
        let (default, all) = names(&["lo", "net1", "eth0"]).unwrap();
        assert_eq!(default, "eth0");
        assert_eq!(all, ["net1", "eth0"]);
        assert_eq!(names(&["lo", "net1"]).unwrap().0, "net1");
        assert_eq!(names(&["lo"]), None);
    }

    #[test]
    fn pressure_is_told_with_both_lines_or_not_at_all() {
        let line = PressureLine {
            total: 2,
            avg10: 0.5,
            ..PressureLine::default()
        };
        let both = Pressure {
            some: Some(line),
            full: Some(line),
        };
        let told = psi(Some(both)).unwrap().some.unwrap();
        assert_eq!((told.total, told.avg10), (2000, 0.5));
        let one = Pressure { full: None, ..both };
        assert_eq!(psi(Some(one)), None);
    }

    #[test]
    fn a_filter_asks_for_containers_of_cris_own_pods_only() {
        let asked = cri::ContainerStatsFilter {
            pod_sandbox_id: "p".into(),
            ..Default::default()
        };
        let filter = filter(Some(asked));
        assert_eq!(
            (filter.id, filter.state, filter.origin),
            (None, None, Some(Origin::Cri))
        );
        assert_eq!(filter.pod_id.as_deref(), Some("p"));
    }
}
