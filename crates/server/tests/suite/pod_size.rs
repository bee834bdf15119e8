//! UpdatePodSandboxResources: a pod as a whole grows and shrinks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;

use crate::common::{Pod, World, world};
use tonic::{Code, Status};

fn memory(bytes: i64) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        memory_limit_in_bytes: bytes,
        cpu_shares: 512,
        ..Default::default()
    }
}

async fn resize(
    world: &World,
    pod: &str,
    overhead: Option<cri::LinuxContainerResources>,
    resources: Option<cri::LinuxContainerResources>,
) -> Result<(), Status> {
    let request = cri::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.to_owned(),
        overhead,
        resources,
    };
    let mut runtime = world.runtime();
    runtime
        .update_pod_sandbox_resources(request)
        .await
        .map(drop)
}

/// The pod's size as its status shows it.
async fn shown(world: &World, pod: &str) -> serde_json::Value {
    let request = cri::PodSandboxStatusRequest {
        pod_sandbox_id: pod.to_owned(),
        verbose: true,
    };
    let answer = world.runtime().pod_sandbox_status(request).await.unwrap();
    let info: serde_json::Value = serde_json::from_str(&answer.into_inner().info["info"]).unwrap();
    info["runtimeSpec"]["linux"].clone()
}

/// The file of a cgroup's memory limit, and of its use.
fn files(cgroup: &str) -> (PathBuf, PathBuf) {
    let cgroup = cgroup.trim_start_matches('/');
    let v1 = PathBuf::from("/sys/fs/cgroup/memory").join(cgroup);
    if v1.is_dir() {
        let of = |file| v1.join(file);
        return (of("memory.limit_in_bytes"), of("memory.usage_in_bytes"));
    }
    let v2 = PathBuf::from("/sys/fs/cgroup").join(cgroup);
    (v2.join("memory.max"), v2.join("memory.current"))
}

fn read(file: &PathBuf) -> String {
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

async fn pod_in(world: &World, parent: &str) -> Pod {
    let mut config = world.pod_config("a");
    config.linux.get_or_insert_default().cgroup_parent = parent.to_owned();
    world.pod_of(config).await
}

/// A container that holds 24 MiB which nobody can take back.
async fn greedy(world: &World, pod: &str) -> String {
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1048576 count=24 2>/dev/null; touch /tmp/done; sleep 1000";
    let id = world.run(pod, world.script("greedy", script)).await;
    world
        .until("the memory is in use", async || {
            let done = world.exec(&id, &["test", "-e", "/tmp/done"], 20).await;
            (done.unwrap().exit_code == 0).then_some(())
        })
        .await;
    id
}

#[test]
fn the_size_is_kept_and_shown_and_outlives_the_engine() {
    world(async |world: &mut World| {
        let mut config = world.pod_config("a");
        let linux = config.linux.get_or_insert_default();
        linux.overhead = Some(memory(1 << 20));
        let pod = world.pod_of(config).await;
        let before = shown(world, &pod).await;
        assert_eq!(before["overhead"]["memory_limit_in_bytes"], 1 << 20);
        assert!(before["resources"].is_null(), "{before}");
        resize(world, &pod, None, Some(memory(64 << 20)))
            .await
            .unwrap();
        world.node.kill().unwrap();
        world.serve_again().await;
        let after = shown(world, &pod).await;
        assert_eq!(after["overhead"], before["overhead"]);
        assert_eq!(after["resources"]["memory_limit_in_bytes"], 64 << 20);
        assert_eq!(after["resources"]["cpu_shares"], 512);
    });
}

#[test]
fn a_cgroup_of_floes_own_gets_the_limits_and_keeps_them_when_too_much_is_in_use() {
    world(async |world: &mut World| {
        let mut config = world.pod_config("a");
        config.linux.get_or_insert_default().resources = Some(memory(256 << 20));
        let pod = world.pod_of(config).await;
        let cgroup = shown(world, &pod).await["cgroupsPath"].clone();
        let (limit, usage) = files(cgroup.as_str().unwrap());
        assert_eq!(read(&limit), (256 << 20).to_string());
        let id = greedy(world, &pod).await;
        let more = Some(memory(1 << 20));
        resize(world, &pod, more, Some(memory(128 << 20)))
            .await
            .unwrap();
        assert_eq!(read(&limit), (129 << 20).to_string());
        let refused = resize(world, &pod, None, Some(memory(8 << 20))).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        let told = refused.message();
        assert!(told.contains(&(9 << 20).to_string()), "{told}");
        let used: u64 = read(&usage).parse().unwrap();
        let figure = told
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse::<u64>().ok());
        assert!(
            figure
                .clone()
                .any(|told| told >= 24 << 20 && told < used * 2),
            "{told}"
        );
        assert_eq!(read(&limit), (129 << 20).to_string());
        let size = shown(world, &pod).await;
        assert_eq!(size["resources"]["memory_limit_in_bytes"], 128 << 20);
        let state = world.status(&id).await.unwrap().state();
        assert_eq!(state, cri::ContainerState::ContainerRunning);
    });
}

#[test]
fn a_cgroup_that_kubelet_has_named_is_kubelets_to_limit() {
    world(async |world: &mut World| {
        let parent = format!("{}/kubepods/pod1", world.node.cgroup());
        let pod = pod_in(world, &parent).await;
        let (limit, _) = files(&parent);
        let before = read(&limit);
        greedy(world, &pod).await;
        resize(world, &pod, None, Some(memory(64 << 20)))
            .await
            .unwrap();
        assert_eq!(read(&limit), before);
        let refused = resize(world, &pod, None, Some(memory(8 << 20))).await;
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
        let size = shown(world, &pod).await;
        assert_eq!(size["resources"]["memory_limit_in_bytes"], 64 << 20);
        world.remove_pod(&pod).await.unwrap();
        crate::bad_requests::remove_parents(world.node.cgroup());
    });
}

#[test]
fn a_size_that_cannot_be_is_refused_by_field_and_an_absent_pod_is_not_found() {
    world(async |world: &mut World| {
        let pod = world.pod("a").await;
        let refused = resize(world, &pod, Some(memory(-1)), None)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let told = refused.message();
        assert!(
            told.starts_with("overhead.memory_limit_in_bytes: "),
            "{told}"
        );
        let mut config = world.pod_config("b");
        config.linux.get_or_insert_default().resources = Some(memory(-1));
        let refused = world.try_pod(&config).await.unwrap_err();
        let told = refused.message();
        assert!(
            told.starts_with("config.linux.resources.memory_limit_in_bytes: "),
            "{told}"
        );
        let absent = resize(world, "nobody", None, Some(memory(1 << 30))).await;
        assert_eq!(absent.unwrap_err().code(), Code::NotFound);
        let none = resize(world, "", None, None).await;
        assert_eq!(none.unwrap_err().code(), Code::InvalidArgument);
        world.stop_pod(&pod).await.unwrap();
        let stopped = resize(world, &pod, None, Some(memory(1 << 30))).await;
        assert_eq!(stopped.unwrap_err().code(), Code::FailedPrecondition);
    });
}
