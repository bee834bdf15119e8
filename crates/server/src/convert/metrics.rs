//! Metrics of pods and containers: the engine's figures to CRI's samples, each of a metric of `table.rs`.
//! What a node cannot tell has no sample.

mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use engine::config::MetricGroup;
use engine::container::Resources;
use engine::crates::runtime::cgroup::{CpuStats, IoStats, MemoryStats, Pressure, Stats};
use engine::stats::{
    ContainerFigures, Figures, FilesystemSize, Interface, PodFigures, Processes, Written,
};
use engine::{Container, ContainerState, Pod};

use table::{ALL, Descriptor, LABELS};

/// The label `container` of what is a pod's as a whole, as CRI-O and cAdvisor have it.
const OF_POD: &str = "POD";
const NANOS: u64 = 1_000_000_000;
const MICROS: u64 = 1_000_000;

/// The metrics that are told with these groups.
pub(crate) fn descriptors(groups: &BTreeSet<MetricGroup>) -> Vec<cri::MetricDescriptor> {
    let told = ALL.iter().filter(|one| is_told(one, groups));
    let described = told.map(|one| cri::MetricDescriptor {
        name: one.name.to_owned(),
        help: one.help.to_owned(),
        label_keys: LABELS
            .iter()
            .chain(one.more)
            .map(|key| (*key).to_owned())
            .collect(),
    });
    described.collect()
}

fn is_told(descriptor: &Descriptor, groups: &BTreeSet<MetricGroup>) -> bool {
    descriptor.group.is_none_or(|group| groups.contains(&group))
}

/// The samples of one pod and its containers. `cached`: they may be of an earlier moment, which is told.
pub(crate) fn pod(
    pod: &PodFigures,
    all: &Figures,
    groups: &BTreeSet<MetricGroup>,
    cached: bool,
) -> cri::PodSandboxMetrics {
    let begin = |labels| Samples {
        labels,
        timestamp: if cached { all.at } else { 0 },
        groups,
        metrics: Vec::new(),
    };
    let mut of_pod = begin(labels(&pod.pod, &pod.pod.id, "", OF_POD));
    for interface in pod.interfaces.iter().flatten() {
        network(&mut of_pod, interface);
    }
    let of_container = |one: &ContainerFigures| {
        let spec = &one.container.spec;
        let image = spec.named_image();
        let mut samples = begin(labels(&pod.pod, &one.container.id, image, &spec.name));
        container(&mut samples, one, all);
        cri::ContainerMetrics {
            container_id: one.container.id.clone(),
            metrics: samples.metrics,
        }
    };
    cri::PodSandboxMetrics {
        pod_sandbox_id: pod.pod.id.clone(),
        metrics: of_pod.metrics,
        container_metrics: pod.containers.iter().map(of_container).collect(),
    }
}

fn labels(pod: &Pod, id: &str, image: &str, container: &str) -> [String; LABELS.len()] {
    let spec = &pod.spec;
    [id, image, &spec.namespace, &spec.name, container].map(str::to_owned)
}

/// Samples of one subject.
struct Samples<'a> {
    labels: [String; LABELS.len()],
    timestamp: i64,
    groups: &'a BTreeSet<MetricGroup>,
    metrics: Vec<cri::Metric>,
}

impl Samples<'_> {
    fn add(&mut self, of: &Descriptor, value: u64) {
        self.labelled(of, [], value);
    }

    fn known(&mut self, of: &Descriptor, value: Option<u64>) {
        if let Some(value) = value {
            self.add(of, value);
        }
    }

    fn labelled<const N: usize>(&mut self, of: &Descriptor, more: [&str; N], value: u64) {
        if !is_told(of, self.groups) {
            return;
        }
        let more = more.into_iter().map(str::to_owned);
        self.metrics.push(cri::Metric {
            name: of.name.to_owned(),
            timestamp: self.timestamp,
            metric_type: of.kind.into(),
            label_values: self.labels.iter().cloned().chain(more).collect(),
            value: Some(cri::UInt64Value { value }),
        });
    }
}

fn container(samples: &mut Samples<'_>, one: &ContainerFigures, all: &Figures) {
    samples.add(table::LAST_SEEN, seconds(all.at));
    if let Some(stats) = &one.cgroup {
        cgroup(samples, stats, &all.devices);
    }
    disk(samples, one.written, all.filesystem.as_ref());
    if let Some(processes) = &one.processes {
        process(samples, processes);
    }
    spec(samples, &one.container);
}

fn cgroup(samples: &mut Samples<'_>, stats: &Stats, devices: &BTreeMap<(u32, u32), String>) {
    if let Some(stats) = &stats.cpu {
        cpu(samples, stats);
    }
    if let Some(stats) = &stats.memory {
        memory(samples, stats);
    }
    for (size, huge) in &stats.hugetlb {
        samples.labelled(table::HUGETLB_USAGE, [size], huge.usage);
        if let Some(peak) = huge.peak {
            samples.labelled(table::HUGETLB_MAX_USAGE, [size], peak);
        }
    }
    for (id, io) in &stats.io {
        if let Some(name) = devices.get(id) {
            device(samples, *id, name, io);
        }
    }
    if let Some(pids) = &stats.pids {
        samples.add(table::THREADS, pids.current);
        samples.add(table::THREADS_MAX, pids.limit.unwrap_or(0));
    }
    let pressures = stats.pressure.unwrap_or_default();
    let [cpu, memory, io] = [pressures.cpu, pressures.memory, pressures.io];
    pressure(
        samples,
        [table::PRESSURE_CPU_STALLED, table::PRESSURE_CPU_WAITING],
        cpu,
    );
    pressure(
        samples,
        [
            table::PRESSURE_MEMORY_STALLED,
            table::PRESSURE_MEMORY_WAITING,
        ],
        memory,
    );
    pressure(
        samples,
        [table::PRESSURE_IO_STALLED, table::PRESSURE_IO_WAITING],
        io,
    );
}

fn cpu(samples: &mut Samples<'_>, stats: &CpuStats) {
    samples.add(table::CPU_USER, stats.user / NANOS);
    samples.add(table::CPU_SYSTEM, stats.system / NANOS);
    samples.labelled(table::CPU_USAGE, ["total"], stats.usage / NANOS);
    samples.add(table::CPU_PERIODS, stats.periods);
    samples.add(table::CPU_THROTTLED_PERIODS, stats.throttled_periods);
    samples.add(table::CPU_THROTTLED, stats.throttled / NANOS);
}

fn memory(samples: &mut Samples<'_>, stats: &MemoryStats) {
    samples.add(table::MEMORY_USAGE, stats.usage);
    samples.known(table::MEMORY_MAX_USAGE, stats.peak);
    samples.add(table::MEMORY_WORKING_SET, stats.working_set);
    samples.add(table::MEMORY_CACHE, stats.cache);
    samples.add(table::MEMORY_RSS, stats.rss);
    samples.known(table::MEMORY_KERNEL, stats.kernel);
    samples.add(table::MEMORY_MAPPED_FILE, stats.mapped_file);
    samples.known(table::MEMORY_SWAP, stats.swap);
    samples.add(table::MEMORY_FAILCNT, stats.limit_hits);
    samples.add(table::MEMORY_ACTIVE_FILE, stats.active_file);
    samples.add(table::MEMORY_INACTIVE_FILE, stats.inactive_file);
    for (kind, own, with_below) in [
        ("pgfault", stats.own_page_faults, stats.page_faults),
        (
            "pgmajfault",
            stats.own_major_page_faults,
            stats.major_page_faults,
        ),
    ] {
        // cgroup v2 counts all below a cgroup as its own.
        let own = own.unwrap_or(with_below);
        samples.labelled(table::MEMORY_FAILURES, [kind, "container"], own);
        samples.labelled(table::MEMORY_FAILURES, [kind, "hierarchy"], with_below);
    }
    samples.add(table::OOM_EVENTS, stats.oom_kills);
}

fn device(samples: &mut Samples<'_>, (major, minor): (u32, u32), name: &str, io: &IoStats) {
    samples.labelled(table::FS_READS_BYTES, [name], io.read_bytes);
    samples.labelled(table::FS_READS, [name], io.reads);
    samples.labelled(table::FS_WRITES_BYTES, [name], io.write_bytes);
    samples.labelled(table::FS_WRITES, [name], io.writes);
    let (major, minor) = (major.to_string(), minor.to_string());
    for (operation, bytes) in [("Read", io.read_bytes), ("Write", io.write_bytes)] {
        let more = [name, &major, &minor, operation];
        samples.labelled(table::BLKIO, more, bytes);
    }
}

fn disk(samples: &mut Samples<'_>, written: Option<Written>, on: Option<&FilesystemSize>) {
    let Some(on) = on else {
        return;
    };
    let device = [on.device.as_str()];
    samples.labelled(table::FS_LIMIT, device, on.bytes);
    if let Some(written) = written {
        samples.labelled(table::FS_USAGE, device, written.bytes);
    }
    if let (Some(inodes), Some(free)) = (on.inodes, on.inodes_free) {
        samples.labelled(table::FS_INODES_TOTAL, device, inodes);
        samples.labelled(table::FS_INODES_FREE, device, free);
    }
}

fn process(samples: &mut Samples<'_>, processes: &Processes) {
    samples.add(table::PROCESSES, processes.count);
    if let Some(open) = &processes.open {
        samples.add(table::FILE_DESCRIPTORS, open.descriptors);
        samples.add(table::SOCKETS, open.sockets);
    }
    if let Some(limit) = processes.open_limit {
        samples.labelled(table::ULIMITS_SOFT, ["max_open_files"], limit);
    }
}

fn spec(samples: &mut Samples<'_>, container: &Container) {
    if let ContainerState::Running { started_at } = container.state {
        samples.add(table::START_TIME, seconds(started_at));
    }
    let limits: &Resources = &container.spec.resources;
    let set = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    samples.known(table::SPEC_CPU_PERIOD, set(limits.cpu_period));
    samples.known(table::SPEC_CPU_QUOTA, set(limits.cpu_quota));
    samples.known(table::SPEC_CPU_SHARES, set(limits.cpu_shares));
    samples.add(
        table::SPEC_MEMORY_LIMIT,
        set(limits.memory_limit).unwrap_or(0),
    );
    samples.add(
        table::SPEC_MEMORY_SWAP,
        set(limits.memory_swap_limit).unwrap_or(0),
    );
    let reserved = limits
        .unified
        .get("memory.min")
        .map_or(Some(0), |text| text.parse().ok());
    samples.known(table::SPEC_MEMORY_RESERVATION, reserved);
}

fn pressure(samples: &mut Samples<'_>, of: [&Descriptor; 2], found: Option<Pressure>) {
    let [stalled, waiting] = of;
    let found = found.unwrap_or_default();
    samples.known(stalled, found.full.map(|line| line.total / MICROS));
    samples.known(waiting, found.some.map(|line| line.total / MICROS));
}

fn network(samples: &mut Samples<'_>, one: &Interface) {
    let name = [one.name.as_str()];
    for (descriptor, value) in [
        (table::RECEIVE_BYTES, one.received.bytes),
        (table::RECEIVE_PACKETS, one.received.packets),
        (table::RECEIVE_DROPPED, one.received.dropped),
        (table::RECEIVE_ERRORS, one.received.errors),
        (table::TRANSMIT_BYTES, one.sent.bytes),
        (table::TRANSMIT_PACKETS, one.sent.packets),
        (table::TRANSMIT_DROPPED, one.sent.dropped),
        (table::TRANSMIT_ERRORS, one.sent.errors),
    ] {
        samples.labelled(descriptor, name, value);
    }
}

fn seconds(nanoseconds: i64) -> u64 {
    u64::try_from(nanoseconds).unwrap_or(0) / NANOS
}
