//! Promise 1: the engine may die at any instant. No container stops, no log line and no exit code
//! is lost, and the next engine finds everything and clears away what was half made.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{log, world};

#[test]
fn a_killed_engine_costs_no_container_no_log_line_and_no_exit_code() {
    world(async |world| {
        let pod = world.pod("a").await;
        let writer = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; sleep 0.005; done; exit 9";
        let writer = world.run(&pod, world.script("writer", writer)).await;
        let ends = world
            .run(&pod, world.script("ends", "sleep 0.2; exit 5"))
            .await;
        let runs = world
            .run(&pod, world.config("runs", &["sleep", "1000"]))
            .await;
        let created = world
            .create(&pod, world.config("created", &["true"]))
            .await
            .unwrap();
        let pid = world.info(&runs).await["pid"].clone();
        world.node.kill().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        world.serve_again().await;
        assert_eq!(
            world.pod_status(&pod).await.unwrap().state(),
            cri::PodSandboxState::SandboxReady
        );
        assert_eq!(world.ended(&ends).await.exit_code, 5);
        assert_eq!(world.info(&runs).await["pid"], pid);
        let state = world.status(&created).await.unwrap().state();
        assert_eq!(state, cri::ContainerState::ContainerCreated);
        world.start(&created).await.unwrap();
        assert_eq!(world.ended(&created).await.exit_code, 0);
        let written = world.ended(&writer).await;
        assert_eq!(written.exit_code, 9);
        let expected: String = (1..=400).map(|number| format!("{number}\n")).collect();
        assert_eq!(log::read(&written.log_path).of("stdout"), expected);
        assert_eq!(
            world
                .exec(&runs, &["echo", "alive"], 10)
                .await
                .unwrap()
                .stdout,
            b"alive\n"
        );
    });
}

#[test]
fn a_kill_in_the_middle_of_any_verb_leaves_what_the_next_engine_can_clear_or_finish() {
    world(async |world| {
        for round in 0..12_u64 {
            let config = world.pod_config(&format!("round-{round}"));
            let run = async {
                let pod = world.try_pod(&config).await.ok()?;
                let id = world
                    .create(&pod, world.config("c", &["sleep", "1000"]))
                    .await
                    .ok()?;
                world.start(&id).await.ok()?;
                world.remove_pod(&pod).await.ok()
            };
            // The kill comes a little later in each round.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(3 * round), run).await;
            world.node.kill().unwrap();
            world.serve_again().await;
            let pod = match world.try_pod(&config).await {
                // The kill came when the pod was stopped and not yet removed: kubelet removes it again.
                Err(status) if status.code() == tonic::Code::AlreadyExists => {
                    for stopped in pods(world).await {
                        assert_eq!(stopped.state(), cri::PodSandboxState::SandboxNotready);
                        world.remove_pod(&stopped.id).await.unwrap();
                    }
                    world.try_pod(&config).await.unwrap()
                }
                other => other.unwrap(),
            };
            let id = world
                .create(&pod, world.config("c", &["sleep", "1000"]))
                .await
                .unwrap();
            let state = world.status(&id).await.unwrap().state();
            if state == cri::ContainerState::ContainerCreated {
                world.start(&id).await.unwrap();
            }
            world.remove_pod(&pod).await.unwrap();
        }
        let left = pods(world).await;
        assert!(left.is_empty(), "{left:?}");
    });
}

async fn pods(world: &common::World) -> Vec<cri::PodSandbox> {
    let request = cri::ListPodSandboxRequest::default();
    let listed = world.runtime().list_pod_sandbox(request).await;
    listed.unwrap().into_inner().items
}

#[test]
fn a_pod_whose_supervisor_was_killed_is_not_ready_and_can_be_removed() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: pod.clone(),
            verbose: true,
        };
        let answer = world
            .runtime()
            .pod_sandbox_status(request)
            .await
            .unwrap()
            .into_inner();
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        let supervisor = i32::try_from(info["pid"].as_i64().unwrap()).unwrap();
        let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
        rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
        world
            .until("the pod is not ready", async || {
                let status = world.pod_status(&pod).await.unwrap();
                (status.state() == cri::PodSandboxState::SandboxNotready).then_some(())
            })
            .await;
        let state = world.status(&id).await.unwrap().state();
        assert_ne!(state, cri::ContainerState::ContainerCreated);
        world.stop_pod(&pod).await.unwrap();
        world.remove_pod(&pod).await.unwrap();
        assert!(world.pod_status(&pod).await.is_err());
    });
}
