//! Where a container is: namespaces, devices, mounts.

use super::*;

fn join(kind: &str, path: &str) -> Value {
    json!({"type": kind, "path": path})
}

#[test]
fn namespaces_are_the_pods_the_containers_own_or_the_nodes() {
    let own = |kind: &str| json!({"type": kind});
    let ipc = || join("ipc", "/proc/7/ns/ipc");
    let base = [
        own("mount"),
        join("network", "/proc/7/ns/net"),
        join("uts", "/proc/7/ns/uts"),
        ipc(),
    ];
    let with = |more: &[Value]| json!([&base[..], more].concat());
    table(
        "/linux/namespaces",
        &[
            (
                "processes of its own",
                |w| w.container.spec.security.namespaces.pid = NamespaceMode::Container,
                with(&[own("pid")]),
            ),
            (
                "the node's processes",
                |w| w.container.spec.security.namespaces.pid = NamespaceMode::Node,
                with(&[]),
            ),
            (
                "the pod's processes",
                |w| w.host.namespaces.pid = Some("/proc/8/ns/pid".into()),
                with(&[join("pid", "/proc/8/ns/pid")]),
            ),
            (
                "another container's processes",
                |w| {
                    w.container.spec.security.namespaces.pid = NamespaceMode::Target;
                    w.host.target = Some("/proc/9/ns/pid".into());
                },
                with(&[join("pid", "/proc/9/ns/pid")]),
            ),
            (
                "the node's network, and its host name with it",
                |w| {
                    w.pod.spec.namespaces.network = NamespaceMode::Node;
                    w.container.spec.security.namespaces.pid = NamespaceMode::Container;
                },
                json!([own("mount"), ipc(), own("pid")]),
            ),
            (
                "the node's IPC",
                |w| {
                    w.pod.spec.namespaces.ipc = NamespaceMode::Node;
                    w.container.spec.security.namespaces.pid = NamespaceMode::Container;
                },
                json!([own("mount"), base[1].clone(), base[2].clone(), own("pid")]),
            ),
            (
                "on cgroup v2",
                |w| {
                    w.host.cgroup_v2 = true;
                    w.container.spec.security.namespaces.pid = NamespaceMode::Container;
                },
                with(&[own("pid"), own("cgroup")]),
            ),
        ],
    );
}

#[test]
fn a_user_namespace_of_the_pod_is_joined_and_what_its_root_may_not_make_is_bound() {
    let mut world = world();
    let range = vec![IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 5,
    }];
    let ids = UserIds {
        uids: range.clone(),
        gids: range,
    };
    world.pod.spec.namespaces.users = UserMode::Pod(ids.clone());
    world.pod.spec.namespaces.ipc = NamespaceMode::Node;
    world.host.mqueue = true;
    world.host.namespaces.users = Some("/proc/7/fd/9".into());
    world.mounts("/data", |mount, _| mount.ids = Some(ids.clone()));
    let device = Device {
        container_path: "/dev/mine".into(),
        ..Device::default()
    };
    world.container.spec.devices.push(device);
    let found = vec![super::asked(
        "/dev/node",
        super::device("/dev/mine", 10, 229),
    )];
    world.host.devices.asked.push(found);
    let config = world.config().unwrap();
    let namespaces = config["linux"]["namespaces"].as_array().unwrap();
    assert!(
        namespaces.contains(&join("user", "/proc/7/fd/9")),
        "{namespaces:?}"
    );
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 5}]);
    assert_eq!(config["linux"]["uidMappings"], map);
    assert_eq!(config["linux"]["gidMappings"], map);
    let mounts = config["mounts"].as_array().unwrap();
    let at = |path: &str| {
        mounts
            .iter()
            .find(|one| one["destination"] == path)
            .unwrap()
    };
    assert_eq!(at("/data")["uidMappings"], map);
    assert_eq!(at("/dev/mine")["source"], "/dev/node");
    assert_eq!(at("/dev/mqueue")["type"], "bind");
    // There is no group 5, which terminals have elsewhere.
    let options = options(&config, "/dev/pts");
    assert!(!options.contains(&json!("gid=5")), "{options:?}");
    assert!(config["linux"].get("devices").is_none());
}

#[test]
fn devices_are_denied_but_those_that_are_asked_for() {
    fn asked(w: &mut World, access: &str) {
        w.container.spec.devices.push(Device {
            permissions: access.into(),
            ..Device::default()
        });
        let nodes = vec![super::asked("/dev/node", device("/dev/fuse", 10, 229))];
        let Found { asked: all, .. } = &mut w.host.devices;
        all.push(nodes);
    }
    let deny = || json!({"allow": false, "access": "rwm"});
    let allow = |access: &str| json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": access});
    table(
        "/linux/resources/devices",
        &[
            ("none", |_| {}, json!([deny()])),
            ("one", |w| asked(w, ""), json!([deny(), allow("rwm")])),
            ("to read", |w| asked(w, "r"), json!([deny(), allow("r")])),
        ],
    );
    let node = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o660, "uid": 0, "gid": 5}]);
    table(
        "/linux/devices",
        &[
            ("none", |_| {}, Value::Null),
            ("one", |w| asked(w, "r"), node.clone()),
            (
                "the same twice: one node",
                |w| {
                    asked(w, "r");
                    asked(w, "w");
                },
                node,
            ),
        ],
    );
}

#[test]
fn a_handler_may_keep_the_nodes_devices_from_the_privileged() {
    let mut world = world();
    world.privileged();
    world.entry = Some(RuntimeEntry {
        privileged_without_host_devices: true,
        ..RuntimeEntry::default()
    });
    let rules = &world.config().unwrap()["linux"]["resources"]["devices"];
    assert_eq!(*rules, json!([{"allow": false, "access": "rwm"}]));
}

type Mounted = (&'static str, fn(&mut World), &'static [&'static str]);

/// The options of the mount at `path`, row by row.
#[track_caller]
fn mounted(path: &str, rows: &[Mounted]) {
    for (name, change, wanted) in rows {
        let mut world = world();
        change(&mut world);
        let config = world.config().unwrap();
        assert_eq!(json!(options(&config, path)), json!(wanted), "{name}");
    }
}

#[test]
fn mounts_have_the_propagation_and_access_that_were_asked_for() {
    mounted(
        "/m",
        &[
            (
                "plain",
                |w| w.mounts("/m", |_, _| {}),
                &["rbind", "rprivate", "rw"],
            ),
            (
                "to read",
                |w| w.mounts("/m", |m, _| m.readonly = true),
                &["rbind", "rprivate", "ro"],
            ),
            (
                "to read, all below",
                |w| {
                    w.mounts("/m", |m, _| {
                        m.readonly = true;
                        m.recursive_read_only = true;
                    });
                },
                &["rbind", "rprivate", "rro"],
            ),
            (
                "from the node",
                |w| w.mounts("/m", |m, _| m.propagation = Propagation::HostToContainer),
                &["rbind", "rslave", "rw"],
            ),
            (
                "both ways",
                |w| {
                    w.mounts("/m", |m, s| {
                        m.propagation = Propagation::Bidirectional;
                        s.shared = true;
                    });
                },
                &["rbind", "rshared", "rw"],
            ),
        ],
    );
    table(
        "/linux/rootfsPropagation",
        &[
            ("none", |w| w.mounts("/m", |_, _| {}), Value::Null),
            (
                "the strongest",
                |w| {
                    w.mounts("/m", |m, _| m.propagation = Propagation::HostToContainer);
                    w.mounts("/n", |m, s| {
                        m.propagation = Propagation::Bidirectional;
                        s.shared = true;
                    });
                },
                json!("rshared"),
            ),
            (
                "one way",
                |w| w.mounts("/m", |m, _| m.propagation = Propagation::HostToContainer),
                json!("rslave"),
            ),
        ],
    );
}

#[test]
fn the_systems_own_mounts_are_read_only_and_give_way_to_the_requests() {
    const SYS: &[&str] = &["nosuid", "noexec", "nodev", "ro"];
    mounted("/sys", &[("plain", |_| {}, SYS)]);
    mounted(
        "/sys",
        &[(
            "of the node's network",
            |w| w.pod.spec.namespaces.network = NamespaceMode::Node,
            &["rbind", "nosuid", "noexec", "nodev", "ro", "rprivate"],
        )],
    );
    mounted(
        "/dev/shm",
        &[
            (
                "the pod's",
                |_| {},
                &["bind", "rprivate", "nosuid", "nodev", "rw", "noexec"],
            ),
            (
                "the node's",
                |w| w.pod.spec.namespaces.ipc = NamespaceMode::Node,
                &["bind", "rprivate", "nosuid", "nodev", "rw"],
            ),
            (
                "the request's",
                |w| w.mounts("/dev/shm", |_, _| {}),
                &["rbind", "rprivate", "rw"],
            ),
        ],
    );
    mounted(
        "/etc/hostname",
        &[
            (
                "writable",
                |_| {},
                &["bind", "rprivate", "nosuid", "nodev", "rw"],
            ),
            (
                "of a root that is not",
                |w| w.container.spec.security.readonly_rootfs = true,
                &["bind", "rprivate", "nosuid", "nodev", "ro"],
            ),
            (
                "kubelet's own",
                |w| w.mounts("/etc/hostname", |_, _| {}),
                &["rbind", "rprivate", "rw"],
            ),
        ],
    );
    let config = world().config().unwrap();
    let there = |path: &str| {
        let all = config["mounts"].as_array().unwrap();
        all.iter().any(|mount| mount["destination"] == path)
    };
    assert!(
        there("/proc") && !there("/etc/hosts"),
        "the pod has no hosts file"
    );
}
