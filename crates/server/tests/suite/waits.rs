//! What waits holds up nothing else: hung commands, long stops, a supervisor that the kernel holds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use crate::common::{World, world};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

/// Far more than any of the calls below needs; a call that hangs fails by it.
const GUARD: Duration = Duration::from_secs(120);

/// How many processes of this node run `command`.
fn running(command: &[&str]) -> usize {
    let wanted = command.join("\0") + "\0";
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| *line == wanted.as_bytes())
        .count()
}

/// A time to sleep that only this test's processes have.
fn unique() -> String {
    format!("{}", 1_000_000 + std::process::id())
}

fn threads(world: &World) -> usize {
    let pid = world.node.engine_pid().unwrap();
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .count()
}

/// A request whose answer is not waited for longer than that.
fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// The client's own end of waiting: tonic's client calls it CANCELLED when it is the first to see.
fn gave_up(status: &Status) -> bool {
    matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
}

fn exec_request(id: &str, command: &[&str], timeout: i64) -> cri::ExecSyncRequest {
    cri::ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: command.iter().map(|word| (*word).to_owned()).collect(),
        timeout,
    }
}

/// Everything that a node needs while something hangs: lists, Status, and a new pod's whole life.
async fn node_answers(world: &World, name: &str) {
    let whole = async {
        let mut runtime = world.runtime();
        runtime.status(cri::StatusRequest::default()).await.unwrap();
        runtime
            .list_pod_sandbox(cri::ListPodSandboxRequest::default())
            .await
            .unwrap();
        runtime
            .list_containers(cri::ListContainersRequest::default())
            .await
            .unwrap();
        runtime
            .list_container_stats(cri::ListContainerStatsRequest::default())
            .await
            .unwrap();
        let mut images = world.images();
        images
            .list_images(cri::ListImagesRequest::default())
            .await
            .unwrap();
        let pod = world.pod(name).await;
        let id = world
            .run(&pod, world.config("c", &["sleep", "100000"]))
            .await;
        let answer = world.exec(&id, &["echo", "hi"], 60).await.unwrap();
        assert_eq!(answer.stdout, b"hi\n");
        world.stop(&id, 0).await.unwrap();
        world.remove(&id).await.unwrap();
        world.stop_pod(&pod).await.unwrap();
        world.remove_pod(&pod).await.unwrap();
    };
    tokio::time::timeout(GUARD, whole).await.unwrap();
}

#[test]
fn a_thousand_hung_commands_and_a_thousand_slow_stops_hold_up_nothing_else() {
    world(async |world| {
        let time = unique();
        let mut containers = Vec::new();
        for number in 0..8 {
            let pod = world.pod(&format!("full-{number}")).await;
            let script = "trap '' TERM; while true; do sleep 100000; done";
            containers.push(world.run(&pod, world.script("c", script)).await);
        }
        let mut hung = JoinSet::new();
        let mut stops = JoinSet::new();
        for number in 0..1000 {
            let id = containers[number % containers.len()].clone();
            let (mut runtime, time) = (world.runtime(), time.clone());
            hung.spawn(async move {
                let request = exec_request(&id, &["sleep", &time], 0);
                runtime.exec_sync(request).await.map(|_| ())
            });
        }
        world
            .until("all commands run", async || {
                (running(&["sleep", &time]) == 1000).then_some(())
            })
            .await;
        for number in 0..1000 {
            let container_id = containers[number % containers.len()].clone();
            let mut runtime = world.runtime();
            stops.spawn(async move {
                let request = cri::StopContainerRequest {
                    container_id,
                    timeout: 100_000,
                };
                runtime.stop_container(request).await.map(|_| ())
            });
        }
        // A stop that comes after all others on the same connection, and ends at once.
        world.stop(&"0".repeat(64), 0).await.unwrap();
        node_answers(world, "other").await;
        assert!(hung.try_join_next().is_none() && stops.try_join_next().is_none());
        let threads = threads(world);
        assert!(threads < 100, "{threads} threads");
        for id in &containers {
            world.stop(id, 0).await.unwrap();
        }
        while let Some(stopped) = stops.join_next().await {
            stopped.unwrap().unwrap();
        }
        while let Some(ended) = hung.join_next().await {
            ended.unwrap().unwrap();
        }
    });
}

#[test]
fn a_command_whose_client_has_left_is_killed() {
    world(async |world| {
        let time = unique();
        let pod = world.pod("a").await;
        let id = world
            .run(&pod, world.config("c", &["sleep", "100000"]))
            .await;
        let mut hung = JoinSet::new();
        for timeout in [0, 0, 90_000] {
            let (mut runtime, id, time) = (world.runtime(), id.clone(), time.clone());
            hung.spawn(async move {
                let request = exec_request(&id, &["sleep", &time], timeout);
                runtime.exec_sync(request).await.map(|_| ())
            });
        }
        let count = async |wanted: usize| (running(&["sleep", &time]) == wanted).then_some(());
        world.until("they run", async || count(3).await).await;
        hung.abort_all();
        world
            .until("they are killed", async || count(0).await)
            .await;
        // One that gives up by its deadline has left, too.
        let request = exec_request(&id, &["sleep", &time], 0);
        let request = within(Duration::from_millis(300), request);
        let late: Status = world.runtime().exec_sync(request).await.unwrap_err();
        assert!(gave_up(&late), "{late:?}");
        world.until("it is killed", async || count(0).await).await;
        world.exec(&id, &["true"], 10).await.unwrap();
    });
}

/// Continues a process when dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: Pid) -> Self {
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

async fn supervisor_of(world: &World, pod: &str) -> Pid {
    let request = cri::PodSandboxStatusRequest {
        pod_sandbox_id: pod.to_owned(),
        verbose: true,
    };
    let answer = world.runtime().pod_sandbox_status(request).await.unwrap();
    let info: serde_json::Value = serde_json::from_str(&answer.into_inner().info["info"]).unwrap();
    Pid::from_raw(i32::try_from(info["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

#[test]
fn a_supervisor_that_is_held_delays_its_own_pod_only_and_its_pod_stays_ready() {
    world(async |world| {
        let pod = world.pod("held").await;
        let id = world
            .run(&pod, world.config("c", &["sleep", "100000"]))
            .await;
        let held = Stopped::new(supervisor_of(world, &pod).await);
        let mut calls = JoinSet::new();
        let limit = Duration::from_secs(2);
        // More than the threads of a pod, of all pods, and of the queue of its socket.
        for number in 0..300 {
            let mut runtime = world.runtime();
            let (id, pod) = (id.clone(), pod.clone());
            let config = world.config(&format!("new-{}", number % 20), &["true"]);
            calls.spawn(async move {
                let exec = exec_request(&id, &["true"], 1);
                let exec = runtime.exec_sync(within(limit, exec)).await;
                let reopen = cri::ReopenContainerLogRequest { container_id: id };
                let reopen = runtime.reopen_container_log(within(limit, reopen)).await;
                let create = cri::CreateContainerRequest {
                    pod_sandbox_id: pod.id,
                    config: Some(config),
                    sandbox_config: None,
                };
                let create = runtime.create_container(within(limit, create)).await;
                [exec.map(drop), reopen.map(drop), create.map(drop)]
            });
        }
        while let Some(outcomes) = calls.join_next().await {
            for outcome in outcomes.unwrap() {
                let status = outcome.unwrap_err();
                assert!(gave_up(&status), "{status:?}");
            }
        }
        node_answers(world, "other").await;
        let request = cri::StatusRequest { verbose: true };
        let answer = world.runtime().status(request).await.unwrap().into_inner();
        let calls: serde_json::Value = serde_json::from_str(&answer.info["calls"]).unwrap();
        assert!(calls["count"].as_u64().unwrap() > 0, "{calls}");
        let oldest = &calls["oldest"][0];
        assert!(oldest["of"].as_str().unwrap().contains(&pod.id), "{calls}");
        assert!(oldest["age_seconds"].is_u64() && oldest["rpc"].is_string());
        assert!(answer.status.unwrap().conditions[0].status);
        let ready = world.pod_status(&pod).await.unwrap();
        assert_eq!(ready.state(), cri::PodSandboxState::SandboxReady);
        let runs = world.status(&id).await.unwrap();
        assert_eq!(runs.state(), cri::ContainerState::ContainerRunning);
        let threads = threads(world);
        assert!(threads < 100, "{threads} threads");
        drop(held);
        let runs = world.status(&id).await.unwrap();
        assert_eq!(runs.state(), cri::ContainerState::ContainerRunning);
        world.exec(&id, &["true"], 60).await.unwrap();
    });
}
