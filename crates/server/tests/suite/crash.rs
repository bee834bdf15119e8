//! Promise 1: the engine may die at any instant. No container stops, no log line and no exit code
//! is lost, and the next engine finds everything and clears away what was half made.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::common::{log, world};

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
        for round in 0..20_u64 {
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
            let _ = tokio::time::timeout(std::time::Duration::from_millis(2 * round), run).await;
            world.node.kill().unwrap();
            world.serve_again().await;
            nothing_but_what_is_listed(world).await;
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
        nothing_but_what_is_listed(world).await;
    });
}

/// No directory, name or cgroup is there but those of the pods that are listed.
async fn nothing_but_what_is_listed(world: &crate::common::World) {
    let listed = pods(world).await.len();
    let count = |dir: &str| {
        std::fs::read_dir(world.node.path("run").join(dir))
            .unwrap()
            .count()
    };
    assert_eq!(count("pods"), listed);
    // Each pod here has one container at the most.
    assert!(count("names") <= 2 * listed, "{}", count("names"));
    if listed == 0 {
        let cgroups = std::process::Command::new("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-path"])
            .arg(format!("*{}/*", world.node.cgroup()))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&cgroups.stdout), "");
    }
}

async fn pods(world: &crate::common::World) -> Vec<cri::PodSandbox> {
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
            pod_sandbox_id: pod.id.clone(),
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

/// Kills a pod's supervisor, and waits until it is seen to be gone.
pub(crate) async fn kill_supervisor(world: &crate::common::World, pod: &str) {
    let record = world
        .node
        .path("run/pods")
        .join(pod)
        .join("supervisor.json");
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let pid = i32::try_from(record["pid"].as_i64().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    world
        .until("the pod is not ready", async || {
            let status = world.pod_status(pod).await.unwrap();
            (status.state() == cri::PodSandboxState::SandboxNotready).then_some(())
        })
        .await;
}

fn alive(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Waits for the end of a process that has left its cgroup: the kernel takes it out a moment before.
pub(crate) async fn ended(world: &crate::common::World, pid: i64) {
    let gone = async || (!alive(pid)).then_some(());
    world
        .until("a process of what was stopped ends", gone)
        .await;
}

/// A container with a PID namespace of its own, which outlives the pod's supervisor.
pub(crate) fn alone(config: cri::ContainerConfig) -> cri::ContainerConfig {
    crate::common::secured(config, |security| {
        let namespaces = security.namespace_options.get_or_insert_default();
        namespaces.set_pid(cri::NamespaceMode::Container);
    })
}

#[test]
fn a_container_that_lost_its_supervisor_is_really_stopped_and_has_an_end() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "trap 'echo asked; exit 3' TERM; while :; do sleep 0.05; done";
        let polite = world.run(&pod, alone(world.script("polite", script))).await;
        let script = "trap '' TERM; while :; do sleep 0.05; done";
        let stubborn = world
            .run(&pod, alone(world.script("stubborn", script)))
            .await;
        let left = alone(world.config("left", &["sleep", "1000"]));
        let left = world.run(&pod, left).await;
        let mut pids = Vec::new();
        for id in [&polite, &stubborn, &left] {
            pids.push(world.info(id).await["pid"].as_i64().unwrap());
        }
        kill_supervisor(world, &pod).await;
        assert!(pids.iter().all(|pid| alive(*pid)));
        let unknown = world.status(&left).await.unwrap().state();
        assert_eq!(unknown, cri::ContainerState::ContainerUnknown);
        world.stop(&polite, 10).await.unwrap();
        world.stop(&stubborn, 0).await.unwrap();
        ended(world, pids[0]).await;
        ended(world, pids[1]).await;
        assert!(alive(pids[2]));
        for id in [&polite, &stubborn] {
            let status = world.status(id).await.unwrap();
            assert_eq!(status.state(), cri::ContainerState::ContainerExited);
            assert_eq!(status.exit_code, 137);
            let later = world.status(id).await.unwrap();
            assert_eq!(status.finished_at, later.finished_at);
        }
        world.stop_pod(&pod).await.unwrap();
        ended(world, pids[2]).await;
        let status = world.status(&left).await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerExited);
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
        assert!(status.finished_at > 0);
        world.remove_pod(&pod).await.unwrap();
    });
}

#[test]
fn a_pod_limit_of_a_few_megabytes_kills_containers_and_not_the_supervisor() {
    world(async |world| {
        let parent = format!("{}/limited", world.node.cgroup());
        let v1 = std::path::Path::new("/sys/fs/cgroup/memory");
        let (dir, file) = match v1.is_dir() {
            true => (v1.to_owned(), "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup".into(), "memory.max"),
        };
        let dir = dir.join(parent.trim_start_matches('/'));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(file), "4194304").unwrap();
        let mut config = world.pod_config("a");
        config.linux.get_or_insert_default().cgroup_parent = parent.clone();
        let pod = world.try_pod(&config).await.unwrap();
        let eater = "x=; while :; do x=$x$x.................................; done";
        for attempt in 0..3 {
            let mut config = world.script("eater", eater);
            config.metadata.as_mut().unwrap().attempt = attempt;
            let Ok(id) = world.create(&pod, config).await else {
                continue;
            };
            if world.start(&id).await.is_ok() {
                let ended = world.ended(&id).await;
                assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
            }
        }
        let status = world.pod_status(&pod).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
        world.remove_pod(&pod).await.unwrap();
        std::fs::write(dir.join(file), "-1").ok();
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(parent.trim_start_matches('/')));
        }
    });
}

/// Has the engine start supervisors by a program that takes its time before it is one.
async fn with_slow_supervisors(world: &mut crate::common::World) {
    let text = std::fs::read_to_string(world.node.config()).unwrap();
    let real = text.split("runtime_path = \"").nth(1).unwrap();
    let real = real.split('"').next().unwrap().to_owned();
    let slow = world.node.path("slow-runtime");
    let script = format!("#!/bin/sh\nsleep 0.3\nexec {real} \"$@\"\n");
    std::fs::write(&slow, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&slow, mode).unwrap();
    let slow = slow.display().to_string();
    std::fs::write(world.node.config(), text.replace(&real, &slow)).unwrap();
    world.node.kill().unwrap();
    world.serve_again().await;
}

#[test]
fn a_kill_while_a_supervisor_starts_leaves_no_supervisor_no_cgroup_and_no_name() {
    world(async |world| {
        with_slow_supervisors(world).await;
        for round in 0..10_u64 {
            let mut config = world.pod_config(&format!("round-{round}"));
            let parent = format!("{}/kubelets-{round}", world.node.cgroup());
            config.linux.get_or_insert_default().cgroup_parent = parent.clone();
            let patience = std::time::Duration::from_millis(40 * round);
            let _ = tokio::time::timeout(patience, world.try_pod(&config)).await;
            world.node.kill().unwrap();
            world.serve_again().await;
            let left = pods(world).await;
            for pod in &left {
                world.remove_pod(&pod.id).await.unwrap();
            }
            for dir in ["pods", "names"] {
                let dir = world.node.path("run").join(dir);
                let left: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().collect();
                assert!(left.is_empty(), "round {round}: {left:?}");
            }
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            let found = std::process::Command::new("find")
                .args(["/sys/fs/cgroup", "-path"])
                .arg(format!("*{parent}/crio-*"))
                .args(["-prune", "-print"])
                .output()
                .unwrap();
            let found = String::from_utf8_lossy(&found.stdout).into_owned();
            assert!(found.is_empty(), "round {round}: {found}");
            let ours = world.node.dir().display().to_string();
            let supervisors = testkit::leftovers::processes(" supervise ");
            let supervisors = supervisors.iter().filter(|(_, line)| line.contains(&ours));
            assert_eq!(supervisors.count(), 0, "round {round}");
            for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
                let dir = hierarchy.path().join(parent.trim_start_matches('/'));
                let _ = std::fs::remove_dir(dir);
            }
        }
    });
}
