//! The metrics by name, as CRI-O has them (crio.conf(5), `metrics_collectors`), and how each is written.

use std::time::Instant;

use super::Shared;
use super::text::Text;

/// What every name begins with.
const PREFIX: &str = "container_runtime_crio_";

/// Bounds of latencies in seconds: from what a list takes to what kubelet waits for.
pub(super) const LATENCIES: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0,
];

/// Bounds of layers in bytes, and what blobs of more are called; CRI-O's.
const SIZES: [(u64, &str); 11] = [
    (1_000, ">1 KiB"),
    (1_000_000, ">1 MiB"),
    (10_000_000, ">10 MiB"),
    (50_000_000, ">50 MiB"),
    (100_000_000, ">100 MiB"),
    (200_000_000, ">200 MiB"),
    (300_000_000, ">300 MiB"),
    (400_000_000, ">400 MiB"),
    (500_000_000, ">500 MiB"),
    (1_000_000_000, ">1 GiB"),
    (10_000_000_000, ">10 GiB"),
];
/// The bounds alone.
pub(super) const LAYERS: [f64; 11] = [1e3, 1e6, 1e7, 5e7, 1e8, 2e8, 3e8, 4e8, 5e8, 1e9, 1e10];

/// What a blob of so many bytes is called.
pub(super) fn size(bytes: u64) -> &'static str {
    let over = SIZES.iter().rev().find(|(bound, _)| bytes > *bound);
    over.map_or(">0 B", |(_, name)| name)
}

/// A metric.
#[derive(Debug)]
pub(super) struct Collector {
    /// As crio.conf calls it.
    pub(super) name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub(super) kind: &'static str,
    /// What it is, in words.
    pub(super) help: &'static str,
    /// Writes its samples.
    pub(super) write: fn(&Shared, &mut Text, &str),
}

impl Collector {
    pub(super) fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }
}

/// All of them.
pub(super) static ALL: [Collector; 23] = [
    Collector {
        name: "operations_total",
        kind: "counter",
        help: "CRI calls by operation.",
        write: |of, text, name| {
            for (rpc, operation) in &of.lock().operations {
                text.sample(name, &[("operation", rpc)], operation.count);
            }
        },
    },
    Collector {
        name: "operations_errors_total",
        kind: "counter",
        help: "CRI calls that were answered by an error, by operation.",
        write: |of, text, name| {
            for (rpc, operation) in &of.lock().operations {
                text.sample(name, &[("operation", rpc)], operation.errors);
            }
        },
    },
    Collector {
        name: "operations_latency_seconds",
        kind: "gauge",
        help: "Seconds that the last CRI call took, by operation.",
        write: |of, text, name| {
            for (rpc, operation) in &of.lock().operations {
                text.sample(name, &[("operation", rpc)], operation.last);
            }
        },
    },
    Collector {
        name: "operations_latency_seconds_total",
        kind: "histogram",
        help: "Seconds that CRI calls took, by operation.",
        write: |of, text, name| {
            for (rpc, operation) in &of.lock().operations {
                operation.latencies.write(text, name, &[("operation", rpc)]);
            }
        },
    },
    Collector {
        name: "image_pulls_success_total",
        kind: "counter",
        help: "Images that were pulled.",
        write: |of, text, name| text.sample(name, &[], of.lock().pulls.succeeded),
    },
    Collector {
        name: "image_pulls_failure_total",
        kind: "counter",
        help: "Pulls that failed, by error.",
        write: |of, text, name| {
            for (why, count) in &of.lock().pulls.failed {
                text.sample(name, &[("error", why)], count);
            }
        },
    },
    Collector {
        name: "image_pulls_bytes_total",
        kind: "counter",
        help: "Bytes of blobs that were pulled, by media type and size of the blob.",
        write: |of, text, name| {
            for ((kind, size), bytes) in &of.lock().pulls.bytes {
                text.sample(name, &[("mediatype", kind), ("size", size)], bytes);
            }
        },
    },
    Collector {
        name: "image_pulls_skipped_bytes_total",
        kind: "counter",
        help: "Bytes of blobs that were there already, by size of the blob.",
        write: |of, text, name| {
            for (size, bytes) in &of.lock().pulls.skipped {
                text.sample(name, &[("size", size)], bytes);
            }
        },
    },
    Collector {
        name: "image_pulls_running",
        kind: "gauge",
        help: "Images that are being pulled.",
        write: |of, text, name| text.sample(name, &[], of.engine.now().pulls().len()),
    },
    Collector {
        name: "image_pulls_running_bytes",
        kind: "gauge",
        help: "Bytes that have come of the images that are being pulled.",
        write: |of, text, name| {
            let running = of.engine.now().pulls();
            let bytes: u64 = running.iter().map(|pull| pull.bytes).sum();
            text.sample(name, &[], bytes);
        },
    },
    Collector {
        name: "image_pulls_peer_bytes_total",
        kind: "counter",
        help: "Bytes of layers that came from peers.",
        write: |of, text, name| {
            let peers = of.engine.peers();
            text.sample(name, &[], peers.map_or(0, |peers| peers.bytes()));
        },
    },
    Collector {
        name: "image_layer_reuse_total",
        kind: "counter",
        help: "Times that a layer was there already, by its digest.",
        write: |of, text, name| {
            for (layer, count) in &of.lock().pulls.reused {
                text.sample(name, &[("name", layer)], count);
            }
        },
    },
    Collector {
        name: "image_pulls_layer_size",
        kind: "histogram",
        help: "Sizes of the blobs that were pulled, in bytes.",
        write: |of, text, name| of.lock().pulls.layers.write(text, name, &[]),
    },
    Collector {
        name: "containers_oom_total",
        kind: "counter",
        help: "Containers killed for want of memory.",
        write: |of, text, name| {
            let all: u64 = of.engine.out_of_memory().values().sum();
            text.sample(name, &[], all);
        },
    },
    Collector {
        name: "containers_oom_count_total",
        kind: "counter",
        help: "Containers killed for want of memory, by name.",
        write: |of, text, name| {
            for (container, count) in of.engine.out_of_memory() {
                text.sample(name, &[("name", &container)], count);
            }
        },
    },
    Collector {
        name: "containers_events_dropped_total",
        kind: "counter",
        help: "Events that subscribers were too slow for.",
        write: |of, text, name| text.sample(name, &[], of.engine.dropped_events()),
    },
    Collector {
        name: "containers_log_lost_lines_total",
        kind: "counter",
        help: "Lines of containers that are not in their logs, for a limit of those or of the disk.",
        write: |of, text, name| text.sample(name, &[], of.engine.log_losses().0),
    },
    Collector {
        name: "containers_log_lost_bytes_total",
        kind: "counter",
        help: "Bytes of containers that are not in their logs, for a limit of those or of the disk.",
        write: |of, text, name| text.sample(name, &[], of.engine.log_losses().1),
    },
    Collector {
        name: "containers_seccomp_notifier_count_total",
        kind: "counter",
        help: "Calls of containers that are there that their seccomp profiles refused, by name and call.",
        write: |of, text, name| {
            for ((container, call), count) in of.engine.now().refused_calls() {
                text.sample(name, &[("name", &container), ("syscall", &call)], count);
            }
        },
    },
    Collector {
        name: "resources_stalled_at_stage",
        kind: "counter",
        help: "Changes that took two minutes or longer, or have so far, by the RPC that asked for them.",
        write: |of, text, name| {
            for (rpc, count) in of.calls.late(Instant::now()) {
                text.sample(name, &[("stage", rpc)], count);
            }
        },
    },
    Collector {
        name: "processes_defunct",
        kind: "gauge",
        help: "Processes of the node that have ended and that nobody has waited for.",
        write: |_, text, name| {
            if let Some(count) = defunct() {
                text.sample(name, &[], count);
            }
        },
    },
    Collector {
        name: "trace_spans_dropped_total",
        kind: "counter",
        help: "Spans of traces that the collector has not got.",
        write: |of, text, name| {
            if let Some(count) = of.tracer.dropped() {
                text.sample(name, &[], count);
            }
        },
    },
    Collector {
        name: "default_runtime",
        kind: "gauge",
        help: "The runtime handler of pods that choose none; always 1.",
        write: |of, text, name| {
            let now = of.engine.now();
            let chosen = match now.config().runtime.default_runtime.as_str() {
                "" => engine::config::BUILT_IN,
                chosen => chosen,
            };
            text.sample(name, &[("runtime", chosen)], 1);
        },
    },
];

/// Processes in state Z (proc_pid_stat(5)); `None` if they cannot be listed.
fn defunct() -> Option<usize> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let is_defunct = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        let is_pid = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        let stat = || std::fs::read(entry.path().join("stat")).ok();
        is_pid && stat().is_some_and(|stat| state(&stat) == Some(b'Z'))
    };
    Some(processes.filter(is_defunct).count())
}

/// The letter behind the name, which may hold anything.
fn state(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_called_by_the_greatest_bound_that_it_is_over() {
        assert_eq!(size(0), ">0 B");
        assert_eq!(size(1_000), ">0 B");
        assert_eq!(size(1_001), ">1 KiB");
        assert_eq!(size(u64::MAX), ">10 GiB");
        assert!(
            SIZES
                .iter()
                .zip(LAYERS)
                .all(|((bound, _), layer)| *bound as f64 == layer)
        );
    }

    #[test]
    fn the_state_of_a_process_is_told_whatever_it_is_called() {
        assert_eq!(state(b"7 (a) Z (b) S 1 7"), Some(b'S'));
        assert_eq!(state(b"7 (sh) Z 1 7"), Some(b'Z'));
        assert_eq!(state(b""), None);
        assert!(defunct().is_some());
    }

    #[test]
    fn every_metric_has_a_name_of_its_own() {
        for (at, one) in ALL.iter().enumerate() {
            assert!(ALL[..at].iter().all(|other| other.name != one.name));
            assert!(engine::config::Metrics::default().tells(one.name));
        }
    }
}
