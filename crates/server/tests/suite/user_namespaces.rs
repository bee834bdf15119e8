//! Pods with a user namespace of their own (CRI userns_options, mode POD): whose their files, volumes,
//! namespaces and processes are, inside and on the node.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::common::{Pod, World, image_spec, pod_security, refused, secured, security, world};
use cri::*;
use testkit::images::Entry;
use tonic::Code;

/// The ids of the pods' roots on the node.
pub(crate) const FIRST: u32 = 2_000_000;
const SECOND: u32 = 3_000_000;
const LENGTH: u32 = 65_536;

pub(crate) fn range(host_id: u32) -> Vec<IdMapping> {
    vec![IdMapping {
        host_id,
        container_id: 0,
        length: LENGTH,
    }]
}

/// A user namespace of its own with these ids.
pub(crate) fn users(host_id: u32) -> Option<UserNamespace> {
    Some(UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: range(host_id),
        gids: range(host_id),
    })
}

/// A pod's configuration with these ids.
pub(crate) fn mapped(world: &World, name: &str, host_id: u32) -> PodSandboxConfig {
    let mut config = world.pod_config(name);
    options(&mut config).userns_options = users(host_id);
    config
}

fn options(config: &mut PodSandboxConfig) -> &mut NamespaceOption {
    pod_security(config)
        .namespace_options
        .get_or_insert_default()
}

/// A container as kubelet sends it for such a pod.
pub(crate) fn of(host_id: u32, config: ContainerConfig) -> ContainerConfig {
    secured(config, |security| {
        let options = security.namespace_options.get_or_insert_default();
        options.userns_options = users(host_id);
    })
}

fn sleeper(world: &World, name: &str, host_id: u32) -> ContainerConfig {
    of(host_id, world.container(name, &["sleep", "1000"]))
}

/// A volume as kubelet sends it for such a pod.
fn volume(place: &str, path: &Path, host_id: u32) -> Mount {
    Mount {
        container_path: place.into(),
        host_path: path.display().to_string(),
        uid_mappings: range(host_id),
        gid_mappings: range(host_id),
        ..Default::default()
    }
}

async fn sh(world: &World, id: &str, script: &str) -> String {
    world.said(id, &["sh", "-c", script]).await
}

/// User and group of a process on the node.
fn owner(pid: &serde_json::Value) -> (u32, u32) {
    let meta = std::fs::metadata(format!("/proc/{pid}")).unwrap();
    (meta.uid(), meta.gid())
}

async fn handlers(world: &World) -> Vec<RuntimeHandler> {
    let status = world.runtime().status(StatusRequest::default()).await;
    let status = status.unwrap().into_inner();
    assert!(status.features.unwrap().user_namespaces_host_network);
    status.runtime_handlers
}

#[test]
fn root_of_a_pod_is_nobody_on_the_node_and_owns_what_its_image_and_its_pod_give_it() {
    world(async |world| {
        let all = handlers(world).await;
        let default = all.iter().find(|one| one.name.is_empty()).unwrap();
        assert!(default.features.unwrap().user_namespaces, "{all:?}");
        let mut config = mapped(world, "a", FIRST);
        config.linux.as_mut().unwrap().sysctls = [
            ("kernel.shmmax", "123456"),
            ("net.ipv4.ip_unprivileged_port_start", "7"),
            ("kernel.domainname", "example"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let pod = world.pod_of(config).await;
        let id = world
            .create(&pod, sleeper(world, "main", FIRST))
            .await
            .unwrap();
        world.start(&id).await.unwrap();
        assert_eq!(owner(&world.info(&id).await["pid"]), (FIRST, FIRST));
        let map = sh(world, &id, "cat /proc/self/uid_map /proc/self/gid_map").await;
        let fields: Vec<&str> = map.split_whitespace().collect();
        let first = FIRST.to_string();
        let one = ["0", first.as_str(), "65536"];
        assert_eq!(fields, [one, one].concat());
        // What comes from the image, the runtime and the pod is root's, and can be written.
        let owners = "stat -c %u:%g / /bin/sh /dev/shm /etc/hostname /etc/resolv.conf | sort -u";
        assert_eq!(sh(world, &id, owners).await, "0:0");
        // Whoever joins it later is in the image, and nothing of the node is below.
        let roots = "cat /proc/1/root/etc/passwd | head -1; ls /../boot /work 2>&1; wc -l </proc/self/mountinfo";
        let roots = sh(world, &id, roots).await;
        assert!(
            roots.starts_with("root:x:0:0:root:/root:/bin/sh"),
            "{roots}"
        );
        assert_eq!(roots.matches("No such file").count(), 2, "{roots}");
        let write = "echo x >>/etc/resolv.conf; echo x >/dev/shm/x; echo new >/new; chown 5:6 /new; \
                     rm /bin/wc; mkdir /d; stat -c %u:%g /new";
        assert_eq!(sh(world, &id, write).await, "5:6");
        let sysctls = "cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_unprivileged_port_start \
                       /proc/sys/kernel/domainname; hostname";
        assert_eq!(sh(world, &id, sysctls).await, "123456\n7\nexample\na");
        // The layers are whose they were, and what was written is on disk as it is inside.
        let upper = world.node.path("root/containers").join(&id).join("upper");
        let meta = std::fs::metadata(upper.join("new")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (5, 6));
        let meta = std::fs::metadata(upper.join("d")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (0, 0));
        // CRI shows the mapping of the pod.
        let shown = world.pod_status(&pod).await.unwrap().linux.unwrap();
        let shown = shown.namespaces.unwrap().options.unwrap().userns_options;
        assert_eq!(shown, users(FIRST));
        world.remove_pod(&pod).await.unwrap();
    });
}

#[test]
fn pods_of_other_ids_share_an_image_and_read_nothing_of_each_other() {
    world(async |world| {
        let volume_of = |name: &str| {
            let path = world.node.path(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777)).unwrap();
            path
        };
        let (shared, own) = (volume_of("shared"), volume_of("own"));
        let pods = [
            world.pod_of(mapped(world, "a", FIRST)).await,
            world.pod_of(mapped(world, "b", SECOND)).await,
        ];
        let mut ids = Vec::new();
        for (pod, host_id) in pods.iter().zip([FIRST, SECOND]) {
            let mut config = sleeper(world, "main", host_id);
            config.mounts = vec![volume("/own", &own, host_id)];
            // Without ids: as a hostPath of a client that maps nothing.
            config.mounts.push(Mount {
                container_path: "/shared".into(),
                host_path: shared.display().to_string(),
                ..Default::default()
            });
            let id = world.create(pod, config).await.unwrap();
            world.start(&id).await.unwrap();
            ids.push(id);
        }
        let write = "umask 077; echo secret >/shared/secret; echo mine >/own/mine; id -u";
        assert_eq!(sh(world, &ids[0], write).await, "0");
        let meta = |path: &Path| std::fs::metadata(path).unwrap();
        assert_eq!(meta(&shared.join("secret")).uid(), FIRST);
        assert_eq!(meta(&own.join("mine")).uid(), 0, "the volume is mapped");
        let look = "cat /shared/secret 2>&1; rm -f /shared/secret 2>/dev/null; stat -c %u /shared/secret; \
                    cat /own/mine";
        let seen = sh(world, &ids[1], look).await;
        let lines: Vec<&str> = seen.lines().collect();
        assert!(lines[0].contains("Permission denied"), "{seen}");
        // Nobody's, whose ids are not those of the pod. The volume that both have mapped is both's.
        assert_eq!(lines.last(), Some(&"mine"), "{seen}");
        std::fs::write(own.join("nodes"), "").unwrap();
        chown(own.join("nodes"), Some(7), Some(8)).unwrap();
        for id in &ids {
            assert_eq!(sh(world, id, "stat -c %u:%g /own/nodes").await, "7:8");
        }
        for pod in &pods {
            world.remove_pod(pod).await.unwrap();
        }
    });
}

/// In the PID namespace of its pod.
fn shared(world: &World, name: &str) -> ContainerConfig {
    of(FIRST, world.config(name, &["sleep", "1000"]))
}

#[test]
fn a_killed_engine_finds_the_mapping_again_and_makes_containers_in_it() {
    world(async |world| {
        let mut config = mapped(world, "a", FIRST);
        options(&mut config).pid = NamespaceMode::Pod.into();
        let pod = world.pod_of(config).await;
        let before = world.create(&pod, shared(world, "before")).await.unwrap();
        world.start(&before).await.unwrap();
        world.node.kill().unwrap();
        world.serve_again().await;
        let shown = world.pod_status(&pod).await.unwrap().linux.unwrap();
        let shown = shown.namespaces.unwrap().options.unwrap().userns_options;
        assert_eq!(shown, users(FIRST));
        let after = world.create(&pod, shared(world, "after")).await.unwrap();
        world.start(&after).await.unwrap();
        let namespace = "for kind in user net ipc pid; do readlink /proc/self/ns/$kind; done";
        let both = [
            sh(world, &before, namespace).await,
            sh(world, &after, namespace).await,
        ];
        assert_eq!(both[0], both[1]);
        // The first process of the shared PID namespace is nobody's, and holds nothing.
        let first =
            "stat -c %u /proc/1; ls -l /proc/1/root 2>&1; kill -9 1; sleep 0.1; cat /proc/1/comm";
        let first = sh(world, &after, first).await;
        assert!(first.ends_with("floe-pod-init"), "{first}");
        assert!(!first.contains("->"), "{first}");
        world.stop(&before, 0).await.unwrap();
        world.stop_pod(&pod).await.unwrap();
        assert_eq!(world.ended(&after).await.exit_code, 137);
        world.remove_pod(&pod).await.unwrap();
    });
}

#[test]
fn a_pod_on_the_nodes_network_and_ipc_has_a_user_namespace_too() {
    world(async |world| {
        let mut config = mapped(world, "a", FIRST);
        config.hostname = String::new();
        let asked = options(&mut config);
        asked.network = NamespaceMode::Node.into();
        asked.ipc = NamespaceMode::Node.into();
        let pod = world.pod_of(config).await;
        let mut config = sleeper(world, "main", FIRST);
        let own = &mut security(&mut config).namespace_options;
        own.as_mut().unwrap().network = NamespaceMode::Node.into();
        own.as_mut().unwrap().ipc = NamespaceMode::Node.into();
        let id = world.create(&pod, config).await.unwrap();
        world.start(&id).await.unwrap();
        let node = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let inside = sh(
            world,
            &id,
            "readlink /proc/self/ns/net; cut -c1-20 /proc/self/uid_map; ip link show lo",
        )
        .await;
        assert!(inside.starts_with(node.to_str().unwrap()), "{inside}");
        assert!(inside.contains("lo"), "{inside}");
        // It has no rights over the network that it sees.
        let denied = sh(
            world,
            &id,
            "ip link set lo down 2>&1; hostname other 2>&1; true",
        )
        .await;
        assert_eq!(denied.matches("not permitted").count(), 2, "{denied}");
        world.remove_pod(&pod).await.unwrap();
    });
}

#[test]
fn what_contradicts_the_pods_user_namespace_is_refused_by_name() {
    world(async |world| {
        let pod = world.pod_of(mapped(world, "a", FIRST)).await;
        let plain = world.pod("b").await;
        let refuse = async |pod: &Pod, config: ContainerConfig, words: &[&str]| {
            let answer = world.create(pod, config).await;
            refused(answer, Code::InvalidArgument, words);
        };
        let field = "userns_options";
        refuse(&pod, sleeper(world, "other", SECOND), &[field, "differs"]).await;
        refuse(&plain, sleeper(world, "none", FIRST), &[field, "differs"]).await;
        let node = secured(world.container("node", &["true"]), |security| {
            let options = security.namespace_options.as_mut().unwrap();
            options.userns_options = Some(UserNamespace {
                mode: NamespaceMode::Node.into(),
                ..Default::default()
            });
        });
        refuse(&pod, node.clone(), &[field, "differs"]).await;
        let mut config = sleeper(world, "user", FIRST);
        security(&mut config).run_as_user = Some(Int64Value { value: 65_536 });
        refuse(&pod, config, &["run_as_user", "65536"]).await;
        let mut config = sleeper(world, "group", FIRST);
        security(&mut config).supplemental_groups = vec![70_000];
        refuse(&pod, config, &["group 70000"]).await;
        let mut config = sleeper(world, "volume", FIRST);
        config.mounts = vec![volume("/data", Path::new("/sys/kernel"), FIRST)];
        refuse(&pod, config, &["/data", "/sys/kernel", "sysfs"]).await;
        let mut config = sleeper(world, "half", FIRST);
        config.mounts = vec![volume("/data", Path::new("/srv"), FIRST)];
        config.mounts[0].gid_mappings.clear();
        refuse(&pod, config, &["mounts[0]", "gidMappings"]).await;
        // One that says nothing is in the pod's.
        let id = world
            .run(&pod, world.container("silent", &["sleep", "1000"]))
            .await;
        assert_eq!(owner(&world.info(&id).await["pid"]).0, FIRST);
        world.run(&plain, node).await;
        for (mode, words) in [
            (NamespaceMode::Container, &["userns_options.mode"][..]),
            (NamespaceMode::Target, &["userns_options.mode"]),
            (NamespaceMode::Node, &["NODE takes no mappings"]),
        ] {
            let mut config = mapped(world, "c", FIRST);
            let users = options(&mut config).userns_options.as_mut().unwrap();
            users.mode = mode.into();
            refused(world.try_pod(&config).await, Code::InvalidArgument, words);
        }
    });
}

#[test]
fn users_groups_and_a_terminal_are_those_of_the_namespace() {
    world(async |world| {
        let passwd = b"root:x:0:0::/:/bin/sh\njoe:x:1000:1000::/:/bin/sh\n";
        let group = b"root:x:0:\njoe:x:1000:\nextra:x:2000:joe\n";
        let files = [
            Entry::File("etc/passwd", 0o644, passwd),
            Entry::File("etc/group", 0o644, group),
        ];
        let users = testkit::images::layer(&files).unwrap();
        let layers = [testkit::images::busybox().unwrap(), users];
        let name = world
            .push("test/users:1", &layers, serde_json::json!({"User": "joe"}))
            .await;
        world.pull(&name).await.unwrap();
        let pod = world.pod_of(mapped(world, "a", FIRST)).await;
        let mut config = of(
            FIRST,
            world.script("main", "id; tty; cat /proc/self/setgroups"),
        );
        config.image = Some(image_spec(&name));
        config.tty = true;
        security(&mut config).supplemental_groups = vec![3000];
        let (code, said) = world.ran(&pod, config).await;
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains("uid=1000(joe) gid=1000(joe) groups="),
            "{said}"
        );
        assert!(
            said.contains("2000(extra)") && said.contains("3000"),
            "{said}"
        );
        assert!(
            said.contains("/dev/pts/") && said.contains("allow"),
            "{said}"
        );
    });
}

#[test]
fn root_with_every_right_in_its_user_namespace_has_none_over_the_node() {
    world(async |world| {
        let secret = world.node.path("secret");
        std::fs::write(&secret, "of the node\n").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut config = mapped(world, "a", FIRST);
        pod_security(&mut config).privileged = true;
        let pod = world.pod_of(config).await;
        let mut config = sleeper(world, "main", FIRST);
        security(&mut config).privileged = true;
        config.mounts = vec![Mount {
            container_path: "/secret".into(),
            host_path: secret.display().to_string(),
            ..Default::default()
        }];
        let id = world.create(&pod, config).await.unwrap();
        world.start(&id).await.unwrap();
        let rights = sh(world, &id, "grep CapEff /proc/self/status | cut -f2").await;
        assert_ne!(
            u64::from_str_radix(&rights, 16).unwrap() & (1 << 21),
            0,
            "CAP_SYS_ADMIN"
        );
        // Each is tried; what succeeds is said.
        for attack in [
            "cat /secret",
            "chown 0 /secret",
            "mknod /disk b 254 0",
            "mount -t ext4 /dev/vda /tmp",
            "head -c 1 /dev/vda",
            "head -c 1 /proc/kcore",
            "echo h >/proc/sysrq-trigger",
            "echo x >/proc/sys/kernel/core_pattern",
            "echo 1 >/proc/sys/vm/drop_caches",
            "echo 0 >/sys/kernel/mm/ksm/run",
            "mkdir $(ls -d /sys/fs/cgroup/memory || echo /sys/fs/cgroup)/mine",
            "echo 1 >$(ls -d /sys/fs/cgroup/memory || echo /sys/fs/cgroup)/cgroup.procs",
            "mount -t cgroup -o memory none /tmp",
            // busybox's has succeeded whatever the kernel says.
            "! date -s \"$(date '+%Y-%m-%d %H:%M:%S')\" 2>&1 | grep -q \"can't set date\"",
            "dmesg -c | head -c 1 | grep .",
        ] {
            let script = format!("( {attack} ) >/dev/null 2>&1 && echo succeeded || echo denied");
            assert_eq!(sh(world, &id, &script).await, "denied", "{attack}");
        }
        assert_eq!(std::fs::metadata(&secret).unwrap().uid(), 0);
        // What is its own it may change: mounts, its network, its host name.
        let own = "mount -t tmpfs none /tmp && ip link set lo down && ip link set lo up && hostname b && hostname";
        assert_eq!(sh(world, &id, own).await, "b");
        world.remove_pod(&pod).await.unwrap();
    });
}

#[test]
fn a_device_is_that_of_the_node_wherever_it_is_inside() {
    world(async |world| {
        let pod = world.pod_of(mapped(world, "a", FIRST)).await;
        let mut config = of(
            FIRST,
            world.script(
                "main",
                "ls -l /dev/mine /dev/null; head -c 3 /dev/mine | wc -c",
            ),
        );
        config.devices = vec![Device {
            container_path: "/dev/mine".into(),
            host_path: "/dev/zero".into(),
            permissions: "rw".into(),
        }];
        let (code, said) = world.ran(&pod, config).await;
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("1,   5") && said.ends_with('3'), "{said}");
    });
}
