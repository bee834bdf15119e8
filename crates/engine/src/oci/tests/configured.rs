//! What keys of the configuration and allowed annotations of the pod change.

use super::*;

/// The pod's handler allows the annotations, which the pod has.
fn annotated(world: &mut World, pairs: &[(&str, &str)]) {
    let entry = world.entry.get_or_insert_default();
    for (key, value) in pairs {
        let name = key.split('/').next().unwrap();
        entry.allowed_annotations.push(name.to_owned());
        let all = &mut world.pod.spec.annotations;
        all.insert((*key).to_owned(), (*value).to_owned());
    }
}

#[test]
fn a_umask_is_the_annotations_if_it_is_allowed() {
    table(
        "/process/user/umask",
        &[
            ("none", |_| {}, Value::Null),
            (
                "now",
                |w| annotated(w, &[("umask.crio.io", "077")]),
                json!(0o77),
            ),
            (
                "as before",
                |w| annotated(w, &[("io.kubernetes.cri-o.umask", "22")]),
                json!(0o22),
            ),
            (
                "not allowed",
                |w| {
                    annotated(w, &[("umask.crio.io", "077")]);
                    w.entry.as_mut().unwrap().allowed_annotations.clear();
                },
                Value::Null,
            ),
        ],
    );
    refused(&[(
        "no mask",
        |w| annotated(w, &[("umask.crio.io", "9")]),
        "annotations[umask.crio.io]",
    )]);
}

#[test]
fn files_of_cgroup_v2_are_those_of_the_container_that_the_annotation_names() {
    let name = |w: &mut World| w.container.spec.name = "web".into();
    let mut world = world();
    name(&mut world);
    let annotation = (
        "unified-cgroup.crio.io/web",
        "memory.high=MTAw;cpu.weight=7",
    );
    annotated(&mut world, &[annotation]);
    let own = &mut world.container.spec.resources.unified;
    own.insert("memory.high".into(), "5".into());
    own.insert("memory.low".into(), "6".into());
    let config = world.config().unwrap();
    let unified = json!({"cpu.weight": "7", "memory.high": "100", "memory.low": "6"});
    assert_eq!(config["linux"]["resources"]["unified"], unified);
    world.container.spec.name = "other".into();
    let config = world.config().unwrap();
    let unified = json!({"memory.high": "5", "memory.low": "6"});
    assert_eq!(config["linux"]["resources"]["unified"], unified);
}

#[test]
fn cgroups_are_writable_where_the_annotation_says_so_on_v2_alone() {
    let annotation = &[("cgroup2-mount-hierarchy-rw.crio.io", "true")];
    for (v2, asked, access) in [(true, true, "rw"), (true, false, "ro"), (false, true, "ro")] {
        let mut world = world();
        world.host.cgroup_v2 = v2;
        if asked {
            annotated(&mut world, annotation);
        }
        let config = world.config().unwrap();
        let found = options(&config, "/sys/fs/cgroup");
        assert!(found.contains(&json!(access)), "{v2} {asked}: {found:?}");
    }
}

#[test]
fn go_programs_are_told_of_processors_where_there_is_no_limit() {
    let told = |change: fn(&mut World)| {
        let mut world = world();
        world.runtime.min_injected_gomaxprocs = 4;
        world.pod.cgroup = "/kubepods/burstable/podx".into();
        change(&mut world);
        let config = world.config().unwrap();
        let env = config["process"]["env"].as_array().unwrap().clone();
        let found = env.iter().filter_map(Value::as_str);
        let found: Vec<_> = found
            .filter_map(|one| one.strip_prefix("GOMAXPROCS="))
            .map(str::to_owned)
            .collect();
        found
    };
    let none = Vec::<String>::new();
    assert_eq!(told(|_| {}), ["4"]);
    // Twice what is asked for, rounded up.
    assert_eq!(
        told(|w| w.container.spec.resources.cpu_shares = 2600),
        ["6"]
    );
    assert_eq!(told(|w| w.container.spec.resources.cpu_quota = 5000), none);
    assert_eq!(told(|w| w.runtime.min_injected_gomaxprocs = 0), none);
    assert_eq!(told(|w| w.pod.cgroup = "/kubepods/podx".into()), none);
    assert_eq!(
        told(|w| annotated(w, &[("skip-gomaxprocs.crio.io", "true")])),
        none
    );
    let own = |w: &mut World| w.runtime.default_env = vec!["GOMAXPROCS=1".into()];
    assert_eq!(told(own), ["1"]);
}

#[test]
fn commands_begin_on_the_first_processor_of_a_container_that_has_its_own() {
    let first = |w: &mut World| w.entry.get_or_insert_default().exec_cpu_affinity = "first".into();
    let mut world = world();
    first(&mut world);
    let config = world.config().unwrap();
    assert_eq!(config["process"]["execCPUAffinity"], Value::Null);
    world.container.spec.resources.cpuset_cpus = "3-5,7".into();
    let config = world.config().unwrap();
    let affinity = json!({"initial": "3", "final": "3"});
    assert_eq!(config["process"]["execCPUAffinity"], affinity);
    world.entry = None;
    let config = world.config().unwrap();
    assert_eq!(config["process"]["execCPUAffinity"], Value::Null);
}

#[test]
fn inheritable_capabilities_are_all_of_them_if_the_configuration_says_so() {
    let mut world = world();
    world.runtime.default_capabilities = strings(&["CHOWN"]);
    let config = world.config().unwrap();
    assert_eq!(
        config["process"]["capabilities"]["inheritable"],
        Value::Null
    );
    world.runtime.add_inheritable_capabilities = true;
    let config = world.config().unwrap();
    let all = json!(["CAP_CHOWN"]);
    assert_eq!(config["process"]["capabilities"]["inheritable"], all);
}

#[test]
fn devices_of_the_configuration_come_with_their_rules_and_the_requests_own_win() {
    let mut world = world();
    let given = |path: &str, mode: &str| Device {
        container_path: path.into(),
        host_path: path.into(),
        permissions: mode.into(),
    };
    let fuse = given("/dev/fuse", "r");
    let node = asked("/dev/fuse", device("/dev/fuse", 10, 229));
    world.host.devices.given = vec![(fuse, vec![node.clone()])];
    let config = world.config().unwrap();
    assert_eq!(config["linux"]["devices"][0]["path"], "/dev/fuse");
    let rules = config["linux"]["resources"]["devices"].as_array().unwrap();
    assert_eq!(rules.last().unwrap()["access"], "r");
    // Its owner is the node's, and that of one which is asked for the container's.
    world.runtime.device_ownership_from_security_context = true;
    world.container.spec.security.run_as_user = Some(1000);
    let config = world.config().unwrap();
    assert_eq!(config["linux"]["devices"][0]["uid"], 0);
    world.container.spec.devices.push(given("/dev/fuse", "rw"));
    world.host.devices.asked = vec![vec![node]];
    let config = world.config().unwrap();
    let all = config["linux"]["devices"].as_array().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0]["uid"], &all[0]["gid"]), (&json!(1000), &json!(5)));
}

#[test]
fn a_pod_may_ask_for_the_devices_that_are_allowed_alone() {
    let given = |world: &World| {
        let inputs = Inputs {
            cdi_devices: &[],
            runtime: &world.runtime,
            entry: world.entry.as_ref(),
            pod: &world.pod,
            container: &world.container,
            image: &world.image,
        };
        let all = crate::oci::devices::given(&inputs)?;
        Ok::<_, Error>(
            all.into_iter()
                .map(|one| one.container_path)
                .collect::<Vec<_>>(),
        )
    };
    let mut world = world();
    world.runtime.additional_devices = vec!["/dev/net/tun:/dev/tun:rw".into()];
    annotated(&mut world, &[("devices.crio.io", "/dev/fuse:/dev/f,")]);
    let paths = given(&world).unwrap();
    assert_eq!(paths, ["/dev/tun", "/dev/f"].map(std::path::PathBuf::from));
    for bad in ["/dev/sda", "/dev/fuse:/etc/x", "fuse"] {
        annotated(&mut world, &[("devices.crio.io", bad)]);
        let error = given(&world).unwrap_err().to_string();
        assert!(error.contains("annotations[devices.crio.io]"), "{error}");
    }
}

#[test]
fn privileged_containers_have_the_profile_that_the_configuration_names() {
    let profile = |world: &World| world.config().unwrap()["linux"]["seccomp"].clone();
    let mut world = world();
    world.privileged();
    assert_eq!(profile(&world), Value::Null);
    world.host.seccomp = Some(spec::Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        ..spec::Seccomp::default()
    });
    assert_eq!(profile(&world)["defaultAction"], "SCMP_ACT_ERRNO");
    for none in ["", "unconfined"] {
        world.runtime.privileged_seccomp_profile = none.into();
        assert_eq!(world.runtime.privileged_profile(), None);
    }
}

#[test]
fn a_class_of_block_io_is_that_of_the_container_or_of_its_pod() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("blockio.yaml");
    let text = "Classes:\n  low:\n  - Weight: \"20\"\n  high:\n  - Weight: \"900\"\n";
    std::fs::write(&file, text).unwrap();
    let mut world = world();
    world.container.spec.name = "web".into();
    let weight = |world: &World| {
        let config = world.config()?;
        Ok::<_, Error>(config["linux"]["resources"]["blockIO"]["weight"].clone())
    };
    let key = "blockio.resources.beta.kubernetes.io/pod";
    world.pod.spec.annotations.insert(key.into(), "low".into());
    assert_eq!(weight(&world).unwrap(), Value::Null, "no file");
    world.runtime.blockio_config_file = file;
    assert_eq!(weight(&world).unwrap(), 20);
    let key = "blockio.resources.beta.kubernetes.io/container.web";
    world.pod.spec.annotations.insert(key.into(), "high".into());
    assert_eq!(weight(&world).unwrap(), 900);
    let own = "io.kubernetes.cri.blockio-class";
    world
        .container
        .spec
        .annotations
        .insert(own.into(), "none".into());
    let error = weight(&world).unwrap_err().to_string();
    assert!(error.contains(own) && error.contains("no class"), "{error}");
}

#[test]
fn a_class_of_rdt_is_refused_by_the_annotation_that_asks_for_it() {
    let mut world = world();
    world.container.spec.name = "web".into();
    assert!(world.config().is_ok());
    for key in [
        "rdt.resources.beta.kubernetes.io/pod",
        "rdt.resources.beta.kubernetes.io/container.web",
    ] {
        world.pod.spec.annotations = [(key.to_owned(), "gold".to_owned())].into();
        let error = world.config().unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("gold"), "{error}");
    }
    let other = "rdt.resources.beta.kubernetes.io/container.other";
    world.pod.spec.annotations = [(other.to_owned(), "gold".to_owned())].into();
    assert!(world.config().is_ok());
}

#[test]
fn what_a_profile_refuses_by_name_goes_to_the_supervisor_if_the_annotation_asks_for_it() {
    let mut world = world();
    world.host.seccomp_socket = "/run/floe/seccomp/c1".into();
    world.container.spec.security.seccomp = Profile::RuntimeDefault;
    let profile = |world: &World| world.config().unwrap()["linux"]["seccomp"].clone();
    let rule = |profile: &Value, call: &str| {
        let all = profile["syscalls"].as_array().unwrap().clone();
        let mut its = all.into_iter().filter(|rule| {
            let names = rule["names"].as_array().unwrap();
            names.contains(&json!(call))
        });
        its.next().unwrap()["action"].clone()
    };
    assert_eq!(rule(&profile(&world), "swapoff"), "SCMP_ACT_ERRNO");
    annotated(&mut world, &[("seccomp-notifier-action.crio.io", "stop")]);
    let changed = profile(&world);
    assert_eq!(rule(&changed, "swapoff"), "SCMP_ACT_NOTIFY");
    assert_eq!(rule(&changed, "read"), "SCMP_ACT_ALLOW");
    assert_eq!(changed["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(changed["listenerPath"], "/run/floe/seccomp/c1");
    assert_eq!(changed["listenerMetadata"], "floe-supervisor:stop");
    // One that has its own agent keeps it.
    world.container.spec.security.seccomp = Profile::Localhost("/p".into());
    world.host.seccomp = Some(spec::Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        listener_path: "/own".into(),
        ..spec::Seccomp::default()
    });
    assert_eq!(profile(&world)["listenerPath"], "/own");
}

#[test]
fn a_container_on_the_nodes_network_has_a_label_only_if_the_configuration_wants_it() {
    let label = |own: bool, disable: bool| {
        let mut world = world();
        world.host.selinux = true;
        world.container.spec.security.selinux = Some("::t:".into());
        world.runtime.hostnetwork_disable_selinux = disable;
        if !own {
            world.pod.spec.namespaces.network = NamespaceMode::Node;
        }
        !world.config().unwrap()["process"]["selinuxLabel"].is_null()
    };
    assert!(label(true, true));
    assert!(!label(false, true));
    assert!(label(false, false));
}

#[test]
fn a_mount_of_what_is_read_only_on_the_node_is_read_only_inside() {
    let mut world = world();
    world.mounts("/data", |_, source| source.read_only = true);
    world.mounts("/more", |_, _| {});
    let config = world.config().unwrap();
    assert!(options(&config, "/data").contains(&json!("ro")));
    assert!(options(&config, "/more").contains(&json!("rw")));
}

#[test]
fn what_every_container_gets_mounted_is_read_only_and_gives_way_to_the_requests_mounts() {
    let mut world = world();
    let pair = crate::oci::default_mounts::Pair {
        source: "/usr/share/secrets".into(),
        target: "/run/secrets".into(),
    };
    world.host.default_mounts = vec![pair];
    let config = world.config().unwrap();
    assert!(options(&config, "/run/secrets").contains(&json!("ro")));
    world.mounts("/run/secrets", |_, _| {});
    let config = world.config().unwrap();
    assert!(options(&config, "/run/secrets").contains(&json!("rw")));
}
