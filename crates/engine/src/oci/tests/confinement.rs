//! What confines a container: capabilities, seccomp, AppArmor, SELinux, hidden paths, privilege.

use super::*;

const DEFAULT: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_KILL",
];

/// All of [`DEFAULT`] and these.
fn default_and(more: &[&str]) -> Value {
    json!([&DEFAULT[..], more].concat())
}

fn add(world: &mut World, names: &[&str]) {
    world.container.spec.security.add_capabilities = strings(names);
}

fn drop_(world: &mut World, names: &[&str]) {
    world.container.spec.security.drop_capabilities = strings(names);
}

#[test]
fn the_bounding_set_is_the_defaults_with_what_is_added_and_dropped() {
    let rows: &[Row] = &[
        ("plain", |_| {}, default_and(&[])),
        (
            "added",
            |w| add(w, &["net_admin"]),
            default_and(&["CAP_NET_ADMIN"]),
        ),
        (
            "added twice",
            |w| add(w, &["CAP_KILL", "kill"]),
            default_and(&[]),
        ),
        ("all dropped", |w| drop_(w, &["ALL"]), Value::Null),
        (
            "all dropped but one: a single name wins",
            |w| {
                drop_(w, &["all"]);
                add(w, &["NET_RAW"]);
            },
            json!(["CAP_NET_RAW"]),
        ),
        (
            "added and dropped: it is dropped",
            |w| {
                add(w, &["NET_RAW"]);
                drop_(w, &["NET_RAW"]);
            },
            default_and(&[]),
        ),
        (
            "ambient ones are in it",
            |w| w.container.spec.security.add_ambient_capabilities = strings(&["NET_RAW"]),
            default_and(&["CAP_NET_RAW"]),
        ),
        (
            "the configuration's own defaults",
            |w| w.runtime.default_capabilities = strings(&["CHOWN"]),
            json!(["CAP_CHOWN"]),
        ),
    ];
    table("/process/capabilities/bounding", rows);
    let mut world = world();
    add(&mut world, &["ALL"]);
    drop_(&mut world, &["SYS_ADMIN"]);
    let config = world.config().unwrap();
    let all = config["process"]["capabilities"]["bounding"].as_array();
    assert_eq!(all.unwrap().len(), 40, "41 less one");
    assert!(!all.unwrap().contains(&json!("CAP_SYS_ADMIN")));
}

#[test]
fn who_is_not_root_holds_only_ambient_capabilities() {
    table(
        "/process/capabilities/effective",
        &[
            ("root", |_| {}, default_and(&[])),
            ("a user", |w| w.container.user.uid = 1000, Value::Null),
            (
                "a user with ambient ones",
                |w| {
                    w.container.user.uid = 1000;
                    w.container.spec.security.add_ambient_capabilities = strings(&["NET_RAW"]);
                },
                json!(["CAP_NET_RAW"]),
            ),
        ],
    );
    for set in ["inheritable", "ambient"] {
        table(
            &format!("/process/capabilities/{set}"),
            &[
                ("plain", |_| {}, Value::Null),
                ("added ones are not", |w| add(w, &["NET_RAW"]), Value::Null),
                (
                    "ambient",
                    |w| w.container.spec.security.add_ambient_capabilities = strings(&["net_raw"]),
                    json!(["CAP_NET_RAW"]),
                ),
            ],
        );
    }
}

#[test]
fn a_privileged_container_has_everything_and_nothing_hidden_from_it() {
    let mut world = world();
    world.privileged();
    world.host.cgroup_v2 = true;
    world.host.devices.all = vec![device("/dev/kmsg", 1, 11)];
    let security = &mut world.container.spec.security;
    security.seccomp = Profile::RuntimeDefault;
    security.apparmor = Profile::Localhost("strict".into());
    security.masked_paths = strings(&["/proc/kcore"]);
    security.readonly_paths = strings(&["/proc/sys"]);
    world.host.selinux = true;
    world.container.spec.security.selinux = Some("::t:".into());
    let config = world.config().unwrap();
    let caps = &config["process"]["capabilities"];
    for set in ["bounding", "effective", "permitted"] {
        assert_eq!(caps[set].as_array().unwrap().len(), 41, "{set}");
    }
    for gone in [
        "/linux/seccomp",
        "/linux/maskedPaths",
        "/linux/readonlyPaths",
        "/linux/mountLabel",
        "/process/apparmorProfile",
        "/process/selinuxLabel",
    ] {
        assert_eq!(config.pointer(gone), None, "{gone}");
    }
    assert_eq!(config["linux"]["devices"][0]["path"], "/dev/kmsg");
    let rules = json!([{"allow": true, "access": "rwm"}]);
    assert_eq!(config["linux"]["resources"]["devices"], rules);
    for path in ["/sys", "/sys/fs/cgroup"] {
        assert!(options(&config, path).contains(&json!("rw")), "{path}");
    }
    let kinds = kinds(&config);
    assert!(!kinds.contains(&json!("cgroup")), "{kinds:?}");
}

#[test]
fn seccomp_is_the_default_a_file_or_none() {
    table(
        "/linux/seccomp/defaultAction",
        &[
            ("unconfined", |_| {}, Value::Null),
            (
                "default",
                |w| w.container.spec.security.seccomp = Profile::RuntimeDefault,
                json!(default_action()),
            ),
            (
                "of a file",
                |w| {
                    w.container.spec.security.seccomp = Profile::Localhost("/p.json".into());
                    w.host.seccomp = Some(of_file());
                },
                json!("SCMP_ACT_KILL"),
            ),
            (
                "the configuration's in place of the default",
                |w| {
                    w.container.spec.security.seccomp = Profile::RuntimeDefault;
                    w.host.seccomp = Some(of_file());
                },
                json!("SCMP_ACT_KILL"),
            ),
            (
                "unconfined, whatever the configuration has",
                |w| w.host.seccomp = Some(of_file()),
                Value::Null,
            ),
        ],
    );
    // What a capability is for, its holder may call.
    let calls = |names: &[&str]| {
        let mut world = world();
        world.container.spec.security.seccomp = Profile::RuntimeDefault;
        add(&mut world, names);
        world.config().unwrap()["linux"]["seccomp"].to_string()
    };
    assert_ne!(calls(&[]), calls(&["SYS_ADMIN"]));
    assert_eq!(calls(&[]), calls(&["NET_RAW"]));
    // Programs have another compiler of profiles, which takes less.
    let handled = |handler: &str| {
        let mut world = world();
        world.container.spec.security.seccomp = Profile::RuntimeDefault;
        world.pod.handler = handler.into();
        world.config().unwrap()["linux"]["seccomp"].to_string()
    };
    assert_eq!(handled(""), handled("floe"));
    assert_ne!(handled("floe"), handled("runc"));
}

fn of_file() -> spec::Seccomp {
    serde_json::from_value(json!({"defaultAction": "SCMP_ACT_KILL"})).unwrap()
}

fn default_action() -> String {
    let names = DEFAULT.map(String::from);
    let profile = serde_json::to_value(runtime::seccomp::default_profile(&names)).unwrap();
    profile["defaultAction"].as_str().unwrap().to_owned()
}

#[test]
fn apparmor_is_asked_for_by_name_and_the_default_is_none_where_there_is_none() {
    table(
        "/process/apparmorProfile",
        &[
            ("unconfined", |w| w.host.apparmor = true, Value::Null),
            (
                "default",
                |w| {
                    w.host.apparmor = true;
                    w.container.spec.security.apparmor = Profile::RuntimeDefault;
                },
                json!(runtime::apparmor::DEFAULT_PROFILE),
            ),
            (
                "default of a node without",
                |w| w.container.spec.security.apparmor = Profile::RuntimeDefault,
                Value::Null,
            ),
            (
                "a default of none",
                |w| {
                    w.host.apparmor = true;
                    w.runtime.apparmor_profile = "unconfined".into();
                    w.container.spec.security.apparmor = Profile::RuntimeDefault;
                },
                Value::Null,
            ),
            (
                "by name",
                |w| {
                    w.host.apparmor = true;
                    w.container.spec.security.apparmor = Profile::Localhost("strict".into());
                },
                json!("strict"),
            ),
        ],
    );
}

#[test]
fn selinux_labels_have_their_usual_parts_where_none_are_given() {
    fn labelled(w: &mut World, label: &str) {
        w.host.selinux = true;
        w.container.spec.security.selinux = Some(label.into());
    }
    table(
        "/process/selinuxLabel",
        &[
            ("none", |w| w.host.selinux = true, Value::Null),
            (
                "a type",
                |w| labelled(w, "::spc_t:"),
                json!("system_u:system_r:spc_t:s0"),
            ),
            (
                "all",
                |w| labelled(w, "u:r:t:s0:c1,c2"),
                json!("u:r:t:s0:c1,c2"),
            ),
        ],
    );
    table(
        "/linux/mountLabel",
        &[
            ("none", |_| {}, Value::Null),
            (
                "the level goes to the files",
                |w| labelled(w, "u:r:t:s0:c1,c2"),
                json!("system_u:object_r:container_file_t:s0:c1,c2"),
            ),
        ],
    );
}

#[test]
fn what_the_node_cannot_enforce_is_refused_and_so_is_what_does_not_exist() {
    refused(&[
        (
            "privileged in a pod that is not",
            |w| w.container.spec.security.privileged = true,
            "the pod is not privileged",
        ),
        (
            "AppArmor by name",
            |w| w.container.spec.security.apparmor = Profile::Localhost("strict".into()),
            "this node has no AppArmor",
        ),
        (
            "SELinux",
            |w| w.container.spec.security.selinux = Some("::t:".into()),
            "this node has no SELinux",
        ),
        ("added", |w| add(w, &["FLY"]), "\"FLY\""),
        ("dropped", |w| drop_(w, &["SWIM"]), "\"SWIM\""),
        (
            "ambient",
            |w| w.container.spec.security.add_ambient_capabilities = strings(&["ALL"]),
            "\"ALL\"",
        ),
        (
            "a shared PID namespace that is not there",
            |w| w.pod.spec.namespaces.pid = NamespaceMode::Container,
            "without a shared PID namespace",
        ),
        (
            "propagation to a place that is not shared",
            |w| w.mounts("/m", |m, _| m.propagation = Propagation::Bidirectional),
            "is not on a shared mount",
        ),
        (
            "access to a device",
            |w| {
                w.container.spec.devices = vec![Device {
                    permissions: "rx".into(),
                    ..Device::default()
                }];
                w.host.devices.asked = vec![vec![asked("/dev/x", device("/dev/x", 1, 2))]];
            },
            "'x' is none of r, w, m",
        ),
        (
            "owners of a file system that maps none",
            |w| {
                w.mounts("/m", |m, s| {
                    m.ids = Some(UserIds::default());
                    s.unmapped = Some("nfs4".into());
                });
            },
            "mounts[/m].host_path: /src is on a file system of type nfs4",
        ),
        (
            "a limit",
            |w| w.runtime.default_ulimits = strings(&["nofile=many"]),
            "default_ulimits",
        ),
        (
            "less memory",
            |w| w.container.spec.resources.memory_limit = -1,
            "is negative",
        ),
        (
            "swap",
            |w| {
                w.container.spec.resources.memory_limit = 2048;
                w.container.spec.resources.memory_swap_limit = 1024;
            },
            "below the memory limit",
        ),
    ]);
}

#[test]
fn masked_and_read_only_paths_are_those_of_the_request() {
    table(
        "/linux/maskedPaths",
        &[
            ("none", |_| {}, Value::Null),
            (
                "some",
                |w| w.container.spec.security.masked_paths = strings(&["/proc/kcore"]),
                json!(["/proc/kcore"]),
            ),
        ],
    );
    table(
        "/linux/readonlyPaths",
        &[(
            "some",
            |w| w.container.spec.security.readonly_paths = strings(&["/proc/sys", "/proc/bus"]),
            json!(["/proc/sys", "/proc/bus"]),
        )],
    );
    table(
        "/root/readonly",
        &[
            ("writable", |_| {}, Value::Null),
            (
                "by the request",
                |w| w.container.spec.security.readonly_rootfs = true,
                json!(true),
            ),
            (
                "by the configuration",
                |w| w.runtime.read_only = true,
                json!(true),
            ),
        ],
    );
    table(
        "/process/noNewPrivileges",
        &[(
            "asked for",
            |w| w.container.spec.security.no_new_privs = true,
            json!(true),
        )],
    );
}
