//! One short word for each CRI call that most tests make.

use std::time::Duration;

use cri::*;
use testkit::images::{self, Layer};
use tonic::Status;

use super::{Error, Pod, World, image_spec, log_text, sorted, words};

/// Images.
impl World {
    /// The full name of an image in the world's registry.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host())
    }

    /// Makes an image and pushes it under a name of the world's registry; returns the full name.
    pub(crate) async fn push(
        &self,
        name: &str,
        layers: &[Layer],
        config: serde_json::Value,
    ) -> Result<String, Error> {
        let name = self.name(name);
        let client = images::client(&[&self.registry.host()])?;
        images::push(&client, &name, layers, config).await?;
        Ok(name)
    }

    /// Fetches an image through CRI; returns its id.
    pub(crate) async fn pull(&mut self, image: &str) -> Result<String, Status> {
        let request = PullImageRequest {
            image: Some(image_spec(image)),
            ..Default::default()
        };
        Ok(self
            .cri
            .images
            .pull_image(request)
            .await?
            .into_inner()
            .image_ref)
    }

    /// The name of a busybox image that is on the node.
    pub(crate) async fn busybox(&mut self) -> Result<String, Error> {
        if let Some(image) = &self.image {
            return Ok(image.clone());
        }
        let config = serde_json::json!({ "Cmd": ["sh"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"] });
        let image = self
            .push("test/busybox:1", &[images::busybox()?], config)
            .await?;
        self.pull(&image).await?;
        self.image = Some(image.clone());
        Ok(image)
    }

    /// The image by any of its names, if it is there.
    pub(crate) async fn image_status(&mut self, name: &str) -> Result<Option<Image>, Status> {
        let request = ImageStatusRequest {
            image: Some(image_spec(name)),
            verbose: false,
        };
        Ok(self
            .cri
            .images
            .image_status(request)
            .await?
            .into_inner()
            .image)
    }

    /// Removes an image.
    pub(crate) async fn remove_image(&mut self, name: &str) -> Result<(), Status> {
        let request = RemoveImageRequest {
            image: Some(image_spec(name)),
        };
        self.cri.images.remove_image(request).await.map(|_| ())
    }
}

/// Pods.
impl World {
    /// What a pod of that name is usually made from.
    pub(crate) fn pod_config(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-of-{name}"),
                namespace: "tests".into(),
                attempt: 0,
            }),
            log_directory: self.node.path("logs").join(name).display().to_string(),
            ..Default::default()
        }
    }

    /// Makes a pod; returns its id.
    pub(crate) async fn run_pod(&mut self, config: &PodSandboxConfig) -> Result<String, Status> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        Ok(self
            .cri
            .runtime
            .run_pod_sandbox(request)
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    /// Makes a usual pod.
    pub(crate) async fn pod(&mut self, name: &str) -> Result<Pod, Error> {
        let config = self.pod_config(name);
        self.pod_of(config).await
    }

    /// Makes a pod as described, and its log directory, as kubelet would.
    pub(crate) async fn pod_of(&mut self, config: PodSandboxConfig) -> Result<Pod, Error> {
        std::fs::create_dir_all(&config.log_directory)?;
        Ok(Pod {
            id: self.run_pod(&config).await?,
            config,
        })
    }

    pub(crate) async fn stop_pod(&mut self, id: &str) -> Result<(), Status> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        self.cri.runtime.stop_pod_sandbox(request).await.map(|_| ())
    }

    pub(crate) async fn remove_pod(&mut self, id: &str) -> Result<(), Status> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        self.cri
            .runtime
            .remove_pod_sandbox(request)
            .await
            .map(|_| ())
    }

    pub(crate) async fn pod_status(&mut self, id: &str) -> Result<PodSandboxStatus, Status> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.into(),
            verbose: false,
        };
        Ok(self
            .cri
            .runtime
            .pod_sandbox_status(request)
            .await?
            .into_inner()
            .status
            .unwrap_or_default())
    }

    /// The ids of the pods that fit, sorted.
    pub(crate) async fn pod_ids(
        &mut self,
        filter: PodSandboxFilter,
    ) -> Result<Vec<String>, Status> {
        let request = ListPodSandboxRequest {
            filter: Some(filter),
        };
        let items = self
            .cri
            .runtime
            .list_pod_sandbox(request)
            .await?
            .into_inner()
            .items;
        Ok(sorted(items.into_iter().map(|pod| pod.id)))
    }
}

/// Containers.
impl World {
    /// What a container of that name is usually made from: busybox, logging to `NAME.log`.
    pub(crate) async fn container(
        &mut self,
        name: &str,
        command: &[&str],
    ) -> Result<ContainerConfig, Error> {
        Ok(ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: name.into(),
                attempt: 0,
            }),
            image: Some(image_spec(&self.busybox().await?)),
            command: words(command),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(NamespaceOption {
                        pid: NamespaceMode::Container.into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    pub(crate) async fn create(
        &mut self,
        pod: &Pod,
        config: &ContainerConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config.clone()),
            sandbox_config: Some(pod.config.clone()),
        };
        Ok(self
            .cri
            .runtime
            .create_container(request)
            .await?
            .into_inner()
            .container_id)
    }

    pub(crate) async fn start(&mut self, id: &str) -> Result<(), Status> {
        let request = StartContainerRequest {
            container_id: id.into(),
        };
        self.cri.runtime.start_container(request).await.map(|_| ())
    }

    /// Creates and starts; returns the id.
    pub(crate) async fn run(
        &mut self,
        pod: &Pod,
        config: &ContainerConfig,
    ) -> Result<String, Status> {
        let id = self.create(pod, config).await?;
        self.start(&id).await?;
        Ok(id)
    }

    /// Creates and starts a usual container that does nothing for a long time.
    pub(crate) async fn sleeper(&mut self, pod: &Pod, name: &str) -> Result<String, Error> {
        let config = self.container(name, &["sleep", "1000"]).await?;
        Ok(self.run(pod, &config).await?)
    }

    pub(crate) async fn stop(&mut self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = StopContainerRequest {
            container_id: id.into(),
            timeout,
        };
        self.cri.runtime.stop_container(request).await.map(|_| ())
    }

    pub(crate) async fn remove(&mut self, id: &str) -> Result<(), Status> {
        let request = RemoveContainerRequest {
            container_id: id.into(),
        };
        self.cri.runtime.remove_container(request).await.map(|_| ())
    }

    pub(crate) async fn status(&mut self, id: &str) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        Ok(self
            .cri
            .runtime
            .container_status(request)
            .await?
            .into_inner()
            .status
            .unwrap_or_default())
    }

    /// The container's status once it has ended; gives up after 20 s.
    pub(crate) async fn exited(&mut self, id: &str) -> Result<ContainerStatus, Error> {
        for _ in 0..2000 {
            let status = self.status(id).await?;
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("container {id} did not end within 20 s").into())
    }

    /// Runs a container to its end; returns its exit code and what it wrote to both streams.
    pub(crate) async fn output(
        &mut self,
        pod: &Pod,
        config: &ContainerConfig,
    ) -> Result<(i32, String), Error> {
        let id = self.run(pod, config).await?;
        let status = self.exited(&id).await?;
        Ok((
            status.exit_code,
            log_text(&status.log_path)?.trim_end().to_owned(),
        ))
    }

    /// As [`World::output`], for a shell script in a usual container.
    pub(crate) async fn script(
        &mut self,
        pod: &Pod,
        name: &str,
        script: &str,
    ) -> Result<(i32, String), Error> {
        let config = self.container(name, &["sh", "-c", script]).await?;
        self.output(pod, &config).await
    }

    pub(crate) async fn exec(
        &mut self,
        id: &str,
        command: &[&str],
        timeout: i64,
    ) -> Result<ExecSyncResponse, Status> {
        let request = ExecSyncRequest {
            container_id: id.into(),
            cmd: words(command),
            timeout,
        };
        Ok(self.cri.runtime.exec_sync(request).await?.into_inner())
    }

    /// What a command in a container writes to its stdout.
    pub(crate) async fn said(&mut self, id: &str, command: &[&str]) -> Result<String, Error> {
        let answer = self.exec(id, command, 20).await?;
        if answer.exit_code != 0 {
            let stderr = String::from_utf8_lossy(&answer.stderr).into_owned();
            return Err(format!("{command:?} ended with {}: {stderr}", answer.exit_code).into());
        }
        Ok(String::from_utf8(answer.stdout)?.trim().to_owned())
    }

    /// The ids of the containers that fit, sorted.
    pub(crate) async fn container_ids(
        &mut self,
        filter: ContainerFilter,
    ) -> Result<Vec<String>, Status> {
        let request = ListContainersRequest {
            filter: Some(filter),
        };
        let containers = self
            .cri
            .runtime
            .list_containers(request)
            .await?
            .into_inner()
            .containers;
        Ok(sorted(containers.into_iter().map(|container| container.id)))
    }
}
