//! What happens to a node in its life: a volume whose server has gone, a clock that jumps, many pods at once, a
//! kubelet that gives up and asks again, an engine that is killed among a hundred pods, and one that may have no more
//! processes.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::Request;

use crate::common::{World, world};

/// A file system whose server says nothing: whoever looks into it waits until it is dropped.
struct Hung {
    at: PathBuf,
    server: Option<OwnedFd>,
}

impl Hung {
    /// `None`: this kernel has no FUSE.
    fn on(at: &Path) -> Option<Self> {
        let server = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
        std::fs::create_dir(at).unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            server.as_raw_fd()
        );
        let options = CString::new(options).unwrap();
        mount(
            c"hung",
            at,
            c"fuse",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .unwrap();
        Some(Self {
            at: at.to_owned(),
            server: Some(server),
        })
    }

    /// The server is gone: who waits gets an error.
    fn end(&mut self) {
        self.server = None;
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.end();
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

/// The calls that a verbose Status names.
async fn oldest(world: &World) -> Vec<Value> {
    let request = cri::StatusRequest { verbose: true };
    let answer = world.runtime().status(request).await.unwrap().into_inner();
    let calls: Value = serde_json::from_str(&answer.info["calls"]).unwrap();
    calls["oldest"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_volume_whose_server_says_nothing_holds_up_its_own_container_only_and_status_names_the_call() {
    world(async |world| {
        let Some(mut hung) = Hung::on(&world.node.path("hung")) else {
            eprintln!("SKIP: no /dev/fuse");
            return;
        };
        let pod = world.pod("a").await;
        let mut config = world.container("c", &["sleep", "1000"]);
        config.mounts.push(cri::Mount {
            container_path: "/data".into(),
            host_path: hung.at.join("volume").display().to_string(),
            ..Default::default()
        });
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let mut runtime = world.runtime();
        let stuck = tokio::spawn(async move { runtime.create_container(request).await });
        let named = world
            .until("Status names it", async || {
                let calls = oldest(world).await;
                calls
                    .into_iter()
                    .find(|call| call["rpc"] == "CreateContainer")
            })
            .await;
        assert!(named["of"].as_str().unwrap().contains(&pod.id), "{named}");
        assert!(named["age_seconds"].is_u64(), "{named}");
        // Everybody else goes on, this pod's lists included.
        let other = world.pod("b").await;
        let id = world.sleeper(&other, "c").await;
        assert_eq!(world.said(&id, &["echo", "hi"]).await, "hi");
        assert_eq!(
            world.pod_ids(cri::PodSandboxFilter::default()).await.len(),
            2
        );
        assert!(!stuck.is_finished());
        hung.end();
        let refused = stuck.await.unwrap().unwrap_err();
        assert!(!refused.message().is_empty());
        world.remove_pod(&pod).await.unwrap();
    });
}

/// Moves every time in a record by as much.
fn shift(value: &mut Value, by: i64) {
    const YEAR_2020: i64 = 1_577_836_800_000_000_000;
    match value {
        Value::Number(number) => {
            if let Some(at) = number.as_i64().filter(|at| *at > YEAR_2020) {
                *value = Value::from(at + by);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| shift(one, by)),
        Value::Object(all) => all.values_mut().for_each(|one| shift(one, by)),
        _ => {}
    }
}

#[test]
fn records_of_a_clock_that_was_a_year_ahead_or_behind_are_those_of_any_other_pod() {
    world(async |world| {
        let year = 365 * 86_400 * 1_000_000_000_i64;
        for (name, by) in [("ahead", year), ("behind", -year)] {
            let pod = world.pod(name).await;
            let id = world.sleeper(&pod, "c").await;
            let before = world.status(&id).await.unwrap().started_at;
            let dir = world.node.path("run/pods").join(&pod.id);
            let bundle = dir.join("containers").join(&id);
            for file in [
                dir.join("pod.json"),
                bundle.join("container.json"),
                bundle.join("state.json"),
            ] {
                let mut record: Value =
                    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
                shift(&mut record, by);
                std::fs::write(&file, record.to_string()).unwrap();
            }
            world.node.kill().unwrap();
            world.serve_again().await;
            let status = world.status(&id).await.unwrap();
            assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
            assert_eq!(status.started_at, before + by);
            assert_eq!(
                world.pod_status(&pod).await.unwrap().state(),
                cri::PodSandboxState::SandboxReady
            );
            assert_eq!(world.said(&id, &["echo", "hi"]).await, "hi");
            let request = cri::ContainerStatsRequest {
                container_id: id.clone(),
            };
            world.runtime().container_stats(request).await.unwrap();
            world.stop(&id, 0).await.unwrap();
            assert_eq!(world.ended(&id).await.exit_code, 137);
            world.remove(&id).await.unwrap();
            world.remove_pod(&pod).await.unwrap();
        }
    });
}

#[test]
fn thirty_pods_at_once_whose_client_gives_up_and_asks_again_are_thirty_pods() {
    world(async |world| {
        let mut calls = JoinSet::new();
        for number in 0..30 {
            let config = world.pod_config(&format!("p{number}"));
            let mut runtime = world.runtime();
            calls.spawn(async move {
                let request = |limit: u64| {
                    let mut request = Request::new(cri::RunPodSandboxRequest {
                        config: Some(config.clone()),
                        runtime_handler: String::new(),
                    });
                    request.set_timeout(Duration::from_millis(limit));
                    request
                };
                // kubelet's time-outs, in small; then it waits as long as it takes.
                for limit in [1, 20, 200] {
                    let _ = runtime.run_pod_sandbox(request(limit)).await;
                }
                let made = runtime.run_pod_sandbox(request(120_000)).await.unwrap();
                let again = runtime.run_pod_sandbox(request(120_000)).await.unwrap();
                let id = made.into_inner().pod_sandbox_id;
                assert_eq!(id, again.into_inner().pod_sandbox_id);
                id
            });
        }
        let mut made = Vec::new();
        while let Some(id) = calls.join_next().await {
            made.push(id.unwrap());
        }
        made.sort();
        assert_eq!(world.pod_ids(cri::PodSandboxFilter::default()).await, made);
        let mut removals = JoinSet::new();
        for id in made {
            let mut runtime = world.runtime();
            removals.spawn(async move {
                let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id };
                runtime.remove_pod_sandbox(request).await.unwrap();
            });
        }
        while let Some(removed) = removals.join_next().await {
            removed.unwrap();
        }
        assert!(
            world
                .pod_ids(cri::PodSandboxFilter::default())
                .await
                .is_empty()
        );
    });
}

#[test]
fn a_hundred_pods_do_not_notice_that_the_engine_was_killed_and_all_are_found() {
    world(async |world| {
        let mut made = Vec::new();
        for number in 0..100 {
            let pod = world.pod(&format!("p{number}")).await;
            let id = world.sleeper(&pod, "c").await;
            made.push((pod, id));
        }
        // What would differ if anything had been started again.
        let facts = async |world: &World| {
            let mut all = Vec::new();
            for (pod, id) in &made {
                let status = world.status(id).await.unwrap();
                assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
                let sandbox = world.pod_status(pod).await.unwrap();
                assert_eq!(sandbox.state(), cri::PodSandboxState::SandboxReady);
                let ips = sandbox.network.map(|network| network.ip);
                let pid = world.info(id).await["pid"].clone();
                all.push((status.started_at, sandbox.created_at, ips, pid));
            }
            all
        };
        let before = facts(world).await;
        let supervisors = world.supervisors();
        assert_eq!(supervisors.len(), 100);
        for _ in 0..2 {
            world.node.kill().unwrap();
            world.serve_again().await;
            assert_eq!(facts(world).await, before);
            assert_eq!(world.supervisors(), supervisors);
        }
        let all = world.pod_ids(cri::PodSandboxFilter::default()).await;
        assert_eq!(all.len(), 100);
    });
}

impl World {
    /// The pids of the supervisors, as the pods' directories have them, of those that live.
    fn supervisors(&self) -> Vec<u64> {
        let pods = std::fs::read_dir(self.node.path("run/pods")).unwrap();
        let pid = |pod: std::fs::DirEntry| {
            let bytes = std::fs::read(pod.path().join("supervisor.json")).ok()?;
            let info: Value = serde_json::from_slice(&bytes).unwrap();
            let pid = info["pid"].as_u64().unwrap();
            Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
        };
        let mut all: Vec<u64> = pods.filter_map(|pod| pid(pod.unwrap())).collect();
        all.sort_unstable();
        all
    }
}

/// A cgroup of the engine alone in which it may start nothing more; it is gone, and the engine back where it was,
/// when this is dropped.
struct Full {
    dir: PathBuf,
    engine: u32,
}

impl Full {
    /// `None`: this machine has no controller of pids that a test may use.
    fn around(engine: u32) -> Option<Self> {
        let v1 = Path::new("/sys/fs/cgroup/pids");
        let root = if v1.is_dir() {
            v1
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let dir = root.join(format!("floe-full-{engine}"));
        std::fs::create_dir(&dir).ok()?;
        let full = Self { dir, engine };
        std::fs::write(full.dir.join("cgroup.procs"), engine.to_string()).ok()?;
        let threads = std::fs::read_to_string(full.dir.join("pids.current")).ok()?;
        std::fs::write(full.dir.join("pids.max"), threads.trim()).ok()?;
        Some(full)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let root = self.dir.parent().unwrap();
        let _ = std::fs::write(root.join("cgroup.procs"), self.engine.to_string());
        let _ = std::fs::remove_dir(&self.dir);
    }
}

#[test]
fn an_engine_that_may_have_no_more_processes_says_so_and_goes_on_when_it_may() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let Some(full) = Full::around(world.node.engine_pid().unwrap()) else {
            eprintln!("SKIP: no controller of pids");
            return;
        };
        for number in 0..20 {
            // Made by the pod's supervisor, which is elsewhere.
            assert_eq!(world.said(&id, &["echo", "on"]).await, "on");
            let config = world.pod_config(&format!("refused{number}"));
            let refused = world.try_pod(&config).await.unwrap_err();
            assert_ne!(refused.code(), tonic::Code::DeadlineExceeded, "{refused}");
            let all = world.pod_ids(cri::PodSandboxFilter::default()).await;
            assert_eq!(all, std::slice::from_ref(&pod.id), "nothing is left");
        }
        drop(full);
        let later = world.pod("refused0").await;
        world.sleeper(&later, "c").await;
    });
}
