//! Fields of CRI that no other file has: what kubelet always sends and hardly anybody looks at. The page
//! docs/cri-fields.md lists all of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::common::{inside, pod_security, refused, security, words, world, world_with};
use cri::*;
use tonic::Code;

#[test]
fn a_termination_message_is_written_to_the_nodes_file_and_the_log_is_whole_when_it_ends() {
    world(async |world| {
        let pod = world.pod("a").await;
        let message = world.node.path("termination");
        std::fs::write(&message, "").unwrap();
        let script = "echo why >/dev/termination-log; echo last words; exit 3";
        let mut config = world.script("c", script);
        config.mounts = vec![Mount {
            container_path: "/dev/termination-log".into(),
            host_path: message.display().to_string(),
            // As kubelet asks on a node with SELinux.
            selinux_relabel: true,
            ..Default::default()
        }];
        let (said, status) = world.output(&pod, config).await;
        assert_eq!((said.as_str(), status.exit_code), ("last words\n", 3));
        assert_eq!(status.reason, "Error");
        assert_eq!(std::fs::read_to_string(&message).unwrap(), "why\n");
        assert_eq!(status.mounts[0].host_path, message.display().to_string());
    });
}

#[test]
fn an_unmasked_proc_hides_nothing_and_a_default_one_what_kubelet_lists() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "grep -c ' /proc/meminfo ' /proc/mounts; \
                      grep ' /proc/sys ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1";
        let unmasked = inside(world, &pod, "unmasked", script, |_| ());
        assert_eq!(unmasked.await, "0");
        let masked = inside(world, &pod, "masked", script, |config| {
            let security = security(config);
            security.masked_paths = words(&["/proc/meminfo"]);
            security.readonly_paths = words(&["/proc/sys"]);
        });
        assert_eq!(masked.await, "1\nro");
    });
}

#[test]
fn huge_pages_of_no_bytes_as_kubelet_always_sends_them_need_no_controller() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.container("c", &["sleep", "1000"]);
        let linux = config.linux.get_or_insert_default();
        let limits = ["2MB", "1GB"].map(|size| HugepageLimit {
            page_size: size.into(),
            limit: 0,
        });
        let resources = linux.resources.get_or_insert_default();
        resources.hugepage_limits = limits.to_vec();
        let id = world.run(&pod, config).await;
        let status = world.status(&id).await.unwrap();
        let shown = status.resources.unwrap().linux.unwrap();
        assert_eq!(shown.hugepage_limits, limits);
    });
}

#[test]
fn a_restart_is_a_further_attempt_of_the_same_name_beside_the_former_one() {
    world(async |world| {
        let pod = world.pod("a").await;
        let attempt = |number: u32| {
            let mut config = world.script("c", "exit 1");
            config.metadata.as_mut().unwrap().attempt = number;
            config
        };
        let first = world.run(&pod, attempt(0)).await;
        world.ended(&first).await;
        let second = world.create(&pod, attempt(1)).await.unwrap();
        assert_ne!(first, second);
        assert_eq!(world.create(&pod, attempt(1)).await.unwrap(), second);
        for (id, number) in [(&first, 0), (&second, 1)] {
            let metadata = world.status(id).await.unwrap().metadata.unwrap();
            assert_eq!((metadata.name.as_str(), metadata.attempt), ("c", number));
        }
    });
}

#[test]
fn shared_memory_is_the_pods_and_as_large_as_the_configuration_says() {
    let config = "[floe.runtime]\nshm_size = 8388608\n".to_owned();
    world_with(config, async |world| {
        let pod = world.pod("a").await;
        let one = world.sleeper(&pod, "one").await;
        let other = world.sleeper(&pod, "other").await;
        let size = world
            .said(&one, &["sh", "-c", "df -k /dev/shm | tail -1"])
            .await;
        assert_eq!(size.split_whitespace().nth(1), Some("8192"), "{size}");
        world.said(&one, &["sh", "-c", "echo x >/dev/shm/x"]).await;
        assert_eq!(world.said(&other, &["cat", "/dev/shm/x"]).await, "x");
    });
}

#[test]
fn what_a_linux_node_has_no_use_for_is_refused_by_name() {
    world(async |world| {
        let mut pod = world.pod_config("windows");
        pod.windows = Some(WindowsPodSandboxConfig::default());
        refused(
            world.try_pod(&pod).await,
            Code::InvalidArgument,
            &["config.windows"],
        );
        let mut profile = world.pod_config("profile");
        pod_security(&mut profile).seccomp = Some(SecurityProfile {
            profile_type: 99,
            ..Default::default()
        });
        let asked = world.try_pod(&profile).await;
        refused(asked, Code::InvalidArgument, &["seccomp.profile_type"]);
        let pod = world.pod("a").await;
        let mut config = world.container("c", &["true"]);
        config.windows = Some(WindowsContainerConfig::default());
        refused(
            world.create(&pod, config).await,
            Code::InvalidArgument,
            &["config.windows"],
        );
    });
}
