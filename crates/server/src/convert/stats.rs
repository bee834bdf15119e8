//! What containers use: the engine's figures to CRI's. What a node cannot tell is absent, never 0.

use std::path::Path;

use engine::container::ContainerFilter;
use engine::pod::Origin;
use engine::stats::ContainerStats;

use super::given;

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

/// The figures of one container; `layers` is the directory of the writable layers.
pub(crate) fn stats(figures: ContainerStats, layers: &Path) -> cri::ContainerStats {
    let pressure = pressure(&figures);
    cri::ContainerStats {
        cpu: Some(cpu(&figures, pressure.cpu)),
        memory: memory(&figures, pressure.memory),
        swap: swap(&figures),
        io: pressure.io.map(|psi| cri::IoUsage {
            timestamp: figures.timestamp,
            psi: Some(psi),
        }),
        writable_layer: Some(cri::FilesystemUsage {
            timestamp: figures.written_at,
            fs_id: Some(cri::FilesystemIdentifier {
                mountpoint: layers.display().to_string(),
            }),
            used_bytes: number(figures.writable_bytes),
            inodes_used: number(figures.writable_inodes),
        }),
        attributes: Some(cri::ContainerAttributes {
            metadata: Some(cri::ContainerMetadata {
                name: figures.container.spec.name.clone(),
                attempt: figures.container.spec.attempt,
            }),
            id: figures.container.id.clone(),
            labels: figures.container.spec.labels.clone(),
            annotations: figures.container.spec.annotations.clone(),
        }),
    }
}

fn cpu(figures: &ContainerStats, psi: Option<cri::PsiStats>) -> cri::CpuUsage {
    cri::CpuUsage {
        timestamp: figures.timestamp,
        usage_core_nano_seconds: number(figures.cpu_usage_ns),
        usage_nano_cores: figures.cpu_nano_cores.and_then(number),
        psi,
    }
}

fn memory(figures: &ContainerStats, psi: Option<cri::PsiStats>) -> Option<cri::MemoryUsage> {
    let memory = figures.cgroup.memory.as_ref()?;
    Some(cri::MemoryUsage {
        timestamp: figures.timestamp,
        working_set_bytes: number(memory.working_set),
        available_bytes: left(memory.limit, memory.working_set),
        usage_bytes: number(memory.usage),
        rss_bytes: number(memory.rss),
        page_faults: number(memory.page_faults),
        major_page_faults: number(memory.major_page_faults),
        psi,
    })
}

fn swap(figures: &ContainerStats) -> Option<cri::SwapUsage> {
    let memory = figures.cgroup.memory.as_ref()?;
    let used = memory.swap?;
    Some(cri::SwapUsage {
        timestamp: figures.timestamp,
        swap_available_bytes: left(memory.swap_limit, used),
        swap_usage_bytes: number(used),
    })
}

/// Pressure by what was lacking; all absent where the kernel or cgroup v1 does not count it.
#[derive(Default)]
struct Pressure {
    cpu: Option<cri::PsiStats>,
    memory: Option<cri::PsiStats>,
    io: Option<cri::PsiStats>,
}

fn pressure(figures: &ContainerStats) -> Pressure {
    let Some(all) = figures.cgroup.pressure else {
        return Pressure::default();
    };
    let [cpu, memory, io] = [all.cpu, all.memory, all.io].map(|one| {
        let [some, full] = [one.some, one.full].map(|line| cri::PsiData {
            // The kernel counts µs, CRI ns.
            total: line.total.saturating_mul(1000),
            avg10: line.avg10,
            avg60: line.avg60,
            avg300: line.avg300,
        });
        Some(cri::PsiStats {
            full: Some(full),
            some: Some(some),
        })
    });
    Pressure { cpu, memory, io }
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
