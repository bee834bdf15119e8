//! What is told of figures, and of what is not known.

use std::collections::HashSet;
use std::sync::Arc;

use engine::PodSpec;
use engine::container::{ContainerSpec, ResolvedUser};
use engine::crates::runtime::cgroup::{HugetlbStats, PidsStats, PressureLine, PressureStats};
use engine::pod::PodState;
use engine::stats::{Open, Traffic};

use super::*;

fn a_pod() -> Pod {
    Pod {
        id: "p".repeat(64),
        spec: PodSpec {
            name: "web-0".into(),
            namespace: "shop".into(),
            ..PodSpec::default()
        },
        state: PodState::Ready,
        created_at: 0,
        steps: Vec::new(),
        ips: Vec::new(),
        supervisor_pid: None,
        netns: None,
        cgroup_parent: "/p".into(),
        damaged: false,
    }
}

fn a_container() -> Container {
    let mut spec = ContainerSpec {
        name: "nginx".into(),
        image: "sha256:1".into(),
        user_specified_image: "docker.io/library/nginx:1".into(),
        ..ContainerSpec::default()
    };
    spec.resources.cpu_period = 100_000;
    spec.resources.cpu_quota = 20_000;
    spec.resources.cpu_shares = 512;
    spec.resources.memory_limit = 64 << 20;
    spec.resources.unified = [("memory.min".to_owned(), "4096".to_owned())].into();
    Container {
        paused: false,
        restarts: 0,
        id: "c".repeat(64),
        pod_id: "p".repeat(64),
        spec,
        state: ContainerState::Running {
            started_at: 7_500_000_000,
        },
        created_at: 0,
        pid: Some(1),
        image_id: String::new(),
        image_ref: String::new(),
        log_path: None,
        log_loss: engine::handler::LogLoss::default(),
        user: ResolvedUser::default(),
        stop_signal: 15,
        cgroup: "/p/c".into(),
        args: Vec::new(),
        bundle: "/b".into(),
        handler: String::new(),
    }
}

fn line(total: u64) -> Option<PressureLine> {
    Some(PressureLine {
        total,
        ..PressureLine::default()
    })
}

/// All that a node can know.
fn everything() -> Stats {
    let pressure = Pressure {
        some: line(9_000_000),
        full: line(3_000_000),
    };
    Stats {
        cpu: Some(CpuStats {
            usage: 3_999_999_999,
            ..CpuStats::default()
        }),
        memory: Some(MemoryStats {
            peak: Some(1),
            kernel: Some(2),
            swap: Some(0),
            page_faults: 5,
            own_page_faults: Some(4),
            ..MemoryStats::default()
        }),
        pids: Some(PidsStats {
            current: 3,
            limit: None,
        }),
        io: [(
            (8, 1),
            IoStats {
                read_bytes: 4096,
                ..IoStats::default()
            },
        )]
        .into(),
        hugetlb: [(
            "2MB".to_owned(),
            HugetlbStats {
                peak: Some(1),
                ..HugetlbStats::default()
            },
        )]
        .into(),
        pressure: Some(PressureStats {
            cpu: Some(pressure),
            memory: Some(pressure),
            io: Some(pressure),
        }),
    }
}

fn figures(cgroup: Option<Stats>, known: bool) -> Figures {
    let interface = Interface {
        name: "eth0".into(),
        received: Traffic {
            bytes: 10,
            packets: 2,
            errors: 1,
            dropped: 0,
        },
        sent: Traffic::default(),
    };
    let one = ContainerFigures {
        container: Arc::new(a_container()),
        cgroup,
        written: known.then_some(Written {
            at: 0,
            bytes: 77,
            inodes: 1,
        }),
        processes: known.then_some(Processes {
            count: 2,
            open: Some(Open {
                descriptors: 6,
                sockets: 1,
            }),
            open_limit: Some(1024),
        }),
    };
    let pod = PodFigures {
        pod: Arc::new(a_pod()),
        interfaces: known.then(|| vec![interface]),
        containers: vec![one],
    };
    Figures {
        at: 5_000_000_000,
        pods: vec![Arc::new(pod)],
        filesystem: known.then(|| FilesystemSize {
            device: "/dev/sda1".into(),
            bytes: 1000,
            inodes: Some(10),
            inodes_free: Some(5),
        }),
        devices: [((8, 1), "/dev/sda1".to_owned())].into(),
    }
}

fn all_groups() -> BTreeSet<MetricGroup> {
    MetricGroup::ALL.map(|(_, group)| group).into()
}

/// The samples of the pod and of its container.
fn told(of: &Figures, groups: &BTreeSet<MetricGroup>, cached: bool) -> [Vec<cri::Metric>; 2] {
    let mut told = pod(&of.pods[0], of, groups, cached);
    let container = told.container_metrics.pop().unwrap();
    assert_eq!(container.container_id, "c".repeat(64));
    [told.metrics, container.metrics]
}

#[test]
fn every_sample_is_of_a_descriptor_and_every_descriptor_has_a_sample() {
    let groups = all_groups();
    let described = descriptors(&groups);
    let names: HashSet<&str> = described.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names.len(), described.len(), "a name twice");
    let samples = told(&figures(Some(everything()), true), &groups, false).concat();
    for sample in &samples {
        let of = described.iter().find(|one| one.name == sample.name);
        let of = of.unwrap_or_else(|| panic!("{} is not described", sample.name));
        assert_eq!(
            of.label_keys.len(),
            sample.label_values.len(),
            "{}",
            of.name
        );
        assert_eq!(of.label_keys[..5], LABELS, "{}", of.name);
        assert_eq!(sample.timestamp, 0);
        let grows = match of.name.as_str() {
            "container_fs_inodes_total" => false,
            "container_memory_failcnt" => true,
            name => name.ends_with("_total"),
        };
        let counts = sample.metric_type() == cri::MetricType::Counter;
        assert_eq!(counts, grows, "{}", of.name);
    }
    let sampled: HashSet<&str> = samples.iter().map(|one| one.name.as_str()).collect();
    let silent: Vec<&&str> = names
        .iter()
        .filter(|name| !sampled.contains(**name))
        .collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn samples_have_the_labels_and_units_of_cadvisor() {
    let [of_pod, of_container] = told(&figures(Some(everything()), true), &all_groups(), false);
    let find = |all: &[cri::Metric], name: &str, more: &[&str]| {
        let mut of = all.iter().filter(|one| one.name == name);
        let found = of.find(|one| one.label_values[5..] == *more);
        let found = found.unwrap_or_else(|| panic!("{name} {more:?}"));
        (found.value.unwrap().value, found.label_values[..5].to_vec())
    };
    let (bytes, labels) = find(&of_pod, "container_network_receive_bytes_total", &["eth0"]);
    assert_eq!(bytes, 10);
    assert_eq!(labels, [&"p".repeat(64), "", "shop", "web-0", "POD"]);
    let container = |name: &str, more: &[&str]| find(&of_container, name, more).0;
    let (cpu, labels) = find(
        &of_container,
        "container_cpu_usage_seconds_total",
        &["total"],
    );
    assert_eq!(cpu, 3, "whole seconds");
    let image = "docker.io/library/nginx:1";
    assert_eq!(labels, [&"c".repeat(64), image, "shop", "web-0", "nginx"]);
    assert_eq!(container("container_last_seen", &[]), 5);
    assert_eq!(container("container_start_time_seconds", &[]), 7);
    assert_eq!(
        container("container_memory_failures_total", &["pgfault", "container"]),
        4
    );
    assert_eq!(
        container("container_memory_failures_total", &["pgfault", "hierarchy"]),
        5
    );
    assert_eq!(container("container_fs_usage_bytes", &["/dev/sda1"]), 77);
    assert_eq!(
        container(
            "container_blkio_device_usage_total",
            &["/dev/sda1", "8", "1", "Read"]
        ),
        4096
    );
    assert_eq!(container("container_threads_max", &[]), 0);
    assert_eq!(
        container("container_ulimits_soft", &["max_open_files"]),
        1024
    );
    assert_eq!(
        container("container_spec_memory_reservation_limit_bytes", &[]),
        4096
    );
    assert_eq!(
        container("container_pressure_io_stalled_seconds_total", &[]),
        3
    );
    assert_eq!(
        container("container_pressure_io_waiting_seconds_total", &[]),
        9
    );
}

#[test]
fn what_is_not_known_has_no_sample() {
    let stats = Stats {
        memory: Some(MemoryStats::default()),
        ..Stats::default()
    };
    let [of_pod, of_container] = told(&figures(Some(stats), false), &all_groups(), false);
    assert!(of_pod.is_empty());
    let names: HashSet<&str> = of_container.iter().map(|one| one.name.as_str()).collect();
    assert!(names.contains("container_memory_usage_bytes"));
    for absent in [
        "container_memory_swap",
        "container_memory_max_usage_bytes",
        "container_cpu_usage_seconds_total",
        "container_pressure_cpu_waiting_seconds_total",
        "container_processes",
        "container_fs_usage_bytes",
        "container_threads",
    ] {
        assert!(!names.contains(absent), "{absent}");
    }
}

#[test]
fn only_groups_that_are_wanted_are_told_and_a_cached_sample_says_when_it_was() {
    let figures = figures(Some(everything()), true);
    let [of_pod, of_container] = told(&figures, &BTreeSet::new(), true);
    let names: Vec<&str> = of_container.iter().map(|one| one.name.as_str()).collect();
    assert!(of_pod.is_empty());
    assert_eq!(names, ["container_last_seen"]);
    assert_eq!(of_container[0].timestamp, 5_000_000_000);
    assert_eq!(descriptors(&BTreeSet::new()).len(), 1);
    let oom = BTreeSet::from([MetricGroup::Oom]);
    let [_, of_container] = told(&figures, &oom, false);
    assert_eq!(of_container.len(), descriptors(&oom).len());
}
