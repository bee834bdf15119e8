//! What a check is given: pods and containers that go when it is over, and the calls that it makes, each with a
//! limit. A call that fails where it ought not to is the check's failure, with the call's name.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cri::image_service_client::ImageServiceClient;
use cri::runtime_service_client::RuntimeServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::check::{Verdict, failed, skipped};
use crate::connection::Refusal;
pub(crate) use crate::fixture::LASTS;
use crate::fixture::{Answer, Fixture, Made, status_told, told};

/// Between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(50);

/// Seconds that a command may take that is over at once.
const COMMAND: i64 = 60;

/// A check that is under way.
pub(crate) struct Trial<'f> {
    pub(crate) fixture: &'f Fixture,
    pub(crate) part: String,
    pub(crate) made: Arc<Made>,
}

/// A pod with a container in it that runs.
pub(crate) struct Up {
    pub(crate) pod: String,
    pub(crate) pod_config: cri::PodSandboxConfig,
    pub(crate) container: String,
}

/// The client that a call is made with.
pub(crate) type Client = RuntimeServiceClient<Channel>;

impl<'f> Trial<'f> {
    pub(crate) fn new(fixture: &'f Fixture, name: &str) -> Self {
        Self {
            fixture,
            part: name.to_owned(),
            made: fixture.made(name),
        }
    }

    /// A directory of the check's own.
    pub(crate) fn directory(&self, name: &str) -> Verdict<PathBuf> {
        let made = self.fixture.directory.sub(&format!("{}/{name}", self.part));
        made.or_else(|error| failed("a directory on this machine", error.to_string()))
    }

    /// Makes a call that must succeed.
    pub(crate) async fn ask<T>(
        &self,
        call: &str,
        ask: impl AsyncFnOnce(Client) -> Answer<T>,
    ) -> Verdict<T> {
        let answer = self
            .fixture
            .runtime
            .ask(Some(self.fixture.limit), ask)
            .await;
        answer.or_else(|refusal| failed(format!("{call} succeeds"), told(&refusal)))
    }

    /// The same of one that a runtime need not have.
    pub(crate) async fn offered<T>(
        &self,
        call: &str,
        ask: impl AsyncFnOnce(Client) -> Answer<T>,
    ) -> Verdict<T> {
        let answer = self
            .fixture
            .runtime
            .ask(Some(self.fixture.limit), ask)
            .await;
        match answer {
            Err(Refusal::Status(status)) if status.code() == Code::Unimplemented => {
                skipped(format!("the runtime has no {call}: {}", status.message()))
            }
            answer => answer.or_else(|refusal| failed(format!("{call} succeeds"), told(&refusal))),
        }
    }

    /// What comes of a stream until its end; of one that a runtime need not have.
    pub(crate) async fn pieces<T>(&self, call: &str, mut stream: Streaming<T>) -> Verdict<Vec<T>> {
        let mut found = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(piece)) => found.push(piece),
                Ok(None) => return Ok(found),
                Err(status) if status.code() == Code::Unimplemented => {
                    return skipped(format!("the runtime has no {call}"));
                }
                Err(status) => return failed(format!("{call} succeeds"), status_told(&status)),
            }
        }
    }

    /// Makes a call that must fail; gives what the runtime says.
    pub(crate) async fn refused<T>(
        &self,
        call: &str,
        ask: impl AsyncFnOnce(Client) -> Answer<T>,
    ) -> Verdict<Status> {
        match self
            .fixture
            .runtime
            .ask(Some(self.fixture.limit), ask)
            .await
        {
            Err(Refusal::Status(status)) => Ok(status),
            Err(refusal) => failed(format!("{call} is refused"), told(&refusal)),
            Ok(_) => failed(format!("{call} is refused"), "it succeeds"),
        }
    }

    /// Makes a call about images that must succeed.
    pub(crate) async fn images<T>(
        &self,
        call: &str,
        ask: impl AsyncFnOnce(ImageServiceClient<Channel>) -> Answer<T>,
    ) -> Verdict<T> {
        let answer = self.fixture.images.ask(Some(self.fixture.limit), ask).await;
        answer.or_else(|refusal| failed(format!("{call} succeeds"), told(&refusal)))
    }

    /// The configuration of a pod.
    pub(crate) fn pod_config(&self) -> Verdict<cri::PodSandboxConfig> {
        let logs = self.directory("logs")?;
        let uid = crate::fixture::random().unwrap_or_default();
        Ok(self.fixture.pod_config(&self.part, &uid, &logs))
    }

    /// The configuration of a container that runs a script.
    pub(crate) fn container_config(&self, name: &str, script: &str) -> cri::ContainerConfig {
        self.fixture.container_config(&self.part, name, script)
    }

    /// Has a pod made.
    pub(crate) async fn run_pod(&self, config: &cri::PodSandboxConfig) -> Verdict<String> {
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: self.fixture.place.runtime_handler.clone(),
        };
        match self.made.run_pod(request).await {
            Ok((pod, _)) => Ok(pod),
            Err(refusal) => failed("RunPodSandbox succeeds", told(&refusal)),
        }
    }

    /// A pod as it is usual, and its configuration.
    pub(crate) async fn pod(&self) -> Verdict<(String, cri::PodSandboxConfig)> {
        let config = self.pod_config()?;
        let pod = self.run_pod(&config).await?;
        Ok((pod, config))
    }

    /// Has a container made.
    pub(crate) async fn create(
        &self,
        pod: &str,
        pod_config: &cri::PodSandboxConfig,
        config: cri::ContainerConfig,
    ) -> Verdict<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod_config.clone()),
        };
        let answer = self
            .ask("CreateContainer", async |mut client| {
                client.create_container(request).await
            })
            .await?;
        Ok(answer.container_id)
    }

    pub(crate) async fn start(&self, container: &str) -> Verdict {
        let request = cri::StartContainerRequest {
            container_id: container.to_owned(),
        };
        self.ask("StartContainer", async |mut client| {
            client.start_container(request).await
        })
        .await?;
        Ok(())
    }

    /// Has a container made and started.
    pub(crate) async fn launch(
        &self,
        pod: &str,
        pod_config: &cri::PodSandboxConfig,
        config: cri::ContainerConfig,
    ) -> Verdict<String> {
        let container = self.create(pod, pod_config, config).await?;
        self.start(&container).await?;
        Ok(container)
    }

    /// A pod and a container in it that runs a script, both changed before they are made.
    pub(crate) async fn up_with(
        &self,
        script: &str,
        change: impl FnOnce(&mut cri::PodSandboxConfig, &mut cri::ContainerConfig),
    ) -> Verdict<Up> {
        let mut pod_config = self.pod_config()?;
        let mut config = self.container_config("main", script);
        change(&mut pod_config, &mut config);
        let pod = self.run_pod(&pod_config).await?;
        let container = self.launch(&pod, &pod_config, config).await?;
        Ok(Up {
            pod,
            pod_config,
            container,
        })
    }

    /// The same with a container that lasts.
    pub(crate) async fn up(
        &self,
        change: impl FnOnce(&mut cri::PodSandboxConfig, &mut cri::ContainerConfig),
    ) -> Verdict<Up> {
        self.up_with(LASTS, change).await
    }

    /// Stops a container, after so many seconds by force.
    pub(crate) async fn stop(&self, container: &str, seconds: i64) -> Verdict {
        let request = cri::StopContainerRequest {
            container_id: container.to_owned(),
            timeout: seconds,
        };
        self.ask("StopContainer", async |mut client| {
            client.stop_container(request).await
        })
        .await?;
        Ok(())
    }

    pub(crate) async fn remove(&self, container: &str) -> Verdict {
        let request = cri::RemoveContainerRequest {
            container_id: container.to_owned(),
        };
        self.ask("RemoveContainer", async |mut client| {
            client.remove_container(request).await
        })
        .await?;
        Ok(())
    }

    pub(crate) async fn stop_pod(&self, pod: &str) -> Verdict {
        let request = cri::StopPodSandboxRequest {
            pod_sandbox_id: pod.to_owned(),
        };
        self.ask("StopPodSandbox", async |mut client| {
            client.stop_pod_sandbox(request).await
        })
        .await?;
        Ok(())
    }

    pub(crate) async fn remove_pod(&self, pod: &str) -> Verdict {
        let request = cri::RemovePodSandboxRequest {
            pod_sandbox_id: pod.to_owned(),
        };
        self.ask("RemovePodSandbox", async |mut client| {
            client.remove_pod_sandbox(request).await
        })
        .await?;
        self.made.forget(pod);
        Ok(())
    }

    pub(crate) async fn pod_status(&self, pod: &str) -> Verdict<cri::PodSandboxStatus> {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: pod.to_owned(),
            verbose: false,
        };
        let answer = self
            .ask("PodSandboxStatus", async |mut client| {
                client.pod_sandbox_status(request).await
            })
            .await?;
        match answer.status {
            Some(status) => Ok(status),
            None => failed("PodSandboxStatus has a status", "none"),
        }
    }

    pub(crate) async fn status(&self, container: &str) -> Verdict<cri::ContainerStatus> {
        let request = cri::ContainerStatusRequest {
            container_id: container.to_owned(),
            verbose: false,
        };
        let answer = self
            .ask("ContainerStatus", async |mut client| {
                client.container_status(request).await
            })
            .await?;
        match answer.status {
            Some(status) => Ok(status),
            None => failed("ContainerStatus has a status", "none"),
        }
    }

    pub(crate) async fn list_pods(&self, filter: cri::PodSandboxFilter) -> Verdict<Vec<String>> {
        let request = cri::ListPodSandboxRequest {
            filter: Some(filter),
        };
        let answer = self
            .ask("ListPodSandbox", async |mut client| {
                client.list_pod_sandbox(request).await
            })
            .await?;
        let mut ids: Vec<String> = answer.items.into_iter().map(|one| one.id).collect();
        ids.sort();
        Ok(ids)
    }

    pub(crate) async fn list(&self, filter: cri::ContainerFilter) -> Verdict<Vec<cri::Container>> {
        let request = cri::ListContainersRequest {
            filter: Some(filter),
        };
        let answer = self
            .ask("ListContainers", async |mut client| {
                client.list_containers(request).await
            })
            .await?;
        let mut all = answer.containers;
        all.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(all)
    }

    /// Runs a command in a container to its end.
    pub(crate) async fn exec(
        &self,
        container: &str,
        words: &[&str],
    ) -> Verdict<cri::ExecSyncResponse> {
        let request = cri::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: words.iter().map(|&word| word.to_owned()).collect(),
            timeout: COMMAND,
        };
        self.ask("ExecSync", async |mut client| {
            client.exec_sync(request).await
        })
        .await
    }

    /// What a script prints in a container, without blanks around it; it must succeed.
    pub(crate) async fn output(&self, container: &str, script: &str) -> Verdict<String> {
        let (code, out) = self.outcome(container, script).await?;
        match code {
            0 => Ok(out),
            code => failed(
                format!("`{script}` succeeds in the container"),
                format!("exit code {code}: {out}"),
            ),
        }
    }

    /// The exit code of a script, and all that it says.
    pub(crate) async fn outcome(&self, container: &str, script: &str) -> Verdict<(i32, String)> {
        let answer = self.exec(container, &["/bin/sh", "-c", script]).await?;
        let out = String::from_utf8_lossy(&answer.stdout);
        let err = String::from_utf8_lossy(&answer.stderr);
        Ok((answer.exit_code, format!("{out}{err}").trim().to_owned()))
    }

    /// Waits until there is something; `what` is what the check expects.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Verdict<Result<T, String>>,
    ) -> Verdict<T> {
        let begin = Instant::now();
        loop {
            match look().await? {
                Ok(found) => return Ok(found),
                Err(found) if begin.elapsed() >= self.fixture.limit => {
                    return failed(what, format!("{found}, after {:?}", self.fixture.limit));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Waits until a container has ended by itself.
    pub(crate) async fn ended(&self, container: &str) -> Verdict<cri::ContainerStatus> {
        self.until("the container ends and is CONTAINER_EXITED", async || {
            let status = self.status(container).await?;
            Ok(match status.state() {
                cri::ContainerState::ContainerExited => Ok(status),
                state => Err(state.as_str_name().to_owned()),
            })
        })
        .await
    }
}

/// The security of a container, to be changed.
pub(crate) fn security(
    config: &mut cri::ContainerConfig,
) -> &mut cri::LinuxContainerSecurityContext {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default()
}

/// The security of a pod, to be changed.
pub(crate) fn pod_security(
    config: &mut cri::PodSandboxConfig,
) -> &mut cri::LinuxSandboxSecurityContext {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default()
}
