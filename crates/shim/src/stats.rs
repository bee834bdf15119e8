//! A container's figures. A shim gives them as cgroup v1 or as cgroup v2 has them, whatever this host
//! has: Kata's are of the guest.

use prost::Message;

use crate::wire::{self, cgroups_v1, cgroups_v2};

/// What a container uses. `None`: the shim does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time in nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Memory with the page cache, in bytes.
    pub memory: Option<u64>,
    /// Page cache that is not in use, in bytes: part of `memory`, not of the working set.
    pub inactive_file: Option<u64>,
    /// Anonymous memory, in bytes.
    pub rss: Option<u64>,
    /// Its limit of memory in bytes.
    pub memory_limit: Option<u64>,
    /// Swap in use, in bytes.
    pub swap: Option<u64>,
    /// Page faults.
    pub page_faults: Option<u64>,
    /// Page faults that needed a disk.
    pub major_page_faults: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// How often the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
}

impl Stats {
    /// Reads the figures by their type.
    ///
    /// # Errors
    /// In words: figures of another type, or what is no such message.
    pub(crate) fn read(figures: &wire::Any) -> Result<Self, String> {
        let wrong = |error: prost::DecodeError| format!("no such figures: {error}");
        let kind = figures.type_url.rsplit('/').next().unwrap_or_default();
        match kind {
            "io.containerd.cgroups.v1.Metrics" => {
                let metrics = cgroups_v1::Metrics::decode(&figures.value[..]);
                Ok(Self::from_v1(&metrics.map_err(wrong)?))
            }
            "io.containerd.cgroups.v2.Metrics" => {
                let metrics = cgroups_v2::Metrics::decode(&figures.value[..]);
                Ok(Self::from_v2(&metrics.map_err(wrong)?))
            }
            other => Err(format!(
                "figures of type {:?} are not known",
                ttrpc::printable(other)
            )),
        }
    }

    fn from_v1(metrics: &cgroups_v1::Metrics) -> Self {
        let memory = metrics.memory.as_ref();
        let usage = memory.and_then(|memory| memory.usage.as_ref());
        let all = memory.and_then(|memory| memory.swap.as_ref());
        let cpu = metrics.cpu.as_ref().and_then(|cpu| cpu.usage.as_ref());
        Self {
            cpu_ns: cpu.map(|cpu| cpu.total),
            memory: usage.map(|usage| usage.usage),
            inactive_file: memory.map(|memory| memory.total_inactive_file),
            rss: memory.map(|memory| memory.total_rss),
            memory_limit: usage.map(|usage| usage.limit),
            // cgroup v1 counts memory and swap together.
            swap: all
                .zip(usage)
                .map(|(all, usage)| all.usage.saturating_sub(usage.usage)),
            page_faults: memory.map(|memory| memory.total_pg_fault),
            major_page_faults: memory.map(|memory| memory.total_pg_maj_fault),
            pids: metrics.pids.as_ref().map(|pids| pids.current),
            oom_kills: metrics.memory_oom_control.as_ref().map(|oom| oom.oom_kill),
        }
    }

    fn from_v2(metrics: &cgroups_v2::Metrics) -> Self {
        let memory = metrics.memory.as_ref();
        let cpu = metrics.cpu.as_ref();
        Self {
            cpu_ns: cpu.map(|cpu| cpu.usage_usec.saturating_mul(1000)),
            memory: memory.map(|memory| memory.usage),
            inactive_file: memory.map(|memory| memory.inactive_file),
            rss: memory.map(|memory| memory.anon),
            memory_limit: memory.map(|memory| memory.usage_limit),
            swap: memory.map(|memory| memory.swap_usage),
            page_faults: memory.map(|memory| memory.pgfault),
            major_page_faults: memory.map(|memory| memory.pgmajfault),
            pids: metrics.pids.as_ref().map(|pids| pids.current),
            oom_kills: metrics.memory_events.as_ref().map(|events| events.oom_kill),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::message;

    #[test]
    fn both_kinds_of_figures_are_read() {
        let v2 = cgroups_v2::Metrics {
            cpu: Some(cgroups_v2::CpuStat {
                usage_usec: 3,
                ..Default::default()
            }),
            ..Default::default()
        };
        let stats = Stats::read(&message("io.containerd.cgroups.v2.Metrics", &v2)).unwrap();
        assert_eq!((stats.cpu_ns, stats.memory), (Some(3000), None));
        let v1 = cgroups_v1::Metrics {
            pids: Some(cgroups_v1::PidsStat {
                current: 4,
                limit: 0,
            }),
            ..Default::default()
        };
        let kind = "types.example/io.containerd.cgroups.v1.Metrics";
        assert_eq!(Stats::read(&message(kind, &v1)).unwrap().pids, Some(4));
    }

    #[test]
    fn other_figures_are_refused_by_name() {
        let error = Stats::read(&message("x.Y", &wire::Empty {})).unwrap_err();
        assert!(error.contains("x.Y"), "{error}");
    }
}
