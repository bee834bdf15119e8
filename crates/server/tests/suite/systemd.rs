//! `cgroup_manager = "systemd"`: pods are slices, supervisors and containers scopes in them, and nothing of
//! them is left. Needs systemd as the host's init: `scripts/test-vm.sh --systemd` has it, with cgroup v2
//! and with v1. The pods are on the node's network, which that machine has nothing else for.

use std::path::Path;
use std::process::Command;

use testkit::NodeOptions;
use tonic::Code;

use crate::common::{World, secured, world_on};

/// Runs a test on a node whose cgroups systemd makes.
fn node_of_systemd(test: impl AsyncFnOnce(&mut World)) {
    node_of_systemd_with(String::new(), test);
}

/// As [`node_of_systemd`], with lines of TOML added to the engine's configuration.
fn node_of_systemd_with(config: String, test: impl AsyncFnOnce(&mut World)) {
    if !Path::new("/run/systemd/system").is_dir() {
        eprintln!("SKIP: systemd is not this host's init");
        return;
    }
    let options = NodeOptions {
        systemd: true,
        config,
        ..NodeOptions::default()
    };
    world_on(|_| options, test);
}

/// Does the host have cgroup v2 alone?
fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Asks systemd until it answers: another test may have it execute itself anew, and then nobody does.
fn systemctl(arguments: &[&str]) -> String {
    let mut output = Command::new("systemctl").args(arguments).output().unwrap();
    for _ in 0..50 {
        if output.status.success() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        output = Command::new("systemctl").args(arguments).output().unwrap();
    }
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

/// The slice of a pod, as kubelet (of `--cgroup-root=/TOP`) makes it before it asks for the pod; all of it
/// ends with this.
struct Kubelets {
    top: String,
    slice: String,
    path: String,
}

/// What a pod of kubelet's may use of memory.
const OF_POD: u64 = 512 << 20;

impl Kubelets {
    fn make(test: &str) -> Self {
        let top = format!("floekubelet{}{test}", std::process::id());
        let qos = format!("{top}-kubepods-besteffort");
        let slice = format!("{qos}-pod{}_1.slice", std::process::id());
        let path = format!("/{top}.slice/{top}-kubepods.slice/{qos}.slice/{slice}");
        let limit = match is_unified() {
            true => "MemoryMax",
            false => "MemoryLimit",
        };
        let manager = "org.freedesktop.systemd1";
        let mut busctl = Command::new("busctl");
        busctl
            .args(["call", manager, "/org/freedesktop/systemd1"])
            .args([&format!("{manager}.Manager"), "StartTransientUnit"])
            .args(["ssa(sv)a(sa(sv))", &slice, "replace", "1", limit, "t"])
            .args([&OF_POD.to_string(), "0"]);
        // One that was asked while it executed itself anew may have done it all the same.
        let made = busctl.output().unwrap();
        if !made.status.success() && show(&slice, "ActiveState") != "active" {
            let again = busctl.output().unwrap();
            assert!(again.status.success(), "{made:?} {again:?}");
        }
        Self { top, slice, path }
    }

    /// The limit of the pod's memory as the kernel has it.
    fn limit(&self) -> String {
        let file = match is_unified() {
            true => format!("/sys/fs/cgroup{}/memory.max", self.path),
            false => format!("/sys/fs/cgroup/memory{}/memory.limit_in_bytes", self.path),
        };
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        let all = format!("{}.slice", self.top);
        let _ = Command::new("systemctl").args(["stop", &all]).status();
    }
}

/// A pod on the node's network, in a slice of kubelet's or of floe's own.
fn config_of(world: &World, name: &str, parent: Option<&str>) -> cri::PodSandboxConfig {
    let mut config = world.pod_config(name);
    let linux = config.linux.get_or_insert_default();
    linux.cgroup_parent = parent.unwrap_or_default().to_owned();
    let security = linux.security_context.get_or_insert_default();
    security.namespace_options = Some(on_the_node());
    config
}

/// Runs one; its id.
async fn pod(world: &World, name: &str, parent: Option<&str>) -> Result<String, tonic::Status> {
    world.try_pod(&config_of(world, name, parent)).await
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

/// The memory limit of a container as the kernel has it.
async fn limit(world: &World, container: &str) -> u64 {
    let (v2, v1) = ("memory.max", "memory/memory.limit_in_bytes");
    control(world, container, v2, v1).await.parse().unwrap()
}

/// Changes the memory limit of a container.
async fn change(world: &World, container: &str, memory: i64) {
    let request = cri::UpdateContainerResourcesRequest {
        container_id: container.to_owned(),
        linux: Some(limits(memory)),
        ..Default::default()
    };
    let mut runtime = world.runtime();
    runtime.update_container_resources(request).await.unwrap();
}

/// The limits of a container, the first and the later ones, are systemd's too, and stay when that goes over its
/// cgroups again.
async fn limits_stay(world: &World, container: &str, scope: &str) {
    assert_eq!(limit(world, container).await, 64 << 20);
    systemctl(&["daemon-reload"]);
    assert_eq!(limit(world, container).await, 64 << 20);
    change(world, container, 96 << 20).await;
    assert_eq!(limit(world, container).await, 96 << 20);
    let properties = show(scope, "MemoryMax") + &show(scope, "MemoryLimit");
    assert!(properties.contains(&(96 << 20).to_string()), "{properties}");
    for again in ["daemon-reload", "daemon-reexec"] {
        systemctl(&[again]);
        assert_eq!(limit(world, container).await, 96 << 20, "{again}");
    }
}

/// A command is in the container's cgroup, and the figures are of that.
async fn is_counted(world: &World, container: &str) {
    let said = world.exec(container, &["cat", "/proc/self/cgroup"], 60);
    assert_eq!(said.await.unwrap().exit_code, 0);
    let request = cri::ContainerStatsRequest {
        container_id: container.to_owned(),
    };
    let stats = world.runtime().container_stats(request).await.unwrap();
    let memory = stats.into_inner().stats.unwrap().memory.unwrap();
    let used = memory.working_set_bytes.unwrap().value;
    // A shell's, and not the node's.
    assert!((1..64 << 20).contains(&used), "{used}");
}

#[test]
fn a_pod_of_kubelets_is_a_slice_with_scopes_through_its_whole_life() {
    node_of_systemd(async |world| {
        let kubelets = Kubelets::make("life");
        let (slice, path) = (&kubelets.slice, &kubelets.path);
        let id = pod(world, "a", Some(path)).await.unwrap();
        let supervisor = format!("crio-{id}.scope");
        assert_eq!(show(&supervisor, "Slice"), *slice);
        assert_eq!(show(&supervisor, "ActiveState"), "active");

        let mut config = container(world, &["sleep", "1000"], 64 << 20);
        // Whoever makes the pod writes its annotations: they are no properties of units.
        for (name, value) in [("TimeoutStopUSec", "uint64 7"), ("Delegate", "false")] {
            let name = format!("org.systemd.property.{name}");
            config.annotations.insert(name, value.to_owned());
        }
        let container = world.run(&id, config).await;
        let scope = format!("crio-{container}.scope");
        assert_eq!(show(&scope, "Slice"), *slice);
        assert_eq!(show(&scope, "Delegate"), "yes");
        assert_ne!(show(&scope, "TimeoutStopUSec"), "7us");
        let info = world.info(&container).await;
        let spec = &info["runtimeSpec"]["linux"]["cgroupsPath"];
        assert_eq!(*spec, format!("{slice}:crio:{container}"));
        let pid = info["pid"].as_u64().unwrap();
        assert_eq!(places(pid), [format!("{path}/{scope}")]);
        is_counted(world, &container).await;
        limits_stay(world, &container, &scope).await;
        assert_eq!(kubelets.limit(), OF_POD.to_string());

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
        assert_eq!(show(slice, "ActiveState"), "active");
        assert_eq!(kubelets.limit(), OF_POD.to_string());
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
        let kubelets = Kubelets::make("ends");
        let slice = &kubelets.slice;
        // The last name alone, which says where it is.
        let id = pod(world, "a", Some(slice)).await.unwrap();
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
    });
}

/// What the unit says of devices: on v2 nothing, as systemd would look for each anew, and find only those that
/// udev knows. On v1 it looks after the hierarchy in any case, and opens it to all where the unit says
/// nothing.
fn unit_says_of_devices(scope: &str) {
    let (policy, allowed) = (show(scope, "DevicePolicy"), show(scope, "DeviceAllow"));
    match is_unified() {
        true => assert_eq!((policy.as_str(), allowed.as_str()), ("auto", "")),
        false => {
            assert_eq!(policy, "strict");
            // By its number, not by a name that udev would have to know.
            assert!(allowed.contains("/dev/char/1:11 rwm"), "{allowed}");
        }
    }
}

#[test]
fn every_device_still_opens_after_systemd_has_read_its_units_anew() {
    node_of_systemd(async |world| {
        let kubelets = Kubelets::make("devices");
        let id = pod(world, "a", Some(&kubelets.path)).await.unwrap();
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
        unit_says_of_devices(&scope);
        let script = "mknod /mem c 1 1; for node in /dev/kmsg /dev/zero /dev/null /dev/urandom; do \
                      true <$node || echo $node; done; true </mem && echo /mem; rm -f /mem";
        let check = async |world: &World| {
            let said = world.exec(&container, &["sh", "-c", script], 60).await;
            let said = said.unwrap();
            let errors = String::from_utf8_lossy(&said.stderr).into_owned();
            assert_eq!(String::from_utf8_lossy(&said.stdout), "", "{errors}");
            assert!(errors.contains("/mem: Operation not permitted"), "{errors}");
        };
        check(world).await;
        let again = ["daemon-reload", "daemon-reexec", "daemon-reload"];
        for again in again {
            systemctl(&[again]);
            check(world).await;
        }
        change(world, &container, 96 << 20).await;
        check(world).await;
        // Also while no engine is there to set anything again.
        world.node.kill().unwrap();
        for again in again {
            systemctl(&[again]);
        }
        world.serve_again().await;
        check(world).await;
        assert_eq!(limit(world, &container).await, 96 << 20);
        unit_says_of_devices(&scope);
        // systemd goes on to see the ends of what it was told before.
        world.remove_pod(&id).await.unwrap();
        forgotten(world, &container).await;
        forgotten(world, &id).await;
    });
}

/// Handlers that have systemd make cgroups, as far as their programs are installed: OCI programs and a shim.
fn handlers(state: &Path) -> Vec<(&'static str, String)> {
    let all = [
        ("runc", "oci", "/usr/sbin/runc"),
        ("crun", "oci", "/usr/bin/crun"),
        ("shim", "vm", "/usr/bin/containerd-shim-runc-v2"),
    ];
    let mut found = Vec::new();
    for (name, kind, program) in all {
        if !Path::new(program).exists() {
            eprintln!("SKIP: needs {program}");
            continue;
        }
        let root = state.join(name);
        let entry = format!(
            "[crio.runtime.runtimes.{name}]\nruntime_path = \"{program}\"\nruntime_type = \"{kind}\"\n\
             runtime_root = {root:?}\nallowed_annotations = [\"org.\"]\n"
        );
        found.push((name, entry));
    }
    found
}

#[test]
fn programs_and_shims_are_told_to_have_systemd_make_their_cgroups() {
    let state = tempfile::tempdir().unwrap();
    let handlers = handlers(state.path());
    let config: String = handlers.iter().map(|(_, entry)| entry.as_str()).collect();
    node_of_systemd_with(config, async |world| {
        let kubelets = Kubelets::make("handlers");
        // A shim takes no pod on the node's network, and the machine's kernel has no bridges.
        let network = serde_json::json!({
            "cniVersion": "1.0.0", "name": "pairs", "plugins": [{ "type": "ptp", "ipam": {
                "type": "host-local", "ranges": [[{ "subnet": "10.99.0.0/24" }]] } }],
        });
        let file = world.node.path("cni/10-pairs.conflist");
        std::fs::write(file, network.to_string()).unwrap();
        for (handler, _) in &handlers {
            lives_in_scopes(world, &kubelets, handler).await;
        }
    });
}

/// A pod of another handler: its container is a scope in kubelet's slice, whose limits stay.
async fn lives_in_scopes(world: &mut World, kubelets: &Kubelets, handler: &str) {
    let mut config = world.pod_config(handler);
    config.linux.get_or_insert_default().cgroup_parent = kubelets.path.clone();
    let property = "org.systemd.property.TimeoutStopUSec".to_owned();
    config.annotations.insert(property, "uint64 7".to_owned());
    let id = world.try_pod_by(handler, &config).await.unwrap();
    let mut config = world.container("c", &["sleep", "1000"]);
    config.linux.get_or_insert_default().resources = Some(limits(64 << 20));
    let container = world.run(&id, config).await;
    let scope = format!("crio-{container}.scope");
    assert_eq!(show(&scope, "Slice"), kubelets.slice, "{handler}");
    assert_ne!(show(&scope, "TimeoutStopUSec"), "7us", "{handler}");
    let mode = show(&scope, "CollectMode");
    assert_eq!(mode, "inactive-or-failed", "{handler}");
    let pid = world.info(&container).await["pid"].as_u64().unwrap();
    let place = format!("{}/{scope}", kubelets.path);
    assert!(places(pid).contains(&place), "{handler}: {:?}", places(pid));
    is_counted(world, &container).await;
    change(world, &container, 96 << 20).await;
    if handler != "crun" {
        // Debian's (1.8.1) does not tell systemd of changed limits.
        systemctl(&["daemon-reload"]);
    }
    assert_eq!(limit(world, &container).await, 96 << 20, "{handler}");
    world.node.kill().unwrap();
    world.serve_again().await;
    world.stop(&container, 0).await.unwrap();
    world.remove(&container).await.unwrap();
    forgotten(world, &container).await;
    world.remove_pod(&id).await.unwrap();
    forgotten(world, &id).await;
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
