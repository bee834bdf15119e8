//! What happens to a node in its life: a volume whose server has gone, a clock that jumps, many pods at once, and a
//! kubelet that gives up and asks again.

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
