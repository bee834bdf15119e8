//! CRI: devices by their CDI names, as a vendor's file describes them.

use crate::common::{World, inside, pod_security, security, words, world_with};
use crate::user_namespaces::{FIRST, users};
use cri::*;
use tonic::Code;

const SPEC: &str = r#"
cdiVersion: "0.7.0"
kind: vendor.example/gpu
containerEdits:
  env: [VENDOR=yes]
devices:
- name: "0"
  containerEdits:
    env: [GPU=0]
    additionalGids: [4242]
    deviceNodes:
    - path: /dev/gpu0
      hostPath: @DIR@/kmsg
      permissions: r
    mounts:
    - hostPath: @DIR@/driver
      containerPath: /usr/lib/driver
      options: [ro, bind]
    hooks:
    - hookName: createRuntime
      path: /bin/sh
      args: [sh, -c, "cat > @DIR@/seen"]
"#;

fn in_world(test: impl AsyncFnOnce(&mut World, &std::path::Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    std::fs::write(dir.path().join("driver"), "a driver").unwrap();
    // The kernel's log, which no container has by itself.
    let mut mknod = std::process::Command::new("mknod");
    mknod.arg(dir.path().join("kmsg")).args(["c", "1", "11"]);
    assert!(mknod.status().unwrap().success());
    std::fs::write(dir.path().join("vendor.yaml"), SPEC.replace("@DIR@", &path)).unwrap();
    let config = format!("[floe.runtime]\ncdi_spec_dirs = [\"/nowhere\", \"{path}\"]");
    world_with(config, async |world| test(world, dir.path()).await);
}

#[test]
fn a_device_by_its_name_is_in_the_container_with_all_that_goes_with_it() {
    in_world(async |world, dir| {
        let pod = world.pod("a").await;
        let script = "echo $VENDOR $GPU; cat /usr/lib/driver; echo; (: < /dev/gpu0) && echo readable; \
                      (: > /dev/gpu0) 2>/dev/null && echo writable; id -G";
        let said = inside(world, &pod, "main", script, |config| {
            security(config).capabilities = Some(Capability {
                add_capabilities: words(&["SYSLOG"]),
                ..Default::default()
            });
            config.cdi_devices = vec![CdiDevice {
                name: "vendor.example/gpu=0".into(),
            }];
            // The same device once more, as before Kubernetes 1.28.
            let key = "cdi.k8s.io/plugin_gpu".to_owned();
            let name = "vendor.example/gpu=0".to_owned();
            config.annotations.insert(key, name);
        });
        let said = said.await;
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..3], ["yes 0", "a driver", "readable"], "{said}");
        assert!(!lines.contains(&"writable"), "it may only be read: {said}");
        assert!(said.contains("4242"), "{said}");
        let state = std::fs::read_to_string(dir.join("seen")).unwrap();
        assert!(
            state.contains("ociVersion"),
            "the hook got no state: {state}"
        );
    });
}

#[test]
fn a_device_that_is_not_known_fails_the_create_and_is_found_once_it_is_described() {
    in_world(async |world, dir| {
        let pod = world.pod("a").await;
        let mut config = world.container("main", &["true"]);
        config.command = words(&["true"]);
        config.cdi_devices = vec![CdiDevice {
            name: "late.example/nic=a".into(),
        }];
        std::fs::write(dir.join("late.json"), "{ not yet").unwrap();
        let error = world.create(&pod, config.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        for word in ["unresolvable CDI devices late.example/nic=a", "late.json"] {
            assert!(error.message().contains(word), "{word}: {error}");
        }
        let late = serde_json::json!({
            "cdiVersion": "0.5.0",
            "kind": "late.example/nic",
            "devices": [{ "name": "a", "containerEdits": { "env": ["NIC=a"] } }],
        });
        std::fs::write(dir.join("late.json"), late.to_string()).unwrap();
        world.create(&pod, config).await.unwrap();
    });
}

#[test]
fn a_pod_with_its_own_users_gets_the_nodes_device_at_the_place_that_its_file_says() {
    in_world(async |world, dir| {
        let nodes = serde_json::json!({ "deviceNodes": [
            { "path": "/dev/gpu0", "hostPath": "/dev/zero", "permissions": "r" },
        ] });
        let zero = serde_json::json!({
            "cdiVersion": "0.5.0",
            "kind": "zero.example/gpu",
            "devices": [{ "name": "0", "containerEdits": nodes }],
        });
        std::fs::write(dir.join("zero.json"), zero.to_string()).unwrap();
        let users = users(FIRST);
        let mut config = world.pod_config("a");
        pod_security(&mut config)
            .namespace_options
            .get_or_insert_default()
            .userns_options = users.clone();
        let pod = world.pod_of(config).await;
        let script = "stat -c '%F %t:%T' /dev/gpu0; head -c 4 /dev/gpu0 | wc -c";
        let said = inside(world, &pod, "main", script, |config| {
            let options = security(config).namespace_options.get_or_insert_default();
            options.userns_options = users;
            config.cdi_devices = vec![CdiDevice {
                name: "zero.example/gpu=0".into(),
            }];
        });
        assert_eq!(said.await, "character special file 1:5\n4");
    });
}
