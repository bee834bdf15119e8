//! `runtime.v1.RuntimeService`: pods, containers, commands and the state of the runtime.

use std::time::Duration;

use cri::runtime_service_server::RuntimeService;
use engine::Engine;
use streaming::{Attach, Exec, PortForward, Urls};
use tonic::{Request, Response, Status};

use crate::answer::{Building, Held};
use crate::chunks::{Chunks, chunks};
use crate::convert::timeline::timeline;
use crate::convert::{self, container, pod};
use crate::events::Events;
use crate::work::{Lists, Work};
use crate::{checkpoint, deadline, events, node, refusal, statistics, status, streams};

/// The runtime service of one engine.
#[derive(Debug)]
pub(crate) struct RuntimeServer {
    work: Work,
    urls: Urls,
    events: Events,
}

impl RuntimeServer {
    pub(crate) fn new(work: Work, urls: Urls, events: Events) -> Self {
        Self { work, urls, events }
    }

    async fn pods(
        &self,
        filter: Option<cri::PodSandboxFilter>,
    ) -> Result<Vec<cri::PodSandbox>, Status> {
        let filter = pod::filter(filter).map_err(status::of)?;
        let read = move |engine: &Engine| {
            let pods = engine.pods(&filter)?;
            Ok(pods.iter().map(|one| pod::item(one)).collect())
        };
        self.work.read("ListPodSandbox", read).await
    }

    async fn containers(
        &self,
        filter: Option<cri::ContainerFilter>,
    ) -> Result<Vec<cri::Container>, Status> {
        let filter = container::filter(filter).map_err(status::of)?;
        let read = move |engine: &Engine| {
            let containers = engine.containers(&filter)?;
            Ok(containers.iter().map(|one| container::item(one)).collect())
        };
        self.work.read("ListContainers", read).await
    }
}

/// A list's answer, which gives its place back once it is encoded.
pub(crate) fn building<T>(
    mut answer: Response<T>,
    place: impl Send + Sync + 'static,
) -> Response<T> {
    answer.extensions_mut().insert(Building::new(place));
    answer
}

/// An id of a request, which must be there.
fn id(field: &str, id: String) -> Result<String, Status> {
    refusal::about(&id);
    convert::not_empty(field, id).map_err(status::of)
}

/// Seconds of a request, which cannot be negative.
fn seconds(field: &str, seconds: i64) -> Result<Duration, Status> {
    let seconds = u64::try_from(seconds)
        .map_err(|_| status::of(convert::invalid(field, format!("{seconds} is negative"))))?;
    Ok(Duration::from_secs(seconds))
}

#[tonic::async_trait]
impl RuntimeService for RuntimeServer {
    async fn version(
        &self,
        _request: Request<cri::VersionRequest>,
    ) -> Result<Response<cri::VersionResponse>, Status> {
        Ok(Response::new(node::version(&self.work.engine())))
    }

    async fn status(
        &self,
        request: Request<cri::StatusRequest>,
    ) -> Result<Response<cri::StatusResponse>, Status> {
        let verbose = request.into_inner().verbose;
        let calls = self.work.calls().clone();
        let read = move |engine: &Engine| {
            // Those of containers know their pods' names only when somebody asks.
            calls.name_pods(|container| engine.pod_of_container(container).ok().flatten());
            Ok(node::status(engine, &calls, verbose))
        };
        Ok(Response::new(self.work.read("Status", read).await?))
    }

    async fn runtime_config(
        &self,
        _request: Request<cri::RuntimeConfigRequest>,
    ) -> Result<Response<cri::RuntimeConfigResponse>, Status> {
        Ok(Response::new(node::runtime_config(
            self.work.engine().node().cgroups().manager(),
        )))
    }

    async fn update_runtime_config(
        &self,
        request: Request<cri::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<cri::UpdateRuntimeConfigResponse>, Status> {
        let network = request
            .into_inner()
            .runtime_config
            .and_then(|config| config.network_config);
        let pod_cidr = network.unwrap_or_default().pod_cidr;
        convert::check::ranges("runtime_config.network_config.pod_cidr", &pod_cidr)
            .map_err(status::of)?;
        tracing::info!(
            pod_cidr,
            "UpdateRuntimeConfig: noted; addresses are the conflist's to give"
        );
        Ok(Response::new(cri::UpdateRuntimeConfigResponse {}))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<cri::RunPodSandboxRequest>,
    ) -> Result<Response<cri::RunPodSandboxResponse>, Status> {
        let request = request.into_inner();
        refusal::about(&pod::asked_name(&request));
        let spec = pod::spec(request).map_err(status::of)?;
        let of = pod::label(&spec);
        let run = move |engine: &Engine| engine.run_pod(spec);
        let pod_sandbox_id = self
            .work
            .change("RunPodSandbox", of.clone(), &of, run)
            .await?;
        Ok(Response::new(cri::RunPodSandboxResponse { pod_sandbox_id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<cri::StopPodSandboxRequest>,
    ) -> Result<Response<cri::StopPodSandboxResponse>, Status> {
        let pod = id("pod_sandbox_id", request.into_inner().pod_sandbox_id)?;
        let (of, object) = (pod.clone(), pod.clone());
        let stop = move |engine: &Engine| engine.stop_pod(&pod);
        self.work
            .change("StopPodSandbox", of, &object, stop)
            .await?;
        Ok(Response::new(cri::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<cri::RemovePodSandboxRequest>,
    ) -> Result<Response<cri::RemovePodSandboxResponse>, Status> {
        let pod = id("pod_sandbox_id", request.into_inner().pod_sandbox_id)?;
        let (of, object) = (pod.clone(), pod.clone());
        let remove = move |engine: &Engine| engine.remove_pod(&pod);
        self.work
            .change("RemovePodSandbox", of, &object, remove)
            .await?;
        Ok(Response::new(cri::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<cri::PodSandboxStatusRequest>,
    ) -> Result<Response<cri::PodSandboxStatusResponse>, Status> {
        let request = request.into_inner();
        let id = id("pod_sandbox_id", request.pod_sandbox_id)?;
        let read = move |engine: &Engine| engine.pod_views(&id);
        let (found, containers, as_of) = self.work.read("PodSandboxStatus", read).await?;
        let info = if request.verbose {
            let pulls = self.work.engine().pulls_of(&found.spec);
            pod::info(&found, &timeline(&found, &containers, &pulls))
        } else {
            Default::default()
        };
        let status = Some(pod::status(found));
        // With them kubelet needs no further calls, and can tell what is older than an event.
        let (containers_statuses, timestamp) = match events::enabled(&self.work) {
            true => (container::statuses(&containers), as_of),
            false => Default::default(),
        };
        Ok(Response::new(cri::PodSandboxStatusResponse {
            status,
            info,
            containers_statuses,
            timestamp,
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<cri::ListPodSandboxRequest>,
    ) -> Result<Response<cri::ListPodSandboxResponse>, Status> {
        let place = self.work.list(Lists::Records).await;
        let items = self.pods(request.into_inner().filter).await?;
        Ok(building(
            Response::new(cri::ListPodSandboxResponse { items }),
            place,
        ))
    }

    type StreamPodSandboxesStream = Chunks<cri::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<cri::StreamPodSandboxesRequest>,
    ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
        let place = self.work.list(Lists::Records).await;
        let pods = self.pods(request.into_inner().filter).await?;
        Ok(building(
            chunks(pods, |pod_sandboxes| cri::StreamPodSandboxesResponse {
                pod_sandboxes,
            }),
            place,
        ))
    }

    async fn create_container(
        &self,
        request: Request<cri::CreateContainerRequest>,
    ) -> Result<Response<cri::CreateContainerResponse>, Status> {
        let request = request.into_inner();
        let pod = id("pod_sandbox_id", request.pod_sandbox_id)?;
        let spec = container::spec(request.config).map_err(status::of)?;
        let of = format!("{} in {pod}", spec.name);
        let object = pod.clone();
        let create = move |engine: &Engine| engine.create_container(&pod, spec);
        let create = self.work.change("CreateContainer", of, &object, create);
        let container_id = create.await?;
        Ok(Response::new(cri::CreateContainerResponse { container_id }))
    }

    async fn start_container(
        &self,
        request: Request<cri::StartContainerRequest>,
    ) -> Result<Response<cri::StartContainerResponse>, Status> {
        let of = id("container_id", request.into_inner().container_id)?;
        let id = of.clone();
        let start = move |engine: &Engine| engine.start_call(&id);
        let none = Duration::ZERO;
        self.work.life("StartContainer", of, none, start).await?;
        Ok(Response::new(cri::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<cri::StopContainerRequest>,
    ) -> Result<Response<cri::StopContainerResponse>, Status> {
        let request = request.into_inner();
        let of = id("container_id", request.container_id)?;
        let grace = seconds("timeout", request.timeout)?;
        let id = of.clone();
        let stop = move |engine: &Engine| engine.stop_call(&id, grace);
        self.work.life("StopContainer", of, grace, stop).await?;
        Ok(Response::new(cri::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<cri::RemoveContainerRequest>,
    ) -> Result<Response<cri::RemoveContainerResponse>, Status> {
        let of = id("container_id", request.into_inner().container_id)?;
        let remove = |engine: &Engine, id: &str| engine.remove_container(id);
        self.work
            .change_container("RemoveContainer", of, remove)
            .await?;
        Ok(Response::new(cri::RemoveContainerResponse {}))
    }

    async fn container_status(
        &self,
        request: Request<cri::ContainerStatusRequest>,
    ) -> Result<Response<cri::ContainerStatusResponse>, Status> {
        let cri::ContainerStatusRequest {
            container_id,
            verbose,
        } = request.into_inner();
        let id = id("container_id", container_id)?;
        let read = move |engine: &Engine| {
            let found = engine.container(&id)?;
            let info = if verbose {
                container::info(&found, &node::runtime_spec(&found)?)
            } else {
                Default::default()
            };
            Ok((found, info))
        };
        let (found, info) = self.work.read("ContainerStatus", read).await?;
        let status = Some(container::status(found));
        Ok(Response::new(cri::ContainerStatusResponse { status, info }))
    }

    async fn list_containers(
        &self,
        request: Request<cri::ListContainersRequest>,
    ) -> Result<Response<cri::ListContainersResponse>, Status> {
        let place = self.work.list(Lists::Records).await;
        let containers = self.containers(request.into_inner().filter).await?;
        Ok(building(
            Response::new(cri::ListContainersResponse { containers }),
            place,
        ))
    }

    type StreamContainersStream = Chunks<cri::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<cri::StreamContainersRequest>,
    ) -> Result<Response<Self::StreamContainersStream>, Status> {
        let place = self.work.list(Lists::Records).await;
        let containers = self.containers(request.into_inner().filter).await?;
        Ok(building(
            chunks(containers, |containers| cri::StreamContainersResponse {
                containers,
            }),
            place,
        ))
    }

    async fn reopen_container_log(
        &self,
        request: Request<cri::ReopenContainerLogRequest>,
    ) -> Result<Response<cri::ReopenContainerLogResponse>, Status> {
        let of = id("container_id", request.into_inner().container_id)?;
        let reopen = |engine: &Engine, id: &str| engine.reopen_log(id);
        self.work
            .change_container("ReopenContainerLog", of, reopen)
            .await?;
        Ok(Response::new(cri::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(
        &self,
        request: Request<cri::ExecSyncRequest>,
    ) -> Result<Response<cri::ExecSyncResponse>, Status> {
        let request = request.into_inner();
        let id = id("container_id", request.container_id)?;
        convert::check::command("cmd", &request.cmd).map_err(status::of)?;
        let limit = Some(seconds("timeout", request.timeout)?).filter(|limit| !limit.is_zero());
        let exec = move |engine: &Engine| engine.exec_sync(&id, &request.cmd, limit);
        let output = self.work.command("ExecSync", exec).await?;
        let mut answer = Response::new(cri::ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.exit_code,
        });
        answer.extensions_mut().insert(Held::new(output.memory));
        Ok(answer)
    }

    async fn container_stats(
        &self,
        request: Request<cri::ContainerStatsRequest>,
    ) -> Result<Response<cri::ContainerStatsResponse>, Status> {
        let id = id("container_id", request.into_inner().container_id)?;
        let stats = Some(statistics::container(&self.work, id).await?);
        Ok(Response::new(cri::ContainerStatsResponse { stats }))
    }

    async fn list_container_stats(
        &self,
        request: Request<cri::ListContainerStatsRequest>,
    ) -> Result<Response<cri::ListContainerStatsResponse>, Status> {
        let place = self.work.list(Lists::Disks).await;
        let stats = statistics::containers(&self.work, request.into_inner().filter).await?;
        Ok(building(
            Response::new(cri::ListContainerStatsResponse { stats }),
            place,
        ))
    }

    type StreamContainerStatsStream = Chunks<cri::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<cri::StreamContainerStatsRequest>,
    ) -> Result<Response<Self::StreamContainerStatsStream>, Status> {
        let place = self.work.list(Lists::Disks).await;
        let stats = statistics::containers(&self.work, request.into_inner().filter).await?;
        Ok(building(
            chunks(stats, |container_stats| cri::StreamContainerStatsResponse {
                container_stats,
            }),
            place,
        ))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<cri::PodSandboxStatsRequest>,
    ) -> Result<Response<cri::PodSandboxStatsResponse>, Status> {
        let id = id("pod_sandbox_id", request.into_inner().pod_sandbox_id)?;
        let stats = Some(statistics::pod(&self.work, id).await?);
        Ok(Response::new(cri::PodSandboxStatsResponse { stats }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<cri::ListPodSandboxStatsRequest>,
    ) -> Result<Response<cri::ListPodSandboxStatsResponse>, Status> {
        let place = self.work.list(Lists::Disks).await;
        let stats = statistics::pods(&self.work, request.into_inner().filter).await?;
        Ok(building(
            Response::new(cri::ListPodSandboxStatsResponse { stats }),
            place,
        ))
    }

    type StreamPodSandboxStatsStream = Chunks<cri::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<cri::StreamPodSandboxStatsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxStatsStream>, Status> {
        let place = self.work.list(Lists::Disks).await;
        let stats = statistics::pods(&self.work, request.into_inner().filter).await?;
        Ok(building(
            chunks(stats, |pod_sandbox_stats| {
                cri::StreamPodSandboxStatsResponse { pod_sandbox_stats }
            }),
            place,
        ))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<cri::ListMetricDescriptorsRequest>,
    ) -> Result<Response<cri::ListMetricDescriptorsResponse>, Status> {
        let descriptors = statistics::descriptors(&self.work);
        let answer = cri::ListMetricDescriptorsResponse { descriptors };
        Ok(Response::new(answer))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<cri::ListPodSandboxMetricsRequest>,
    ) -> Result<Response<cri::ListPodSandboxMetricsResponse>, Status> {
        let place = self.work.list(Lists::Disks).await;
        let pod_metrics = statistics::metrics(&self.work).await?.collect();
        let answer = cri::ListPodSandboxMetricsResponse { pod_metrics };
        Ok(building(Response::new(answer), place))
    }

    type StreamPodSandboxMetricsStream = Chunks<cri::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<cri::StreamPodSandboxMetricsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxMetricsStream>, Status> {
        let place = self.work.list(Lists::Disks).await;
        let all = statistics::metrics(&self.work).await?.collect();
        let message = |pod_sandbox_metrics| cri::StreamPodSandboxMetricsResponse {
            pod_sandbox_metrics,
        };
        Ok(building(chunks(all, message), place))
    }

    async fn update_container_resources(
        &self,
        request: Request<cri::UpdateContainerResourcesRequest>,
    ) -> Result<Response<cri::UpdateContainerResourcesResponse>, Status> {
        let request = request.into_inner();
        let of = id("container_id", request.container_id)?;
        convert::no_windows("windows", request.windows.is_some()).map_err(status::of)?;
        let limits = request.linux.unwrap_or_default();
        let change = convert::resources(limits).map_err(status::of)?;
        let update = move |engine: &Engine, id: &str| engine.update_container(id, &change);
        let verb = "UpdateContainerResources";
        self.work.change_container(verb, of, update).await?;
        Ok(Response::new(cri::UpdateContainerResourcesResponse {}))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<cri::UpdatePodSandboxResourcesRequest>,
    ) -> Result<Response<cri::UpdatePodSandboxResourcesResponse>, Status> {
        let request = request.into_inner();
        let pod = id("pod_sandbox_id", request.pod_sandbox_id)?;
        let size = pod::size("", request.overhead, request.resources).map_err(status::of)?;
        let (of, object) = (pod.clone(), pod.clone());
        let update = move |engine: &Engine| engine.update_pod(&pod, &size);
        let verb = "UpdatePodSandboxResources";
        self.work.change(verb, of, &object, update).await?;
        Ok(Response::new(cri::UpdatePodSandboxResourcesResponse {}))
    }

    type GetContainerEventsStream = events::Stream;

    async fn get_container_events(
        &self,
        _: Request<cri::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        self.events.stream(&self.work).await
    }

    async fn checkpoint_container(
        &self,
        request: Request<cri::CheckpointContainerRequest>,
    ) -> Result<Response<cri::CheckpointContainerResponse>, Status> {
        let deadline = deadline::of_request(&request);
        let request = request.into_inner();
        let of = id("container_id", request.container_id)?;
        let own = seconds("timeout", request.timeout)?;
        checkpoint::of_container(&self.work, of, request.location, (own, deadline)).await?;
        Ok(Response::new(cri::CheckpointContainerResponse {}))
    }

    async fn checkpoint_pod(
        &self,
        request: Request<cri::CheckpointPodRequest>,
    ) -> Result<Response<cri::CheckpointPodResponse>, Status> {
        let deadline = deadline::of_request(&request);
        let request = request.into_inner();
        id("pod_sandbox_id", request.pod_sandbox_id.clone())?;
        checkpoint::of_pod(&self.work, request, deadline).await?;
        Ok(Response::new(cri::CheckpointPodResponse {}))
    }

    async fn restore_pod(
        &self,
        request: Request<cri::RestorePodRequest>,
    ) -> Result<Response<cri::RestorePodResponse>, Status> {
        let deadline = deadline::of_request(&request);
        let request = request.into_inner();
        refusal::about(&request.checkpoint_path);
        let restored = checkpoint::restore(&self.work, request, deadline).await?;
        Ok(Response::new(restored))
    }

    async fn exec(
        &self,
        request: Request<cri::ExecRequest>,
    ) -> Result<Response<cri::ExecResponse>, Status> {
        let request = request.into_inner();
        refusal::about(&request.container_id);
        let wanted = streams::exec(&request).map_err(status::of)?;
        let id = id("container_id", request.container_id)?;
        if request.cmd.is_empty() {
            return Err(status::of(convert::invalid("cmd", "must not be empty")));
        }
        convert::check::command("cmd", &request.cmd).map_err(status::of)?;
        let runs = move |engine: &Engine| engine.require_running("exec in", &id);
        let exec = Exec {
            container: self.work.read("Exec", runs).await?,
            command: request.cmd,
            streams: wanted,
        };
        let url = self.urls.exec(exec).map_err(streams::full)?;
        Ok(Response::new(cri::ExecResponse { url }))
    }

    async fn attach(
        &self,
        request: Request<cri::AttachRequest>,
    ) -> Result<Response<cri::AttachResponse>, Status> {
        let request = request.into_inner();
        refusal::about(&request.container_id);
        let wanted = streams::attach(&request).map_err(status::of)?;
        let id = id("container_id", request.container_id)?;
        let runs = move |engine: &Engine| engine.require_running("attach to", &id);
        let attach = Attach {
            container: self.work.read("Attach", runs).await?,
            streams: wanted,
        };
        let url = self.urls.attach(attach).map_err(streams::full)?;
        Ok(Response::new(cri::AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<cri::PortForwardRequest>,
    ) -> Result<Response<cri::PortForwardResponse>, Status> {
        let request = request.into_inner();
        let id = id("pod_sandbox_id", request.pod_sandbox_id)?;
        let ports = streams::ports(&request.port).map_err(status::of)?;
        let ready = move |engine: &Engine| {
            let pod = engine.require_ready("connect to ports of", &id)?;
            Ok(pod.id)
        };
        let pod = self.work.read("PortForward", ready).await?;
        let url = self.urls.port_forward(PortForward { pod, ports });
        let url = url.map_err(streams::full)?;
        Ok(Response::new(cri::PortForwardResponse { url }))
    }
}
