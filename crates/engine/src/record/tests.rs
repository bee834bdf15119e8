//! Golden files: every record that a floe has ever written is read by this one, and what this one
//! writes is in a file of its own. A change of what is written needs a new file, never a changed one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::container::record::ContainerRecord;
use crate::container::{
    BlockIo, ContainerSpec, Device, DeviceNumber, Extras, Filesystem, HealthCheck, ImageVolume,
    Mount, OnUnhealthy, Profile, Propagation, ResolvedUser, Resources, RestartPolicy, Rlimit,
    Security, StartupCheck, Unset, VolumeUse,
};
use crate::handler::supervisor::orphaned::Ended;
use crate::networks::record::NetworkRecord;
use crate::networks::{NetworkSpec, Route, Subnet};
use crate::pod::record::{PodRecord, Stage};
use crate::pod::{
    DnsConfig, IdMapping, NamespaceMode, NamespaceModes, Origin, PodSize, PodSpec, Step, UserIds,
    UserMode,
};
use crate::secret::record::SecretRecord;
use crate::secret::{SecretPlace, SecretUse};
use crate::volume::record::VolumeRecord;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/record/golden")
}

/// The golden files of a kind of record, with their names.
fn golden(kind: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(golden_dir()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with(&format!("{kind}-")) {
            let text = std::fs::read(entry.path()).unwrap();
            found.push((name, serde_json::from_slice(&text).unwrap()));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!found.is_empty(), "no golden file of {kind}");
    found
}

/// A directory with one file in it.
struct Place(tempfile::TempDir, PathBuf);

impl Place {
    fn with(name: &str, record: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, record.to_string()).unwrap();
        Self(dir, path)
    }

    fn now(&self) -> Value {
        serde_json::from_slice(&std::fs::read(&self.1).unwrap()).unwrap()
    }
}

/// Is all of `small` in `large`, at the same places? Numbers of the form aside.
fn assert_within(small: &Value, large: &Value, at: &str) {
    match (small, large) {
        (Value::Object(small), Value::Object(large)) => {
            for (key, value) in small {
                let at = format!("{at}.{key}");
                let other = large.get(key).unwrap_or_else(|| panic!("{at} is lost"));
                if at != ".version" && at != ".revision" {
                    assert_within(value, other, &at);
                }
            }
        }
        (Value::Array(small), Value::Array(large)) if small.len() == large.len() => {
            for (index, (value, other)) in small.iter().zip(large).enumerate() {
                assert_within(value, other, &format!("{at}[{index}]"));
            }
        }
        _ => assert_eq!(small, large, "{at}"),
    }
}

/// A pod with every field set. No `..`: whoever adds a field decides here how it is stored.
fn full_pod() -> PodRecord {
    let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    PodRecord {
        id: "a".repeat(64),
        created_at: 1_796_000_000_000_000_001,
        stage: Stage::Made {
            ips: vec!["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        },
        cgroup: "/kubepods/pod1".into(),
        owns_cgroup: true,
        cgroup_prefix: "node".into(),
        maker: Some((7, 8)),
        handler: "floe".into(),
        spec: PodSpec {
            name: "n".into(),
            uid: "u".into(),
            namespace: "ns".into(),
            attempt: 3,
            origin: Origin::Cli,
            hostname: "h".into(),
            log_directory: Some("/var/log/pods/x".into()),
            dns: Some(DnsConfig {
                servers: words(&["10.96.0.10"]),
                searches: words(&["a.b", "c"]),
                options: words(&["ndots:5"]),
            }),
            port_mappings: vec![::network::PortMapping {
                host_port: 8080,
                container_port: 80,
                protocol: ::network::Protocol::Sctp,
                host_ip: Some(IpAddr::from([127, 0, 0, 1])),
            }],
            labels: map("app", "web"),
            annotations: map("note", "ä \" \\ \n"),
            cgroup_parent: Some("/kubepods".into()),
            namespaces: full_namespaces(),
            sysctls: map("net.ipv4.ip_forward", "1"),
            privileged: true,
            runtime_handler: "floe".into(),
            network_none: true,
            size: PodSize {
                overhead: Some(full_resources()),
                resources: Some(full_resources()),
            },
            host_aliases: vec![(IpAddr::from([10, 0, 0, 1]), "gate".into())],
            shm_size: Some(1 << 20),
            by_itself: true,
            networks: vec![crate::networks::Joining {
                network: "net".into(),
                interface: "eth7".into(),
                ips: vec!["10.89.0.7".parse().unwrap()],
                mac: Some("02:00:00:00:00:07".parse().unwrap()),
                aliases: words(&["web"]),
            }],
        },
        steps: vec![Step {
            what: "ready".into(),
            at: 1_796_000_000_000_000_002,
        }],
        kept: UnknownFields::default(),
    }
}

fn full_namespaces() -> NamespaceModes {
    NamespaceModes {
        network: NamespaceMode::Node,
        pid: NamespaceMode::Target,
        ipc: NamespaceMode::Pod,
        target_id: "t".into(),
        users: UserMode::Pod(full_ids(100_000)),
    }
}

fn full_ids(host_id: u32) -> UserIds {
    let map = |size| {
        vec![IdMapping {
            container_id: 0,
            host_id,
            size,
        }]
    };
    UserIds {
        uids: map(65_536),
        gids: map(65_537),
    }
}

/// A container with every field set, as [`full_pod`].
fn full_container() -> ContainerRecord {
    let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(|&w| w.to_owned()).collect() };
    ContainerRecord {
        id: "c".repeat(64),
        pod_id: "a".repeat(64),
        created_at: 1_796_000_000_000_000_002,
        image_id: "1".repeat(64),
        image_ref: "example.org/web@sha256:2".into(),
        log_path: Some("/var/log/pods/x/web/0.log".into()),
        user: ResolvedUser {
            uid: 1000,
            gid: 1001,
            groups: vec![1001, 2000],
        },
        stop_signal: 3,
        cgroup: "/kubepods/pod1/crio-c".into(),
        handler: "floe".into(),
        args: words(&["/bin/web", "-v"]),
        spec: ContainerSpec {
            name: "web".into(),
            attempt: 2,
            image: "example.org/web:1".into(),
            user_specified_image: "web:1".into(),
            command: words(&["/bin/web"]),
            args: words(&["-v"]),
            working_dir: "/srv".into(),
            env: vec![("A".into(), "1".into())],
            binary_env: vec![("B".into(), vec![255, 0])],
            mounts: vec![Mount {
                container_path: "/data".into(),
                host_path: "/srv/data".into(),
                readonly: true,
                recursive_read_only: true,
                propagation: Propagation::HostToContainer,
                selinux_relabel: true,
                ids: Some(full_ids(200_000)),
                image: Some(ImageVolume {
                    image: "example.org/model:1".into(),
                    user_specified_image: "model:1".into(),
                    sub_path: "weights".into(),
                    id: "d".repeat(64),
                }),
                options: words(&["noexec"]),
                volume: Some(VolumeUse {
                    name: "data".into(),
                    no_copy: true,
                }),
            }],
            cdi_devices: words(&["example.org/gpu=0"]),
            devices: vec![Device {
                container_path: "/dev/x".into(),
                host_path: "/dev/null".into(),
                permissions: "rw".into(),
            }],
            labels: map("app", "web"),
            annotations: map("note", "1"),
            log_path: Some("web/0.log".into()),
            stdin: true,
            stdin_once: true,
            tty: true,
            console_size: Some((24, 80)),
            resources: full_resources(),
            security: full_security(),
            stop_signal: Some(3),
            extras: Some(Box::new(full_extras())),
        },
        kept: UnknownFields::default(),
    }
}

fn full_extras() -> Extras {
    let device = DeviceNumber { major: 8, minor: 1 };
    Extras {
        filesystems: vec![Filesystem {
            kind: "tmpfs".into(),
            container_path: "/scratch".into(),
            options: vec!["size=1m".into()],
        }],
        rlimits: vec![Rlimit {
            kind: "RLIMIT_NOFILE".into(),
            soft: 1,
            hard: 2,
        }],
        umask: Some(0o27),
        unset_env: Unset::Names(vec!["HOME".into()]),
        hidden_files: vec!["/etc/hosts".into()],
        time_zone: Some("local".into()),
        own_cgroups: Some(true),
        memory_reservation: Some(1 << 25),
        memory_swappiness: Some(10),
        oom_kill_disable: true,
        unmask: vec![None, Some("/proc/kcore".into())],
        mask: vec!["/sys/fs".into()],
        block_io: BlockIo {
            weight: Some(100),
            weight_device: vec![(device, 200)],
            read_bps: vec![(device, 1)],
            write_bps: vec![(device, 2)],
            read_iops: vec![(device, 3)],
            write_iops: vec![(device, 4)],
        },
        restart: RestartPolicy::OnFailure { most: Some(3) },
        remove: true,
        run_limit: Some(60),
        stopped: true,
        secrets: vec![
            SecretUse {
                id: "c".repeat(25),
                name: "key".into(),
                place: SecretPlace::File {
                    path: "/run/secrets/key".into(),
                    uid: 7,
                    gid: 8,
                    mode: 0o440,
                },
            },
            SecretUse {
                id: "d".repeat(25),
                name: "word".into(),
                place: SecretPlace::Variable("WORD".into()),
            },
        ],
        health: Some(Box::new(full_health())),
    }
}

fn full_health() -> HealthCheck {
    let seconds = Duration::from_secs;
    HealthCheck {
        test: vec!["CMD-SHELL".into(), "test -e /well".into()],
        interval: Some(seconds(30)),
        timeout: seconds(5),
        retries: 3,
        start_period: seconds(10),
        start_interval: Some(seconds(1)),
        startup: Some(StartupCheck {
            test: vec!["CMD".into(), "up".into()],
            interval: seconds(2),
            timeout: seconds(4),
            retries: 9,
            successes: 1,
        }),
        on_unhealthy: OnUnhealthy::Restart,
        stop_timeout: seconds(10),
        log_entries: 5,
        log_bytes: 500,
    }
}

fn full_resources() -> Resources {
    Resources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit: 1 << 26,
        memory_swap_limit: -1,
        oom_score_adj: 900,
        cpuset_cpus: "0-1".into(),
        cpuset_mems: "0".into(),
        hugepage_limits: vec![("2MB".into(), 1 << 21)],
        unified: [("memory.high".to_owned(), "max".to_owned())].into(),
        pids_limit: 100,
    }
}

/// A volume with every field set, as [`full_pod`].
fn full_volume() -> VolumeRecord {
    let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    VolumeRecord {
        name: "data".into(),
        created_at: 1_796_000_000_000_000_003,
        labels: map("app", "web"),
        options: map("o", "uid=7,gid=8"),
        anonymous: true,
        owner: Some((7, 8)),
        no_copy: true,
        begun: true,
        kept: UnknownFields::default(),
    }
}

/// A secret with every field set, as [`full_pod`].
fn full_secret() -> SecretRecord {
    let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    SecretRecord {
        id: "c".repeat(25),
        name: "key".into(),
        created_at: 1_796_000_000_000_000_005,
        labels: map("app", "web"),
        options: map("a", "b"),
        kept: UnknownFields::default(),
    }
}

/// A network with every field set, as [`full_pod`].
fn full_network() -> NetworkRecord {
    let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    NetworkRecord {
        id: "b".repeat(64),
        created_at: 1_796_000_000_000_000_004,
        spec: NetworkSpec {
            name: "net".into(),
            driver: crate::networks::Driver::Bridge,
            interface: "floe7".into(),
            subnets: vec![Subnet {
                subnet: "10.89.0.0/24".parse().unwrap(),
                gateway: Some("10.89.0.1".parse().unwrap()),
                range: Some(("10.89.0.8".parse().unwrap(), "10.89.0.15".parse().unwrap())),
            }],
            routes: vec![Route {
                destination: "10.7.0.0/16".parse().unwrap(),
                gateway: "10.89.0.9".parse().unwrap(),
                metric: Some(7),
            }],
            ipv6: true,
            internal: true,
            dns: true,
            dns_servers: vec!["fd00::53".parse().unwrap()],
            labels: map("app", "web"),
            options: map("mtu", "1400"),
        },
        kept: UnknownFields::default(),
    }
}

fn full_security() -> Security {
    let one = |word: &str| vec![word.to_owned()];
    Security {
        add_capabilities: one("NET_ADMIN"),
        drop_capabilities: one("MKNOD"),
        add_ambient_capabilities: one("NET_BIND_SERVICE"),
        privileged: true,
        namespaces: full_namespaces(),
        run_as_user: Some(1000),
        run_as_group: Some(1001),
        run_as_username: "www".into(),
        user: "1000:1001".into(),
        image_groups: true,
        readonly_rootfs: true,
        supplemental_groups: vec![2000],
        strict_groups: true,
        no_new_privs: true,
        masked_paths: one("/proc/kcore"),
        readonly_paths: one("/proc/sys"),
        seccomp: Profile::Localhost("p.json".into()),
        apparmor: Profile::RuntimeDefault,
        selinux: Some("u:r:t:s0".into()),
    }
}

/// What this program writes of a full record, by the record's kind.
fn written(kind: &str) -> Value {
    let place = Place::with(&format!("{kind}.json"), &Value::Null);
    match kind {
        "pod" => pod::write(place.0.path(), &full_pod()).unwrap(),
        "container" => container::write(place.0.path(), &full_container()).unwrap(),
        "ended" => {
            let ended = Ended {
                finished_at: 5,
                oom_killed: true,
            };
            ended::write(&place.1, &ended).unwrap();
        }
        "volume" => volume::write(&place.1, &full_volume()).unwrap(),
        "network" => super::network::write(&place.1, &full_network()).unwrap(),
        "secret" => super::secret::write(&place.1, &full_secret()).unwrap(),
        other => panic!("{other}"),
    }
    place.now()
}

/// Reads a record and writes it again, as the engine does it.
fn again(kind: &str, record: &Value) -> Result<Value> {
    let place = Place::with(&format!("{kind}.json"), record);
    match kind {
        "pod" => pod::write(place.0.path(), &pod::read(place.0.path())?.unwrap())?,
        "container" => {
            let live = container::read(place.0.path())?.unwrap();
            container::write(place.0.path(), &live)?;
        }
        "ended" => ended::write(&place.1, &ended::read(&place.1)?.unwrap())?,
        "volume" => volume::write(&place.1, &volume::read(&place.1)?.unwrap())?,
        "network" => {
            let live = super::network::read(&place.1)?.unwrap();
            super::network::write(&place.1, &live)?;
        }
        "secret" => {
            let live = super::secret::read(&place.1)?.unwrap();
            super::secret::write(&place.1, &live)?;
        }
        other => panic!("{other}"),
    }
    Ok(place.now())
}

const KINDS: [&str; 6] = ["pod", "container", "ended", "volume", "network", "secret"];

#[test]
fn every_record_that_was_ever_written_is_read_and_nothing_of_it_is_lost() {
    for kind in KINDS {
        for (name, record) in golden(kind) {
            let again = again(kind, &record).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_within(&record, &again, "");
        }
    }
}

#[test]
fn nothing_of_a_former_record_is_unknown() {
    let parsed = |kind: &str, text: &[u8]| match kind {
        "pod" => unknown_fields::parse::<pod::Pod<'_>>(text).unwrap().1,
        "container" => {
            unknown_fields::parse::<container::Container<'_>>(text)
                .unwrap()
                .1
        }
        "volume" => unknown_fields::parse::<volume::Volume<'_>>(text).unwrap().1,
        "secret" => {
            unknown_fields::parse::<super::secret::Secret<'_>>(text)
                .unwrap()
                .1
        }
        "network" => {
            unknown_fields::parse::<super::network::Network<'_>>(text)
                .unwrap()
                .1
        }
        _ => unknown_fields::parse::<ended::Ended>(text).unwrap().1,
    };
    for kind in KINDS {
        for (name, record) in golden(kind) {
            let kept = parsed(kind, record.to_string().as_bytes());
            assert!(kept.is_empty(), "{name}: {kept:?}");
        }
    }
}

#[test]
fn what_is_written_is_the_golden_file_of_its_revision() {
    for kind in KINDS {
        let written = written(kind);
        let name = format!("{kind}-{}.{}.json", written["version"], written["revision"]);
        let golden = golden(kind);
        let file = golden.iter().find(|(found, _)| *found == name);
        let pretty = serde_json::to_string_pretty(&written).unwrap();
        assert!(
            file.map(|(_, record)| record) == Some(&written),
            "{name}: what is written has changed. Raise the revision and add the golden file of the \
             new one (see docs/records.md):\n{pretty}"
        );
    }
}

/// Readers of version 1 may know no handlers, and would take every pod for one of the built-in runtime.
#[test]
fn a_pod_that_another_handler_runs_is_refused_by_readers_who_know_no_handlers() {
    let place = Place::with("pod.json", &Value::Null);
    let mut live = full_pod();
    live.spec.namespaces.users = UserMode::Node;
    live.spec.networks.clear();
    for (handler, version) in [("", 1), ("floe", 1), ("kata", 2)] {
        live.handler = handler.into();
        pod::write(place.0.path(), &live).unwrap();
        assert_eq!(place.now()["version"], version, "{handler:?}");
        let read = pod::read(place.0.path()).unwrap().unwrap();
        assert_eq!(read.handler, handler);
    }
    let golden = golden("pod");
    let file = golden.iter().find(|(name, _)| name == "pod-2.9.json");
    assert_eq!(file.map(|(_, record)| record), Some(&place.now()));
    let reason = refusal(
        Form {
            version: 2,
            revision: 2,
        },
        1,
    )
    .unwrap();
    assert!(reason.contains("needs a newer floe"), "{reason}");
}

/// Others would make containers in it that are the node's root.
#[test]
fn a_pod_with_a_user_namespace_is_refused_by_readers_who_know_none() {
    let place = Place::with("pod.json", &Value::Null);
    let mut live = full_pod();
    live.spec.networks.clear();
    pod::write(place.0.path(), &live).unwrap();
    assert_eq!(place.now()["version"], 3);
    let golden = golden("pod");
    let file = golden.iter().find(|(name, _)| name == "pod-3.9.json");
    assert_eq!(file.map(|(_, record)| record), Some(&place.now()));
    let form = Form {
        version: 3,
        revision: 3,
    };
    assert!(refusal(form, 2).is_some());
    let read = pod::read(place.0.path()).unwrap().unwrap();
    assert_eq!(read.spec.namespaces.users, full_pod().spec.namespaces.users);
}

/// Others would put it on the network of the configuration, which may lead to what its own keep it from.
#[test]
fn a_pod_on_networks_of_peoples_own_is_refused_by_readers_who_know_none() {
    let place = Place::with("pod.json", &Value::Null);
    pod::write(place.0.path(), &full_pod()).unwrap();
    assert_eq!(place.now()["version"], 4);
    let form = Form {
        version: 4,
        revision: 9,
    };
    assert!(refusal(form, 3).is_some());
    let read = pod::read(place.0.path()).unwrap().unwrap();
    assert_eq!(read.spec.networks, full_pod().spec.networks);
}

#[test]
fn what_the_first_readers_need_is_always_written() {
    for kind in KINDS {
        let written = written(kind);
        for (name, first) in golden(kind) {
            if name.starts_with(&format!("{kind}-1.0")) {
                assert_has_kinds_of(&first, &written, &name);
            }
        }
    }
}

/// Has `new` all fields of `old`, and values of the same kind in them? Names that a person chose, and
/// what may be null, aside.
fn assert_has_kinds_of(old: &Value, new: &Value, at: &str) {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return;
    };
    for (key, value) in old {
        let at = format!("{at}.{key}");
        if ["labels", "annotations", "sysctls", "unified", "stage"].contains(&key.as_str()) {
            assert!(new.contains_key(key), "{at} is not written any more");
            continue;
        }
        let other = new.get(key);
        let other = other.unwrap_or_else(|| panic!("{at} is not written any more"));
        let is_same = std::mem::discriminant(value) == std::mem::discriminant(other);
        let may_be_other =
            value.is_null() || other.is_null() || key == "seccomp" || key == "apparmor";
        assert!(is_same || may_be_other, "{at} is of another kind: {other}");
        assert_has_kinds_of(value, other, &at);
    }
}

#[test]
fn what_was_read_of_the_first_records_is_what_was_asked_for() {
    let record = |name: &str| {
        let text = std::fs::read_to_string(golden_dir().join(name)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let place = Place::with("pod.json", &record("pod-1.0-made.json"));
    let pod = pod::read(place.0.path()).unwrap().unwrap();
    assert_eq!(
        (&*pod.spec.name, &*pod.spec.uid),
        ("golden", "uid-of-golden")
    );
    assert!(matches!(&pod.stage, Stage::Made { ips } if ips.len() == 2));
    assert_eq!(pod.spec.annotations["note"], "ä \" \\ \n");
    assert_eq!(
        pod.spec.port_mappings[1].host_ip,
        Some([127, 0, 0, 1].into())
    );
    assert_eq!(pod.spec.origin, Origin::Cri);
    assert!(pod.kept.is_empty());
    let place = Place::with("container.json", &record("container-1.0-full.json"));
    let container = container::read(place.0.path()).unwrap().unwrap();
    assert_eq!(container.args, ["sh", "-c", "sleep 1000", "x"]);
    assert_eq!(container.user.uid, 1000);
    assert_eq!(container.spec.resources.memory_limit, 64 << 20);
    assert_eq!(
        container.spec.mounts[0].propagation,
        Propagation::HostToContainer
    );
    assert_eq!(container.spec.security.seccomp, Profile::RuntimeDefault);
}

#[test]
fn what_a_newer_floe_has_added_is_kept_wherever_it_is() {
    for kind in ["pod", "container"] {
        let mut newer = written(kind);
        newer["revision"] = json!(99);
        newer["later"] = json!({"a": [1, 2]});
        newer["spec"]["later"] = json!("b");
        match kind {
            "pod" => {
                newer["stage"]["Made"]["later"] = json!(1);
                newer["spec"]["dns"]["later"] = json!(2);
                newer["spec"]["port_mappings"][0]["later"] = json!(3);
            }
            _ => {
                newer["spec"]["mounts"][0]["later"] = json!(4);
                newer["spec"]["security"]["namespaces"]["later"] = json!(5);
            }
        }
        assert_eq!(again(kind, &newer).unwrap(), newer);
    }
}

#[test]
fn what_was_in_a_stage_that_is_over_goes_with_it() {
    let mut newer = written("pod");
    newer["stage"]["Made"]["later"] = json!(1);
    newer["later"] = json!(2);
    let place = Place::with("pod.json", &newer);
    let mut pod = pod::read(place.0.path()).unwrap().unwrap();
    pod.stage = Stage::Stopped;
    pod::write(place.0.path(), &pod).unwrap();
    let now = place.now();
    assert_eq!(
        (&now["stage"], &now["later"]),
        (&json!("Stopped"), &json!(2))
    );
}

#[test]
fn a_version_that_needs_a_newer_reader_is_refused_by_its_number() {
    for kind in KINDS {
        let mut newer = written(kind);
        newer["version"] = json!(5);
        for record in [newer, json!({"version": 5, "other": []})] {
            let error = again(kind, &record).unwrap_err();
            assert!(error.is_damage(), "{error}");
            let text = error.to_string();
            assert!(
                text.contains("version 5 of the record needs a newer floe"),
                "{text}"
            );
        }
    }
}

#[test]
fn a_stage_that_only_a_newer_floe_knows_is_no_damage_and_is_never_written() {
    for stage in [json!("Asleep"), json!({"Frozen": {"since": 1}})] {
        let mut newer = written("pod");
        newer["stage"] = stage;
        let place = Place::with("pod.json", &newer);
        let pod = pod::read(place.0.path()).unwrap().unwrap();
        assert!(matches!(pod.stage, Stage::Other), "{:?}", pod.stage);
        assert!(pod::write(place.0.path(), &pod).is_err());
        assert_eq!(place.now(), newer);
    }
}

#[test]
fn what_is_no_such_record_is_damaged() {
    for kind in KINDS {
        let mut cases = vec![json!(null), json!([]), json!({}), json!({"version": 1})];
        for field in ["version", "revision"] {
            let mut record = written(kind);
            record[field] = json!("1");
            cases.push(record);
        }
        let mut two = written("pod");
        two["stage"] = json!({"Made": {"ips": []}, "Stopped": null});
        let mut bare = written("pod");
        bare["stage"] = json!("Made");
        if kind == "pod" {
            cases.extend([two, bare]);
        }
        for record in cases {
            let error = again(kind, &record).unwrap_err();
            assert!(error.is_damage(), "{record}: {error}");
        }
    }
}
