//! The metrics of pods and containers: every name, its type and its labels, as cAdvisor has them; the
//! words are floe's own. Seconds are whole ones: CRI's values are integers.

use cri::MetricType;
use engine::config::MetricGroup;

/// The labels of every metric, in CRI-O's order.
pub(super) const LABELS: [&str; 5] = ["id", "image", "namespace", "pod", "container"];

/// A metric.
#[derive(Debug)]
pub(super) struct Descriptor {
    /// As Prometheus knows it.
    pub(super) name: &'static str,
    /// What it is, in words.
    pub(super) help: &'static str,
    /// Does it only grow?
    pub(super) kind: MetricType,
    /// Labels after [`LABELS`].
    pub(super) more: &'static [&'static str],
    /// The group that it is told with; `None`: always.
    pub(super) group: Option<MetricGroup>,
}

/// `CONSTANT: group, type, name, labels, words;`, and `ALL` of them.
macro_rules! metrics {
    ($($constant:ident: $group:expr, $kind:ident, $name:literal, $more:expr, $help:literal;)*) => {
        $(pub(super) const $constant: &Descriptor = &Descriptor {
            name: $name,
            help: $help,
            kind: MetricType::$kind,
            more: &$more,
            group: $group,
        };)*
        /// Every metric.
        pub(super) const ALL: &[&Descriptor] = &[$($constant),*];
    };
}

const CPU: Option<MetricGroup> = Some(MetricGroup::Cpu);
const DISK: Option<MetricGroup> = Some(MetricGroup::Disk);
const DISK_IO: Option<MetricGroup> = Some(MetricGroup::DiskIo);
const HUGETLB: Option<MetricGroup> = Some(MetricGroup::Hugetlb);
const MEMORY: Option<MetricGroup> = Some(MetricGroup::Memory);
const NETWORK: Option<MetricGroup> = Some(MetricGroup::Network);
const OOM: Option<MetricGroup> = Some(MetricGroup::Oom);
const PROCESS: Option<MetricGroup> = Some(MetricGroup::Process);
const SPEC: Option<MetricGroup> = Some(MetricGroup::Spec);
const PRESSURE: Option<MetricGroup> = Some(MetricGroup::Pressure);

metrics! {
    LAST_SEEN: None, Gauge, "container_last_seen", [], "When the container was seen last, in seconds since 1970.";

    CPU_USER: CPU, Counter, "container_cpu_user_seconds_total", [], "CPU time in user mode, in seconds.";
    CPU_SYSTEM: CPU, Counter, "container_cpu_system_seconds_total", [], "CPU time in the kernel, in seconds.";
    CPU_USAGE: CPU, Counter, "container_cpu_usage_seconds_total", ["cpu"], "CPU time in all, in seconds.";
    CPU_PERIODS: CPU, Counter, "container_cpu_cfs_periods_total", [], "Periods with a CPU quota in force.";
    CPU_THROTTLED_PERIODS: CPU, Counter, "container_cpu_cfs_throttled_periods_total", [], "Periods in which the CPU quota ran out.";
    CPU_THROTTLED: CPU, Counter, "container_cpu_cfs_throttled_seconds_total", [], "Time spent waiting for CPU quota, in seconds.";

    MEMORY_USAGE: MEMORY, Gauge, "container_memory_usage_bytes", [], "Memory in use, caches included, in bytes.";
    MEMORY_MAX_USAGE: MEMORY, Gauge, "container_memory_max_usage_bytes", [], "Most memory ever in use, in bytes.";
    MEMORY_WORKING_SET: MEMORY, Gauge, "container_memory_working_set_bytes", [], "Memory in use without the page cache that is easy to drop, in bytes.";
    MEMORY_CACHE: MEMORY, Gauge, "container_memory_cache", [], "Page cache, in bytes.";
    MEMORY_RSS: MEMORY, Gauge, "container_memory_rss", [], "Anonymous memory, in bytes.";
    MEMORY_KERNEL: MEMORY, Gauge, "container_memory_kernel_usage", [], "Memory of the kernel for the container, in bytes.";
    MEMORY_MAPPED_FILE: MEMORY, Gauge, "container_memory_mapped_file", [], "Mapped files, in bytes.";
    MEMORY_SWAP: MEMORY, Gauge, "container_memory_swap", [], "Swap in use, in bytes.";
    MEMORY_FAILCNT: MEMORY, Counter, "container_memory_failcnt", [], "Times the limit of memory was hit.";
    MEMORY_ACTIVE_FILE: MEMORY, Gauge, "container_memory_total_active_file_bytes", [], "Page cache that is in use, in bytes.";
    MEMORY_INACTIVE_FILE: MEMORY, Gauge, "container_memory_total_inactive_file_bytes", [], "Page cache that is easy to drop, in bytes.";
    MEMORY_FAILURES: MEMORY, Counter, "container_memory_failures_total", ["failure_type", "scope"], "Page faults, and those that had to read.";

    OOM_EVENTS: OOM, Counter, "container_oom_events_total", [], "Processes killed for want of memory.";

    HUGETLB_USAGE: HUGETLB, Gauge, "container_hugetlb_usage_bytes", ["pagesize"], "Huge pages in use, in bytes.";
    HUGETLB_MAX_USAGE: HUGETLB, Gauge, "container_hugetlb_max_usage_bytes", ["pagesize"], "Most huge pages ever in use, in bytes.";

    FS_INODES_FREE: DISK, Gauge, "container_fs_inodes_free", ["device"], "Free inodes of the writable layer's file system.";
    FS_INODES_TOTAL: DISK, Gauge, "container_fs_inodes_total", ["device"], "Inodes of the writable layer's file system.";
    FS_LIMIT: DISK, Gauge, "container_fs_limit_bytes", ["device"], "Size of the writable layer's file system, in bytes.";
    FS_USAGE: DISK, Gauge, "container_fs_usage_bytes", ["device"], "What the writable layer takes, in bytes.";

    FS_READS_BYTES: DISK_IO, Counter, "container_fs_reads_bytes_total", ["device"], "Bytes read from the device.";
    FS_READS: DISK_IO, Counter, "container_fs_reads_total", ["device"], "Reads from the device.";
    FS_WRITES_BYTES: DISK_IO, Counter, "container_fs_writes_bytes_total", ["device"], "Bytes written to the device.";
    FS_WRITES: DISK_IO, Counter, "container_fs_writes_total", ["device"], "Writes to the device.";
    BLKIO: DISK_IO, Counter, "container_blkio_device_usage_total", ["device", "major", "minor", "operation"], "Bytes moved to and from the device by operation.";

    RECEIVE_BYTES: NETWORK, Counter, "container_network_receive_bytes_total", ["interface"], "Bytes received.";
    RECEIVE_PACKETS: NETWORK, Counter, "container_network_receive_packets_total", ["interface"], "Packets received.";
    RECEIVE_DROPPED: NETWORK, Counter, "container_network_receive_packets_dropped_total", ["interface"], "Packets dropped while receiving.";
    RECEIVE_ERRORS: NETWORK, Counter, "container_network_receive_errors_total", ["interface"], "Errors while receiving.";
    TRANSMIT_BYTES: NETWORK, Counter, "container_network_transmit_bytes_total", ["interface"], "Bytes sent.";
    TRANSMIT_PACKETS: NETWORK, Counter, "container_network_transmit_packets_total", ["interface"], "Packets sent.";
    TRANSMIT_DROPPED: NETWORK, Counter, "container_network_transmit_packets_dropped_total", ["interface"], "Packets dropped while sending.";
    TRANSMIT_ERRORS: NETWORK, Counter, "container_network_transmit_errors_total", ["interface"], "Errors while sending.";

    PROCESSES: PROCESS, Gauge, "container_processes", [], "Processes in the container.";
    THREADS: PROCESS, Gauge, "container_threads", [], "Threads in the container.";
    THREADS_MAX: PROCESS, Gauge, "container_threads_max", [], "Threads that the container may have; 0: any number.";
    FILE_DESCRIPTORS: PROCESS, Gauge, "container_file_descriptors", [], "Open descriptors of the container's processes.";
    SOCKETS: PROCESS, Gauge, "container_sockets", [], "Open sockets of the container's processes.";
    ULIMITS_SOFT: PROCESS, Gauge, "container_ulimits_soft", ["ulimit"], "Soft limits of the container's first process.";

    START_TIME: SPEC, Gauge, "container_start_time_seconds", [], "When the container was started, in seconds since 1970.";
    SPEC_CPU_PERIOD: SPEC, Gauge, "container_spec_cpu_period", [], "Period of the CPU quota, in microseconds.";
    SPEC_CPU_QUOTA: SPEC, Gauge, "container_spec_cpu_quota", [], "CPU quota in each period, in microseconds.";
    SPEC_CPU_SHARES: SPEC, Gauge, "container_spec_cpu_shares", [], "Weight of the container among others.";
    SPEC_MEMORY_LIMIT: SPEC, Gauge, "container_spec_memory_limit_bytes", [], "Limit of memory in bytes; 0: none.";
    SPEC_MEMORY_RESERVATION: SPEC, Gauge, "container_spec_memory_reservation_limit_bytes", [], "Memory that is protected from being reclaimed, in bytes.";
    SPEC_MEMORY_SWAP: SPEC, Gauge, "container_spec_memory_swap_limit_bytes", [], "Limit of memory and swap together in bytes; 0: none.";

    PRESSURE_CPU_STALLED: PRESSURE, Counter, "container_pressure_cpu_stalled_seconds_total", [], "Time in which no task could go on for want of CPU, in seconds.";
    PRESSURE_CPU_WAITING: PRESSURE, Counter, "container_pressure_cpu_waiting_seconds_total", [], "Time in which a task waited for CPU, in seconds.";
    PRESSURE_MEMORY_STALLED: PRESSURE, Counter, "container_pressure_memory_stalled_seconds_total", [], "Time in which no task could go on for want of memory, in seconds.";
    PRESSURE_MEMORY_WAITING: PRESSURE, Counter, "container_pressure_memory_waiting_seconds_total", [], "Time in which a task waited for memory, in seconds.";
    PRESSURE_IO_STALLED: PRESSURE, Counter, "container_pressure_io_stalled_seconds_total", [], "Time in which no task could go on for a block device, in seconds.";
    PRESSURE_IO_WAITING: PRESSURE, Counter, "container_pressure_io_waiting_seconds_total", [], "Time in which a task waited for a block device, in seconds.";
}
