//! `cgroup_manager = "systemd"`: pods are slices, supervisors and containers scopes in them, and nothing of
//! them is left. Needs systemd as the host's init: `scripts/test-vm.sh --systemd` has it, with cgroup v2
//! and with v1. The pods are on the node's network, which that machine has nothing else for.

use std::process::Command;

use testkit::NodeOptions;
use tonic::Code;

use crate::common::{World, secured, world_on};

/// Runs a test on a node whose cgroups systemd makes.
fn node_of_systemd(test: impl AsyncFnOnce(&mut World)) {
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        eprintln!("SKIP: systemd is not this host's init");
        return;
    }
    let options = NodeOptions {
        systemd: true,
        ..NodeOptions::default()
    };
    world_on(|_| options, test);
}

fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A property of a unit as systemd has it.
fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "-p", property, unit])
}

/// Waits until systemd knows no unit whose name has that in it.
async fn forgotten(world: &World, part: &str) {
    world
        .until(&format!("systemd has forgotten {part}"), async || {
            let all = ["list-units", "--all", "--plain", "--no-legend"];
            let units = systemctl(&all);
            (!units.lines().any(|line| line.contains(part))).then_some(())
        })
        .await;
}

/// The slice that kubelet makes for a pod of this test, and its path.
fn kubelets(name: &str) -> (String, String) {
    let uid = format!("{}_{name}", std::process::id());
    let slice = format!("kubepods-burstable-pod{uid}.slice");
    let path = format!("/kubepods.slice/kubepods-burstable.slice/{slice}");
    (slice, path)
}

/// A pod on the node's network, in a slice of kubelet's or of floe's own.
async fn pod(world: &World, name: &str, parent: Option<&str>) -> Result<String, tonic::Status> {
    let mut config = world.pod_config(name);
    let linux = config.linux.get_or_insert_default();
    linux.cgroup_parent = parent.unwrap_or_default().to_owned();
    let security = linux.security_context.get_or_insert_default();
    security.namespace_options = Some(on_the_node());
    world.try_pod(&config).await
}

fn on_the_node() -> cri::NamespaceOption {
    cri::NamespaceOption {
        network: cri::NamespaceMode::Node.into(),
        ..Default::default()
    }
}

/// A container in such a pod, with processes of its own.
fn container(world: &World, command: &[&str], memory: i64) -> cri::ContainerConfig {
    let mut config = secured(world.config("c", command), |security| {
        security.namespace_options = Some(cri::NamespaceOption {
            pid: cri::NamespaceMode::Container.into(),
            ..on_the_node()
        });
    });
    config.linux.get_or_insert_default().resources = Some(limits(memory));
    config
}

fn limits(memory: i64) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        memory_limit_in_bytes: memory,
        memory_swap_limit_in_bytes: memory,
        cpu_shares: 512,
        ..Default::default()
    }
}

/// Where a process is in the hierarchies that have more than the root of it.
fn places(pid: u64) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = |line: &str| line.splitn(3, ':').nth(2).unwrap().to_owned();
    let mut all: Vec<String> = text.lines().map(path).filter(|path| path != "/").collect();
    all.dedup();
    all
}

/// A word of the container's control files, in v2's or v1's name.
async fn control(world: &World, id: &str, v2: &str, v1: &str) -> String {
    let script = format!("cat /sys/fs/cgroup/{v2} 2>/dev/null || cat /sys/fs/cgroup/{v1}");
    let said = world.exec(id, &["sh", "-c", &script], 60).await.unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_pod_of_kubelets_is_a_slice_with_scopes_through_its_whole_life() {
    node_of_systemd(async |world| {
        let (slice, path) = kubelets("life");
        let id = pod(world, "a", Some(&path)).await.unwrap();
        let supervisor = format!("crio-{id}.scope");
        assert_eq!(show(&supervisor, "Slice"), slice);
        assert_eq!(show(&supervisor, "ActiveState"), "active");

        let mut config = container(world, &["sleep", "1000"], 64 << 20);
        // Whoever makes the pod writes its annotations: they are no properties of units.
        for (name, value) in [("TimeoutStopUSec", "uint64 7"), ("Delegate", "false")] {
            let name = format!("org.systemd.property.{name}");
            config.annotations.insert(name, value.to_owned());
        }
        let container = world.run(&id, config).await;
        let scope = format!("crio-{container}.scope");
        assert_eq!(show(&scope, "Slice"), slice);
        assert_eq!(show(&scope, "Delegate"), "yes");
        assert_ne!(show(&scope, "TimeoutStopUSec"), "7us");
        let info = world.info(&container).await;
        let spec = &info["runtimeSpec"]["linux"]["cgroupsPath"];
        assert_eq!(*spec, format!("{slice}:crio:{container}"));
        let pid = info["pid"].as_u64().unwrap();
        assert_eq!(places(pid), [format!("{path}/{scope}")]);

        // A command is in the same cgroup, and its figures are the container's.
        let said = world.exec(&container, &["cat", "/proc/self/cgroup"], 60);
        assert_eq!(said.await.unwrap().exit_code, 0);
        let request = cri::ContainerStatsRequest {
            container_id: container.clone(),
        };
        let stats = world.runtime().container_stats(request).await.unwrap();
        let memory = stats.into_inner().stats.unwrap().memory.unwrap();
        assert!(memory.working_set_bytes.unwrap().value > 0);

        // systemd knows the limits, the first and the later ones, and keeps them.
        let limit = async || {
            let file = ("memory.max", "memory/memory.limit_in_bytes");
            control(world, &container, file.0, file.1).await
        };
        assert_eq!(limit().await, (64 << 20).to_string());
        let request = cri::UpdateContainerResourcesRequest {
            container_id: container.clone(),
            linux: Some(limits(96 << 20)),
            ..Default::default()
        };
        let updated = world.runtime().update_container_resources(request).await;
        updated.unwrap();
        assert_eq!(limit().await, (96 << 20).to_string());
        let properties = show(&scope, "MemoryMax") + &show(&scope, "MemoryLimit");
        assert!(properties.contains(&(96 << 20).to_string()), "{properties}");
        systemctl(&["daemon-reload"]);
        assert_eq!(limit().await, (96 << 20).to_string());

        // An engine that was killed finds it all.
        world.node.kill().unwrap();
        world.serve_again().await;
        world.exec(&container, &["true"], 60).await.unwrap();
        world.stop(&container, 0).await.unwrap();
        world.remove(&container).await.unwrap();
        forgotten(world, &container).await;
        world.stop_pod(&id).await.unwrap();
        world.remove_pod(&id).await.unwrap();
        forgotten(world, &id).await;
        // It is kubelet's, and kubelet stops it.
        assert_eq!(show(&slice, "ActiveState"), "active");
        systemctl(&["stop", &slice]);
    });
}

#[test]
fn a_pod_without_a_parent_has_a_slice_of_its_own_which_goes_with_it() {
    node_of_systemd(async |world| {
        let id = pod(world, "a", None).await.unwrap();
        let parent = world.node.cgroup().trim_start_matches('/').to_owned();
        let slice = show(&format!("crio-{id}.scope"), "Slice");
        assert_eq!(
            slice,
            format!("{}-pod{id}.slice", parent.trim_end_matches(".slice"))
        );
        assert_eq!(show(&slice, "Slice"), parent);
        world.remove_pod(&id).await.unwrap();
        forgotten(world, &id).await;
    });
}

#[test]
fn memory_that_runs_out_and_a_supervisor_that_is_killed_leave_no_unit() {
    node_of_systemd(async |world| {
        let (slice, path) = kubelets("ends");
        let id = pod(world, "a", Some(&path)).await.unwrap();
        let hungry = ["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"];
        let killed = world.run(&id, container(world, &hungry, 16 << 20)).await;
        let ended = world.ended(&killed).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
        world.remove(&killed).await.unwrap();
        forgotten(world, &killed).await;

        // A container with a PID namespace of its own outlives the supervisor.
        let config = container(world, &["sleep", "1000"], 64 << 20);
        let container = world.run(&id, config).await;
        let supervisor = show(&format!("crio-{id}.scope"), "ControlGroup");
        systemctl(&["kill", "--signal=KILL", &format!("crio-{id}.scope")]);
        world
            .until("the supervisor is gone", async || {
                let status = world.pod_status(&id).await.unwrap();
                (status.state() == cri::PodSandboxState::SandboxNotready).then_some(())
            })
            .await;
        assert!(
            supervisor.ends_with(&format!("{slice}/crio-{id}.scope")),
            "{supervisor}"
        );
        assert_eq!(
            show(&format!("crio-{container}.scope"), "ActiveState"),
            "active"
        );
        world.stop(&container, 0).await.unwrap();
        world.remove_pod(&id).await.unwrap();
        forgotten(world, &container).await;
        forgotten(world, &id).await;
        systemctl(&["stop", &slice]);
    });
}

#[test]
fn every_device_still_opens_after_systemd_has_read_its_units_anew() {
    node_of_systemd(async |world| {
        let (slice, path) = kubelets("devices");
        let id = pod(world, "a", Some(&path)).await.unwrap();
        // Nothing in /dev/char leads to it, as with devices that udev does not know.
        let mut config = container(world, &["sleep", "1000"], 64 << 20);
        config.devices = vec![cri::Device {
            host_path: "/dev/kmsg".to_owned(),
            container_path: "/dev/kmsg".to_owned(),
            permissions: "rwm".to_owned(),
        }];
        let config = secured(config, |security| {
            let capabilities = security.capabilities.get_or_insert_default();
            capabilities.add_capabilities = vec!["MKNOD".to_owned(), "SYSLOG".to_owned()];
        });
        let container = world.run(&id, config).await;
        let scope = format!("crio-{container}.scope");
        assert_eq!(show(&scope, "DevicePolicy"), "auto");
        assert_eq!(show(&scope, "DeviceAllow"), "");
        let script = "mknod /mem c 1 1; for node in /dev/kmsg /dev/zero /dev/null /dev/urandom; do \
                      true <$node || echo $node; done; true </mem && echo /mem; rm -f /mem";
        let check = async || {
            let said = world.exec(&container, &["sh", "-c", script], 60).await;
            let said = said.unwrap();
            let errors = String::from_utf8_lossy(&said.stderr).into_owned();
            assert_eq!(String::from_utf8_lossy(&said.stdout), "", "{errors}");
            assert!(errors.contains("/mem: Operation not permitted"), "{errors}");
        };
        check().await;
        for again in ["daemon-reload", "daemon-reexec", "daemon-reload"] {
            systemctl(&[again]);
            check().await;
        }
        let request = cri::UpdateContainerResourcesRequest {
            container_id: container.clone(),
            linux: Some(limits(96 << 20)),
            ..Default::default()
        };
        let updated = world.runtime().update_container_resources(request).await;
        updated.unwrap();
        check().await;
        // systemd goes on to see the ends of what it was told before.
        world.remove_pod(&id).await.unwrap();
        forgotten(world, &container).await;
        forgotten(world, &id).await;
        systemctl(&["stop", &slice]);
    });
}

#[test]
fn a_parent_of_the_other_manager_is_refused_and_the_node_says_which_it_has() {
    node_of_systemd(async |world| {
        for parent in [
            "/kubepods/burstable/podx",
            "/kubepods.slice/podx",
            "a--b.slice",
        ] {
            let refused = pod(world, "a", Some(parent)).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
            assert!(refused.message().contains("cgroup_parent"), "{refused}");
        }
        let request = cri::RuntimeConfigRequest {};
        let config = world.runtime().runtime_config(request).await.unwrap();
        let linux = config.into_inner().linux.unwrap();
        assert_eq!(linux.cgroup_driver(), cri::CgroupDriver::Systemd);
        let request = cri::StatusRequest { verbose: true };
        let status = world.runtime().status(request).await.unwrap().into_inner();
        let node: serde_json::Value = serde_json::from_str(&status.info["node"]).unwrap();
        assert_eq!(node["cgroups"]["manager"], "systemd");
        assert_eq!(node["cgroups"]["parent"], world.node.cgroup());
    });
}
