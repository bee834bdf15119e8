//! The calls that are measured: all pods and containers are made, then asked, then stopped and removed. A call that
//! fails is counted, and is no time; one without an answer ends the run.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cri::runtime_service_client::RuntimeServiceClient;
use futures_util::StreamExt;
use futures_util::stream;
use tonic::transport::Channel;

use crate::connection::Refusal;
use crate::failure::{Context, Failure, Outcome};
use crate::fixture::{Answer, Fixture, Interrupts, LASTS, Made, Place, random, told};
use crate::say;
use crate::verb::World;

/// Part of the names of all that is made.
const PART: &str = "bench";

/// Seconds until a container is killed that does not end by itself.
const GRACE: i64 = 10;

/// The calls, in the order in which they are told.
#[derive(Debug, Clone, Copy)]
enum Rpc {
    RunPodSandbox,
    CreateContainer,
    StartContainer,
    ExecSync,
    ListPodSandbox,
    ListContainers,
    ListContainerStats,
    StopContainer,
    RemoveContainer,
    StopPodSandbox,
    RemovePodSandbox,
}

const ALL: [Rpc; 11] = [
    Rpc::RunPodSandbox,
    Rpc::CreateContainer,
    Rpc::StartContainer,
    Rpc::ExecSync,
    Rpc::ListPodSandbox,
    Rpc::ListContainers,
    Rpc::ListContainerStats,
    Rpc::StopContainer,
    Rpc::RemoveContainer,
    Rpc::StopPodSandbox,
    Rpc::RemovePodSandbox,
];

impl Rpc {
    fn name(self) -> &'static str {
        match self {
            Self::RunPodSandbox => "RunPodSandbox",
            Self::CreateContainer => "CreateContainer",
            Self::StartContainer => "StartContainer",
            Self::ExecSync => "ExecSync",
            Self::ListPodSandbox => "ListPodSandbox",
            Self::ListContainers => "ListContainers",
            Self::ListContainerStats => "ListContainerStats",
            Self::StopContainer => "StopContainer",
            Self::RemoveContainer => "RemoveContainer",
            Self::StopPodSandbox => "StopPodSandbox",
            Self::RemovePodSandbox => "RemovePodSandbox",
        }
    }
}

/// The times of a call.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) rpc: &'static str,
    /// Seconds, in the order in which they came.
    pub(super) took: Vec<f64>,
    pub(super) failed: usize,
    /// What was said of the first that failed.
    pub(super) why: Option<String>,
}

/// What the person wants.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) pods: u16,
    pub(super) parallel: u16,
    pub(super) image: String,
}

/// All that was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) asked: Asked,
    pub(super) version: cri::VersionResponse,
    /// The run's name, and namespace.
    pub(super) run: String,
    pub(super) series: Vec<Series>,
    /// Seconds until all pods were up, and from the first stop until all were gone.
    pub(super) up: f64,
    pub(super) down: f64,
    pub(super) broken_off: Option<String>,
    pub(super) left: Vec<String>,
}

/// A run that is under way.
struct Bench<'f> {
    fixture: &'f Fixture,
    made: Arc<Made>,
    logs: PathBuf,
    parallel: usize,
    series: RefCell<Vec<Series>>,
    silence: Cell<Option<&'static str>>,
    up: Cell<f64>,
    down: Cell<f64>,
}

/// A pod, and its container if that could be made.
struct Up {
    pod: String,
    container: Option<String>,
}

/// Measures, and removes all that was made for it.
pub(super) async fn all(world: &World, place: Place, asked: Asked) -> Outcome<Measured> {
    let mut interrupts = Interrupts::new()?;
    let mut fixture = tokio::select! {
        fixture = Fixture::new(world, "floe-bench", &asked.image, place) => fixture?,
        () = interrupts.heard() => return Err(Failure::new("interrupted")),
    };
    let mut broken_off = tokio::select! {
        () = fixture.find_image() => fixture.image.found.as_ref().err().map(|why| {
            format!("{}: {why}: give --image", fixture.image.name)
        }),
        () = interrupts.heard() => Some("interrupted".to_owned()),
    };
    let logs = fixture.directory.sub("logs").context("make a directory")?;
    let bench = Bench {
        fixture: &fixture,
        made: fixture.made(PART),
        logs,
        parallel: asked.parallel.into(),
        series: RefCell::new(ALL.map(series).into()),
        silence: Cell::default(),
        up: Cell::default(),
        down: Cell::default(),
    };
    if broken_off.is_none() {
        broken_off = tokio::select! {
            () = bench.measure(asked.pods) => bench.silence.get().map(|rpc| {
                format!("{rpc} has no answer within {:?}", fixture.limit)
            }),
            () = interrupts.heard() => Some("interrupted".to_owned()),
        };
    }
    if broken_off.is_some() {
        say::info(&format!("removing what namespace {} has", fixture.run));
    }
    let left = fixture.removed(&mut interrupts).await;
    Ok(Measured {
        asked,
        version: fixture.version.clone(),
        run: fixture.run.clone(),
        series: bench.series.into_inner(),
        up: bench.up.get(),
        down: bench.down.get(),
        broken_off,
        left,
    })
}

fn series(rpc: Rpc) -> Series {
    Series {
        rpc: rpc.name(),
        took: Vec::new(),
        failed: 0,
        why: None,
    }
}

impl Bench<'_> {
    async fn measure(&self, pods: u16) {
        let begin = Instant::now();
        let made = stream::iter(0..pods).map(|number| self.make(number));
        let made: Vec<Option<Up>> = made.buffer_unordered(self.parallel).collect().await;
        let made: Vec<Up> = made.into_iter().flatten().collect();
        self.up.set(begin.elapsed().as_secs_f64());
        let asked = stream::iter(&made).map(|up| self.ask_of(up));
        asked.buffer_unordered(self.parallel).collect::<()>().await;
        let begin = Instant::now();
        let removed = stream::iter(&made).map(|up| self.remove(up));
        removed
            .buffer_unordered(self.parallel)
            .collect::<()>()
            .await;
        self.down.set(begin.elapsed().as_secs_f64());
    }

    /// Keeps what came of a call.
    fn note<T>(&self, rpc: Rpc, answer: Result<(T, Duration), Refusal>) -> Option<T> {
        let mut all = self.series.borrow_mut();
        let series = &mut all[rpc as usize];
        match answer {
            Ok((answer, took)) => {
                series.took.push(took.as_secs_f64());
                Some(answer)
            }
            Err(refusal) => {
                series.failed += 1;
                series.why.get_or_insert_with(|| told(&refusal));
                if matches!(refusal, Refusal::Silence(_)) {
                    // Each of the others would take as long.
                    self.silence.set(Some(rpc.name()));
                }
                None
            }
        }
    }

    /// Makes a call and measures it; not once the runtime has fallen silent.
    async fn call<T>(
        &self,
        rpc: Rpc,
        ask: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Answer<T>,
    ) -> Option<T> {
        if self.silence.get().is_some() {
            return None;
        }
        let begin = Instant::now();
        let answer = self
            .fixture
            .runtime
            .ask(Some(self.fixture.limit), ask)
            .await;
        self.note(rpc, answer.map(|answer| (answer, begin.elapsed())))
    }

    async fn make(&self, number: u16) -> Option<Up> {
        if self.silence.get().is_some() {
            return None;
        }
        let uid = random().unwrap_or_default();
        let mut config = self.fixture.pod_config(PART, &uid, &self.logs);
        if let Some(metadata) = &mut config.metadata {
            metadata.name = format!("{PART}-{number}");
        }
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: self.fixture.place.runtime_handler.clone(),
        };
        let pod = self.made.run_pod(request).await;
        let pod = self.note(Rpc::RunPodSandbox, pod)?;
        let container = self
            .fixture
            .container_config(PART, &format!("{PART}-{number}"), LASTS);
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(container),
            sandbox_config: Some(config),
        };
        let created = self
            .call(Rpc::CreateContainer, async |mut client| {
                client.create_container(request).await
            })
            .await;
        let container = created.map(|answer| answer.container_id);
        if let Some(id) = &container {
            let request = cri::StartContainerRequest {
                container_id: id.clone(),
            };
            self.call(Rpc::StartContainer, async |mut client| {
                client.start_container(request).await
            })
            .await;
        }
        Some(Up { pod, container })
    }

    /// A command in a container, and the lists of all.
    async fn ask_of(&self, up: &Up) {
        if let Some(id) = &up.container {
            let request = cri::ExecSyncRequest {
                container_id: id.clone(),
                cmd: ["/bin/sh", "-c", ":"].map(str::to_owned).into(),
                timeout: i64::try_from(self.fixture.limit.as_secs()).unwrap_or(i64::MAX),
            };
            self.call(Rpc::ExecSync, async |mut client| {
                client.exec_sync(request).await
            })
            .await;
        }
        let request = cri::ListPodSandboxRequest::default();
        self.call(Rpc::ListPodSandbox, async |mut client| {
            client.list_pod_sandbox(request).await
        })
        .await;
        let request = cri::ListContainersRequest::default();
        self.call(Rpc::ListContainers, async |mut client| {
            client.list_containers(request).await
        })
        .await;
        let request = cri::ListContainerStatsRequest::default();
        self.call(Rpc::ListContainerStats, async |mut client| {
            client.list_container_stats(request).await
        })
        .await;
    }

    async fn remove(&self, up: &Up) {
        if let Some(id) = &up.container {
            let request = cri::StopContainerRequest {
                container_id: id.clone(),
                timeout: GRACE,
            };
            self.call(Rpc::StopContainer, async |mut client| {
                client.stop_container(request).await
            })
            .await;
            let request = cri::RemoveContainerRequest {
                container_id: id.clone(),
            };
            self.call(Rpc::RemoveContainer, async |mut client| {
                client.remove_container(request).await
            })
            .await;
        }
        let request = cri::StopPodSandboxRequest {
            pod_sandbox_id: up.pod.clone(),
        };
        self.call(Rpc::StopPodSandbox, async |mut client| {
            client.stop_pod_sandbox(request).await
        })
        .await;
        let request = cri::RemovePodSandboxRequest {
            pod_sandbox_id: up.pod.clone(),
        };
        let removed = self
            .call(Rpc::RemovePodSandbox, async |mut client| {
                client.remove_pod_sandbox(request).await
            })
            .await;
        if removed.is_some() {
            self.made.forget(&up.pod);
        }
    }
}
