use std::collections::BTreeMap;

use nri::api::*;

use super::*;
use crate::container::{ContainerSpec, ResolvedUser};
use crate::record::UnknownFields;

fn record() -> ContainerRecord {
    ContainerRecord {
        id: "c".into(),
        pod_id: "p".into(),
        created_at: 0,
        image_id: String::new(),
        image_ref: String::new(),
        log_path: None,
        user: ResolvedUser::default(),
        stop_signal: 15,
        cgroup: "kube/pod1/crio-c".into(),
        handler: String::new(),
        args: vec!["sh".into()],
        spec: ContainerSpec::default(),
        kept: UnknownFields::default(),
    }
}

fn config() -> spec::Spec {
    let namespace = |kind, path: Option<&str>| spec::Namespace {
        kind,
        path: path.map(Into::into),
    };
    spec::Spec {
        process: Some(spec::Process {
            env: vec!["A=1".into(), "B=2".into()],
            binary_env: vec![spec::BinaryVariable {
                name: "RAW".into(),
                value: vec![0xff],
            }],
            ..spec::Process::default()
        }),
        annotations: BTreeMap::from([("k".into(), "v".into())]),
        linux: Some(spec::Linux {
            namespaces: vec![
                namespace(NamespaceKind::Mount, None),
                namespace(NamespaceKind::Network, Some("/proc/7/ns/net")),
                namespace(NamespaceKind::Pid, None),
            ],
            ..spec::Linux::default()
        }),
        ..spec::Spec::default()
    }
}

/// What becomes of a container.
fn adjusted(said: ContainerAdjustment) -> Result<(spec::Spec, ContainerRecord)> {
    let (mut record, mut config) = (record(), config());
    let adjust = Adjust {
        pod_cgroup: "kube/pod1",
        in_users: false,
        record: &mut record,
        config: &mut config,
        cdi_dirs: &[],
        all_devices: false,
    };
    adjust.apply(said)?;
    Ok((config, record))
}

fn linux(change: impl FnOnce(&mut LinuxContainerAdjustment)) -> ContainerAdjustment {
    let mut linux = LinuxContainerAdjustment::default();
    change(&mut linux);
    ContainerAdjustment {
        linux: Some(linux),
        ..ContainerAdjustment::default()
    }
}

#[track_caller]
fn refused(said: ContainerAdjustment, words: &str) {
    let error = adjusted(said).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

fn variable(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
    }
}

#[test]
fn variables_and_annotations_are_set_replaced_and_taken_away() {
    let pairs = [("-k", ""), ("l", "w")];
    let said = ContainerAdjustment {
        env: vec![
            variable("-A", ""),
            variable("B", "3"),
            variable("RAW", "text"),
            variable("C", "4"),
        ],
        annotations: pairs.map(|(key, value)| (key.into(), value.into())).into(),
        args: vec!["sleep".into(), "1".into()],
        ..ContainerAdjustment::default()
    };
    let (config, record) = adjusted(said).unwrap();
    let process = config.process.unwrap();
    assert_eq!(process.env, ["B=3", "RAW=text", "C=4"]);
    assert_eq!(process.binary_env, []);
    assert_eq!(
        config.annotations,
        BTreeMap::from([("l".into(), "w".into())])
    );
    assert_eq!(
        (process.args, record.args),
        (
            vec!["sleep".into(), "1".into()],
            vec!["sleep".to_owned(), "1".into()]
        )
    );
    let unit = ContainerAdjustment {
        annotations: BTreeMap::from([("org.systemd.property.X".into(), "1".into())]),
        ..ContainerAdjustment::default()
    };
    refused(unit, "org.systemd.property.X");
}

#[test]
fn a_container_stays_in_its_pods_cgroup() {
    let path = |path: &str| linux(|linux| linux.cgroups_path = path.into());
    let (config, record) = adjusted(path("/kube/pod1/mine")).unwrap();
    assert_eq!(record.cgroup, "kube/pod1/mine");
    assert_eq!(
        config.linux().cgroups_path.as_deref(),
        Some("/kube/pod1/mine")
    );
    for bad in [
        "/other",
        "/kube/pod1",
        "/kube/pod1/a/b",
        "/kube/pod1/..",
        "/kube/pod10/x",
        "mine",
    ] {
        refused(path(bad), "cgroups_path");
    }
}

#[test]
fn namespaces_are_given_up_for_the_nodes_or_replaced() {
    let say = |kind: &str, path: &str| {
        linux(|linux| {
            linux.namespaces.push(LinuxNamespace {
                r#type: kind.into(),
                path: path.into(),
            });
        })
    };
    let of = |config: &spec::Spec, kind| {
        let mut all = config.linux().namespaces.iter();
        all.find(|one| one.kind == kind).map(|one| one.path.clone())
    };
    let (config, _) = adjusted(say("-network", "")).unwrap();
    let own = format!("/proc/{}/ns/net", std::process::id());
    assert_eq!(of(&config, NamespaceKind::Network), Some(Some(own.into())));
    let (config, _) = adjusted(say("-pid", "")).unwrap();
    assert_eq!(of(&config, NamespaceKind::Pid), None);
    let (config, _) = adjusted(say("network", "/run/netns/x")).unwrap();
    assert_eq!(
        of(&config, NamespaceKind::Network),
        Some(Some("/run/netns/x".into()))
    );
    for (kind, words) in [
        ("user", "user namespace"),
        ("-mount", "mount namespace"),
        ("disk", "\"disk\""),
    ] {
        refused(say(kind, ""), words);
    }
}

#[test]
fn limits_reach_config_and_record() {
    let said = linux(|linux| {
        linux.resources = Some(LinuxResources {
            memory: Some(LinuxMemory {
                limit: Some(OptionalInt64 { value: 64 << 20 }),
                swappiness: Some(OptionalUInt64 { value: 10 }),
                ..LinuxMemory::default()
            }),
            pids: Some(LinuxPids { limit: 7 }),
            rdt_class: Some(OptionalString {
                value: "gold".into(),
            }),
            ..LinuxResources::default()
        });
        linux.oom_score_adj = Some(OptionalInt { value: 5 });
    });
    let (config, record) = adjusted(said).unwrap();
    let resources = config.linux().resources.clone().unwrap();
    let memory = resources.memory.unwrap();
    assert_eq!(
        (memory.limit, memory.swappiness),
        (Some(64 << 20), Some(10))
    );
    assert_eq!(resources.pids.unwrap().limit, Some(7));
    assert_eq!(
        config
            .linux()
            .intel_rdt
            .as_ref()
            .unwrap()
            .clos_id
            .as_deref(),
        Some("gold")
    );
    assert_eq!(config.process.unwrap().oom_score_adj, Some(5));
    let kept = record.spec.resources;
    assert_eq!(
        (kept.memory_limit, kept.pids_limit, kept.oom_score_adj),
        (64 << 20, 7, 5)
    );
    refused(
        linux(|linux| linux.oom_score_adj = Some(OptionalInt { value: 1001 })),
        "oom_score_adj",
    );
}

#[test]
fn what_the_kernel_is_told_of_a_process_is_in_its_words() {
    let said = linux(|linux| {
        linux.io_priority = Some(LinuxIoPriority {
            class: IoPrioClass::IoprioClassBe.into(),
            priority: 3,
        });
        linux.scheduler = Some(LinuxScheduler {
            policy: LinuxSchedulerPolicy::SchedBatch.into(),
            nice: 4,
            flags: vec![LinuxSchedulerFlag::SchedFlagResetOnFork.into()],
            ..LinuxScheduler::default()
        });
        linux.memory_policy = Some(LinuxMemoryPolicy {
            mode: MpolMode::MpolBind.into(),
            nodes: "0".into(),
            flags: vec![MpolFlag::MpolFStaticNodes.into()],
        });
        linux.seccomp_policy = Some(LinuxSeccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            syscalls: vec![LinuxSyscall {
                names: vec!["mkdir".into()],
                action: "SCMP_ACT_ERRNO".into(),
                errno_ret: Some(OptionalUInt32 { value: 7 }),
                args: Vec::new(),
            }],
            ..LinuxSeccomp::default()
        });
        linux
            .net_devices
            .insert("eth9".into(), LinuxNetDevice { name: "in".into() });
        linux.sysctl.insert("net.x".into(), "1".into());
    });
    let (config, _) = adjusted(said).unwrap();
    let process = config.process.clone().unwrap();
    let priority = process.io_priority.unwrap();
    assert_eq!(
        (priority.class.as_str(), priority.priority),
        ("IOPRIO_CLASS_BE", 3)
    );
    let scheduler = process.scheduler.unwrap();
    assert_eq!(
        (scheduler.policy.as_str(), scheduler.nice),
        ("SCHED_BATCH", Some(4))
    );
    assert_eq!(scheduler.flags, ["SCHED_FLAG_RESET_ON_FORK"]);
    let linux = config.linux();
    let policy = linux.memory_policy.as_ref().unwrap();
    assert_eq!(
        (policy.mode.as_str(), policy.flags[0].as_str()),
        ("MPOL_BIND", "MPOL_F_STATIC_NODES")
    );
    let seccomp = linux.seccomp.as_ref().unwrap();
    assert_eq!(seccomp.syscalls[0].errno_ret, Some(7));
    assert_eq!(linux.net_devices["eth9"].name.as_deref(), Some("in"));
    assert_eq!(linux.sysctl["net.x"], "1");
}

#[test]
fn devices_and_mounts_are_one_for_each_path() {
    let device = |path: &str, minor| LinuxDevice {
        path: path.into(),
        r#type: "c".into(),
        major: 1,
        minor,
        ..LinuxDevice::default()
    };
    let mount = |destination: &str, options: &[&str]| Mount {
        destination: destination.into(),
        r#type: "bind".into(),
        source: "/src".into(),
        options: options.iter().map(|option| (*option).into()).collect(),
    };
    let mut said = linux(|linux| linux.devices = vec![device("/dev/x", 3), device("-/dev/y", 0)]);
    said.mounts = vec![
        mount("/a/b", &["rbind", "rslave", "relabel"]),
        mount("/a", &["bind"]),
    ];
    let (config, _) = adjusted(said).unwrap();
    let linux = config.linux();
    assert_eq!(linux.devices.len(), 1);
    let rule = &linux.resources.as_ref().unwrap().devices[0];
    assert_eq!(
        (rule.allow, rule.minor, rule.access.as_deref()),
        (true, Some(3), Some("rw"))
    );
    let places: Vec<_> = config
        .mounts
        .iter()
        .map(|one| one.destination.clone())
        .collect();
    assert_eq!(places, ["/a", "/a/b"].map(PathBuf::from));
    assert_eq!(config.mounts[1].options, ["rbind", "rslave"]);
    assert_eq!(linux.rootfs_propagation.as_deref(), Some("rslave"));
    let relative = ContainerAdjustment {
        mounts: vec![mount("a", &[])],
        ..ContainerAdjustment::default()
    };
    refused(relative, "not absolute");
}

#[test]
fn a_class_of_resctrl_goes_and_comes() {
    let say = |rdt| linux(|linux| linux.rdt = Some(rdt));
    let text = |value: &str| {
        Some(OptionalString {
            value: value.into(),
        })
    };
    let (config, _) = adjusted(say(LinuxRdt {
        clos_id: text("gold"),
        enable_monitoring: Some(OptionalBool { value: true }),
        ..LinuxRdt::default()
    }))
    .unwrap();
    let rdt = config.linux().intel_rdt.clone().unwrap();
    assert_eq!(
        (rdt.clos_id.as_deref(), rdt.enable_monitoring),
        (Some("gold"), true)
    );
    let (config, _) = adjusted(say(LinuxRdt {
        remove: true,
        ..LinuxRdt::default()
    }))
    .unwrap();
    assert_eq!(config.linux().intel_rdt, None);
}
