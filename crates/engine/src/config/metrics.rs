//! `[crio.stats]` and `[crio.metrics]`: what is told of pods, and of the engine itself.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[crio.stats]`: statistics and metrics of pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Figures younger than so many seconds are told again; 0 and less: they are read when they are asked
    /// for.
    pub collection_period: i64,
    /// The older spelling, where `collection_period` is 0.
    pub stats_collection_period: i64,
    /// Groups of metrics of ListPodSandboxMetrics, or `all` alone. With none only that a container was seen
    /// is told. Not given: all (CRI-O: none).
    pub included_pod_metrics: Vec<String>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            collection_period: 0,
            stats_collection_period: 0,
            included_pod_metrics: vec![ALL.to_owned()],
        }
    }
}

const ALL: &str = "all";

/// A group of a pod's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are crio.conf's")]
pub enum MetricGroup {
    Cpu,
    Disk,
    DiskIo,
    Hugetlb,
    Memory,
    Network,
    Oom,
    Process,
    Spec,
    Pressure,
}

impl MetricGroup {
    /// Every group with its name in crio.conf.
    pub const ALL: [(&'static str, Self); 10] = [
        ("cpu", Self::Cpu),
        ("disk", Self::Disk),
        ("diskIO", Self::DiskIo),
        ("hugetlb", Self::Hugetlb),
        ("memory", Self::Memory),
        ("network", Self::Network),
        ("oom", Self::Oom),
        ("process", Self::Process),
        ("spec", Self::Spec),
        ("pressure", Self::Pressure),
    ];
}

impl Stats {
    /// How old a figure may be, in nanoseconds.
    #[must_use]
    pub fn period_ns(&self) -> i64 {
        let seconds = match self.collection_period {
            0 => self.stats_collection_period,
            seconds => seconds,
        };
        seconds.max(0).saturating_mul(1_000_000_000)
    }

    /// The groups of metrics that are told.
    ///
    /// # Errors
    /// A name that is none, or `all` beside others.
    pub fn groups(&self) -> Result<BTreeSet<MetricGroup>, String> {
        let wrong = |reason: String| format!("crio.stats.included_pod_metrics: {reason}");
        if self.included_pod_metrics == [ALL] {
            return Ok(MetricGroup::ALL.map(|(_, group)| group).into());
        }
        let group = |name: &String| {
            let known = MetricGroup::ALL.iter().find(|(known, _)| known == name);
            known.map(|(_, group)| *group).ok_or_else(|| {
                wrong(match name.as_str() {
                    ALL => "\"all\" stands alone".to_owned(),
                    name => format!("{name:?} is no group of metrics"),
                })
            })
        };
        self.included_pod_metrics.iter().map(group).collect()
    }
}

/// `[crio.metrics]`: the engine's own metrics, for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// They are counted and served.
    pub enable_metrics: bool,
    /// Which of them, with or without `crio_` or `container_runtime_crio_` before the name.
    pub metrics_collectors: Vec<String>,
    /// Where they are served; empty: 127.0.0.1.
    pub metrics_host: String,
    /// The port there; 0: any.
    pub metrics_port: u16,
    /// A unix socket on which they are served, too; empty: none.
    pub metrics_socket: PathBuf,
    /// Their certificate with those between it and the CA, PEM; read again when it changes. Empty: no TLS.
    pub metrics_cert: PathBuf,
    /// Its private key, PEM; likewise.
    pub metrics_key: PathBuf,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enable_metrics: false,
            metrics_collectors: COLLECTORS.map(str::to_owned).to_vec(),
            metrics_host: LOOPBACK.to_owned(),
            metrics_port: 9090,
            metrics_socket: PathBuf::new(),
            metrics_cert: PathBuf::new(),
            metrics_key: PathBuf::new(),
        }
    }
}

const LOOPBACK: &str = "127.0.0.1";

/// Those that CRI-O has, and then floe's own.
const COLLECTORS: [&str; 24] = [
    "trace_spans_dropped_total",
    "image_pulls_layer_size",
    "containers_events_dropped_total",
    "containers_oom_total",
    "processes_defunct",
    "operations_total",
    "operations_latency_seconds",
    "operations_latency_seconds_total",
    "operations_errors_total",
    "image_pulls_bytes_total",
    "image_pulls_skipped_bytes_total",
    "image_pulls_failure_total",
    "image_pulls_success_total",
    "image_layer_reuse_total",
    "containers_oom_count_total",
    "containers_seccomp_notifier_count_total",
    "resources_stalled_at_stage",
    "containers_stopped_monitor_count",
    "default_runtime",
    "containers_log_lost_lines_total",
    "containers_log_lost_bytes_total",
    "image_pulls_running",
    "image_pulls_running_bytes",
    "image_pulls_peer_bytes_total",
];

impl Metrics {
    /// Where they are served.
    #[must_use]
    pub fn host(&self) -> &str {
        match self.metrics_host.as_str() {
            "" => LOOPBACK,
            host => host,
        }
    }

    /// Certificate and key, if they are served over TLS.
    #[must_use]
    pub fn tls(&self) -> Option<(PathBuf, PathBuf)> {
        let (certificate, key) = (&self.metrics_cert, &self.metrics_key);
        let both = !certificate.as_os_str().is_empty() && !key.as_os_str().is_empty();
        both.then(|| (certificate.clone(), key.clone()))
    }

    /// Is the metric of this name, without anything before it, among those that are wanted?
    #[must_use]
    pub fn tells(&self, name: &str) -> bool {
        self.metrics_collectors.iter().any(|wanted| {
            let wanted = wanted.strip_prefix("container_runtime_").unwrap_or(wanted);
            wanted.strip_prefix("crio_").unwrap_or(wanted) == name
        })
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// A sentence naming the key.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_given = |path: &PathBuf| !path.as_os_str().is_empty();
        if is_given(&self.metrics_cert) != is_given(&self.metrics_key) {
            return Err("crio.metrics.metrics_cert and metrics_key belong together".to_owned());
        }
        for (key, path) in [
            ("metrics_socket", &self.metrics_socket),
            ("metrics_cert", &self.metrics_cert),
            ("metrics_key", &self.metrics_key),
        ] {
            if is_given(path) {
                super::tables::absolute(&format!("crio.metrics.{key}"), path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(names: &[&str]) -> Result<BTreeSet<MetricGroup>, String> {
        let included_pod_metrics = names.iter().map(|name| (*name).to_owned()).collect();
        let stats = Stats {
            included_pod_metrics,
            ..Stats::default()
        };
        stats.groups()
    }

    #[test]
    fn groups_of_metrics_are_named_one_by_one_or_all() {
        assert_eq!(Stats::default().groups().unwrap().len(), 10);
        assert!(groups(&[]).unwrap().is_empty());
        let two = groups(&["diskIO", "cpu", "cpu"]).unwrap();
        assert_eq!(two, [MetricGroup::Cpu, MetricGroup::DiskIo].into());
        assert!(groups(&["all", "cpu"]).unwrap_err().contains("alone"));
        assert!(groups(&["cpus"]).unwrap_err().contains("\"cpus\""));
    }

    #[test]
    fn the_older_spelling_holds_where_the_newer_says_nothing() {
        let period = |collection_period, stats_collection_period| {
            let stats = Stats {
                collection_period,
                stats_collection_period,
                ..Stats::default()
            };
            stats.period_ns()
        };
        assert_eq!(period(0, 0), 0);
        assert_eq!(period(0, 2), 2_000_000_000);
        assert_eq!(period(3, 2), 3_000_000_000);
        assert_eq!(period(-1, 2), 0);
        assert_eq!(period(i64::MAX, 0), i64::MAX);
    }

    #[test]
    fn collectors_have_their_names_with_or_without_what_comes_before() {
        let metrics_collectors = [
            "crio_operations_total",
            "container_runtime_crio_default_runtime",
        ];
        let metrics = Metrics {
            metrics_collectors: metrics_collectors.map(str::to_owned).to_vec(),
            ..Metrics::default()
        };
        assert!(metrics.tells("operations_total") && metrics.tells("default_runtime"));
        assert!(!metrics.tells("operations_errors_total"));
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let mut metrics = Metrics {
            metrics_cert: "/c".into(),
            ..Metrics::default()
        };
        assert!(metrics.check().unwrap_err().contains("belong together"));
        assert_eq!(metrics.tls(), None);
        metrics.metrics_key = "k".into();
        assert!(metrics.check().unwrap_err().contains("metrics_key"));
        metrics.metrics_key = "/k".into();
        assert_eq!(metrics.check(), Ok(()));
        assert!(metrics.tls().is_some());
    }
}
