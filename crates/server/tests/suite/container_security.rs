//! CRI: what confines a container. Capabilities, privilege, hidden and read-only paths, seccomp,
//! namespaces, each seen from inside.

use crate::common::{inside, pod_security, refused, security, words, world};
use cri::*;
use tonic::Code;

#[test]
fn capabilities_are_the_defaults_with_what_is_added_and_dropped() {
    world(async |world| {
        let pod = world.pod("a").await;
        let effective = "grep CapEff /proc/self/status | cut -f2";
        let mask = |text: String| u64::from_str_radix(text.trim(), 16);
        let (chown, net_admin) = (1_u64 << 0, 1_u64 << 12);
        let usual = mask(inside(world, &pod, "usual", effective, |_| {}).await).unwrap();
        assert!(usual & chown != 0 && usual & net_admin == 0, "{usual:x}");
        let changed = inside(world, &pod, "changed", effective, |config| {
            security(config).capabilities = Some(Capability {
                add_capabilities: words(&["NET_ADMIN"]),
                drop_capabilities: words(&["CAP_CHOWN"]),
                ..Default::default()
            });
        });
        let changed = mask(changed.await).unwrap();
        assert!(
            changed & chown == 0 && changed & net_admin != 0,
            "{changed:x}"
        );
        let none = inside(world, &pod, "none", effective, |config| {
            let drop_capabilities = words(&["ALL"]);
            security(config).capabilities = Some(Capability {
                drop_capabilities,
                ..Default::default()
            });
        });
        assert_eq!(mask(none.await).unwrap(), 0);
        let mut config = world.container("unknown", &["true"]);
        let add_capabilities = words(&["FLY"]);
        security(&mut config).capabilities = Some(Capability {
            add_capabilities,
            ..Default::default()
        });
        refused(
            world.create(&pod, config.clone()).await,
            Code::InvalidArgument,
            &["FLY"],
        );
    });
}

#[test]
fn a_privileged_container_sees_devices_and_has_nothing_masked() {
    world(async |world| {
        let mut config = world.pod_config("a");
        pod_security(&mut config).privileged = true;
        let pod = world.pod_of(config).await;
        let script = "test -c /dev/kmsg || test -c /dev/mem || ls /dev | wc -l; grep Seccomp: /proc/self/status | cut -f2";
        let said = inside(world, &pod, "main", script, |config| {
            security(config).privileged = true;
            security(config).masked_paths = words(&["/proc/kcore"]);
            security(config).seccomp = Some(SecurityProfile::default());
        });
        assert_eq!(said.await.lines().last(), Some("0"));
    });
}

#[test]
fn paths_are_masked_and_made_read_only() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script =
            "wc -c < /etc/group; ls /www; touch /home/file 2>&1; touch /root/file && echo written";
        let said = inside(world, &pod, "main", script, |config| {
            security(config).masked_paths = words(&["/etc/group", "/www", "/not/there"]);
            security(config).readonly_paths = words(&["/home", "/not/there"]);
        });
        let said = said.await;
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.first(), Some(&"0"), "{said}");
        assert!(
            !said.contains("index.html") && said.contains("Read-only file system"),
            "{said}"
        );
        assert_eq!(lines.last(), Some(&"written"), "{said}");
    });
}

#[test]
fn a_read_only_root_file_system_cannot_be_written() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "touch /file 2>&1; touch /dev/shm/file && echo shm";
        let said = inside(world, &pod, "main", script, |config| {
            security(config).readonly_rootfs = true
        })
        .await;
        assert!(
            said.contains("Read-only file system") && said.ends_with("shm"),
            "{said}"
        );
    });
}

#[test]
fn no_new_privs_and_the_default_seccomp_profile_are_in_force_when_asked_for() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f2";
        assert_eq!(inside(world, &pod, "free", script, |_| {}).await, "0\n0");
        let said = inside(world, &pod, "confined", script, |config| {
            security(config).no_new_privs = true;
            security(config).seccomp = Some(SecurityProfile::default());
        });
        assert_eq!(said.await, "1\n2");
    });
}

#[test]
fn a_seccomp_profile_of_the_node_is_applied_and_a_missing_one_is_refused() {
    world(async |world| {
        let pod = world.pod("a").await;
        let path = world.node.path("seccomp.json");
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
        std::fs::write(&path, profile).unwrap();
        let localhost = |path: &str| SecurityProfile {
            profile_type: security_profile::ProfileType::Localhost.into(),
            localhost_ref: path.into(),
        };
        let path = path.display().to_string();
        let script = "mkdir /tmp/x 2>&1; true";
        let said = inside(world, &pod, "main", script, |config| {
            security(config).seccomp = Some(localhost(&path))
        });
        let said = said.await;
        assert!(said.contains("No space left on device"), "{said}");
        #[allow(deprecated, reason = "older clients send the profile as a text")]
        let old = inside(world, &pod, "old", script, |config| {
            security(config).seccomp_profile_path = format!("localhost/{path}");
        });
        assert!(old.await.contains("No space left on device"));
        let mut config = world.container("missing", &["true"]);
        let none = world.node.path("no/such.json").display().to_string();
        security(&mut config).seccomp = Some(localhost(&none));
        refused(
            world.create(&pod, config.clone()).await,
            Code::InvalidArgument,
            &[&none],
        );
        security(&mut config).seccomp = Some(localhost(""));
        refused(
            world.create(&pod, config.clone()).await,
            Code::InvalidArgument,
            &["localhost_ref"],
        );
    });
}

#[test]
fn process_namespaces_are_the_containers_the_pods_a_targets_or_the_nodes() {
    world(async |world| {
        let pod = world.pod("a").await;
        let target = world.sleeper(&pod, "target").await;
        let with_pid = |mode: NamespaceMode, target: &str| NamespaceOption {
            pid: mode.into(),
            target_id: target.into(),
            ..Default::default()
        };
        let set = |options: NamespaceOption| {
            move |config: &mut ContainerConfig| security(config).namespace_options = Some(options)
        };
        let script = "readlink /proc/self/ns/pid; cat /proc/1/cmdline | tr '\\0' ' '";
        let own = inside(
            world,
            &pod,
            "own",
            script,
            set(with_pid(NamespaceMode::Container, "")),
        )
        .await;
        let of_target = inside(
            world,
            &pod,
            "debug",
            script,
            set(with_pid(NamespaceMode::Target, &target)),
        )
        .await;
        let shared = inside(
            world,
            &pod,
            "shared",
            script,
            set(with_pid(NamespaceMode::Pod, "")),
        )
        .await;
        let again = inside(
            world,
            &pod,
            "again",
            script,
            set(with_pid(NamespaceMode::Pod, "")),
        )
        .await;
        let node = inside(
            world,
            &pod,
            "node",
            script,
            set(with_pid(NamespaceMode::Node, "")),
        )
        .await;
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        assert!(of_target.ends_with("sleep 1000"), "{of_target}");
        assert_ne!(first(&own), first(&of_target));
        assert_eq!(first(&shared), first(&again));
        assert_ne!(first(&shared), first(&own));
        assert_eq!(
            first(&node),
            std::fs::read_link("/proc/self/ns/pid")
                .unwrap()
                .display()
                .to_string()
        );
        let mut config = world.container("nobody", &["true"]);
        set(with_pid(NamespaceMode::Target, "0123456789abcdef"))(&mut config);
        assert!(
            world.create(&pod, config.clone()).await.is_err(),
            "the target does not exist"
        );
    });
}
