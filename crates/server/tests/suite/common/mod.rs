//! A world of its own for each test: a network namespace, a registry on loopback with a busybox
//! image, and `floe serve` on private roots, driven over its CRI socket. Cleaned up and checked
//! for leftovers at the end. Needs root and the programs built (`cargo build --workspace --bins`).

#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub(crate) mod http2;
pub(crate) mod log;
pub(crate) mod trust;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use cri::image_service_client::ImageServiceClient;
use cri::runtime_service_client::RuntimeServiceClient;
use testkit::{Clients, Node, NodeOptions, Registry, images, net};
use tonic::Status;
use tonic::transport::Channel;

/// What a test works with.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) registry: Registry,
    /// A busybox image in the registry, with its tag, pulled already.
    pub(crate) image: String,
    /// Its id.
    pub(crate) image_id: String,
    clients: Clients,
}

/// Runs a test in a new world.
pub(crate) fn world(test: impl AsyncFnOnce(&mut World)) {
    world_with(String::new(), test);
}

/// As [`world`], with lines of TOML added to the engine's configuration.
pub(crate) fn world_with(config: String, test: impl AsyncFnOnce(&mut World)) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: pods need root");
        return;
    }
    // Before any other thread exists, so that all of them are in the private network.
    net::isolate().unwrap();
    let registry = Registry::start().unwrap();
    let options = NodeOptions {
        insecure: vec![registry.host()],
        config,
        ..NodeOptions::default()
    };
    let node = Node::start(&options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut world = runtime.block_on(World::fill(node, registry));
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(&mut world))));
    let cleaned = catch_unwind(AssertUnwindSafe(|| runtime.block_on(world.clear()))).is_ok()
        && world
            .node
            .clean()
            .inspect_err(|error| eprintln!("{error}"))
            .is_ok();
    if let Err(panic) = outcome {
        eprintln!("the engine's log:\n{}", world.node.log());
        resume_unwind(panic);
    }
    assert!(cleaned, "the test passed and left something behind");
}

impl World {
    async fn fill(node: Node, registry: Registry) -> Self {
        let image = format!("{}/test/busybox:1", registry.host());
        let client = images::client(&[&registry.host()]).unwrap();
        let layers = [images::busybox().unwrap()];
        let config = serde_json::json!({ "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"] });
        images::push(&client, &image, &layers, config)
            .await
            .unwrap();
        let clients = node.clients().await.unwrap();
        let mut world = Self {
            node,
            registry,
            image,
            image_id: String::new(),
            clients,
        };
        world.image_id = world.pull(&world.image).await.unwrap();
        world
    }

    /// Removes every pod.
    async fn clear(&mut self) {
        if self.node.engine_pid().is_none() {
            self.serve_again().await;
        }
        let request = cri::ListPodSandboxRequest::default();
        let pods = self.runtime().list_pod_sandbox(request).await.unwrap();
        for pod in pods.into_inner().items {
            self.remove_pod(&pod.id).await.unwrap();
        }
    }

    /// A client for pods and containers.
    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.clients.runtime.clone()
    }

    /// A client for images.
    pub(crate) fn images(&self) -> ImageServiceClient<Channel> {
        self.clients.images.clone()
    }

    /// Starts the engine again, after it was ended or killed.
    pub(crate) async fn serve_again(&mut self) {
        self.node.serve().unwrap();
        self.clients = self.node.clients().await.unwrap();
    }

    /// Pulls an image; its id.
    pub(crate) async fn pull(&self, name: &str) -> Result<String, Status> {
        let request = cri::PullImageRequest {
            image: Some(image_spec(name)),
            ..Default::default()
        };
        Ok(self
            .images()
            .pull_image(request)
            .await?
            .into_inner()
            .image_ref)
    }

    /// A pod's configuration as kubelet would send it.
    pub(crate) fn pod_config(&self, name: &str) -> cri::PodSandboxConfig {
        let logs = self.node.path("logs").join(name);
        std::fs::create_dir_all(&logs).unwrap();
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-of-{name}"),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: logs.display().to_string(),
            ..Default::default()
        }
    }

    /// Runs a pod; its id.
    pub(crate) async fn try_pod(&self, config: &cri::PodSandboxConfig) -> Result<String, Status> {
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        Ok(self
            .runtime()
            .run_pod_sandbox(request)
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    /// Runs a pod with the usual configuration.
    pub(crate) async fn pod(&self, name: &str) -> String {
        self.try_pod(&self.pod_config(name)).await.unwrap()
    }

    /// A pod in full.
    pub(crate) async fn pod_status(&self, id: &str) -> Result<cri::PodSandboxStatus, Status> {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        Ok(self
            .runtime()
            .pod_sandbox_status(request)
            .await?
            .into_inner()
            .status
            .unwrap())
    }

    pub(crate) async fn stop_pod(&self, id: &str) -> Result<(), Status> {
        let request = cri::StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.runtime().stop_pod_sandbox(request).await.map(drop)
    }

    pub(crate) async fn remove_pod(&self, id: &str) -> Result<(), Status> {
        let request = cri::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.runtime().remove_pod_sandbox(request).await.map(drop)
    }

    /// A container of the busybox image that runs `command`, logging to `NAME.log`.
    pub(crate) fn config(&self, name: &str, command: &[&str]) -> cri::ContainerConfig {
        cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata {
                name: name.to_owned(),
                attempt: 0,
            }),
            image: Some(image_spec(&self.image)),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            log_path: format!("{name}.log"),
            ..Default::default()
        }
    }

    /// A container that runs a script.
    pub(crate) fn script(&self, name: &str, script: &str) -> cri::ContainerConfig {
        self.config(name, &["sh", "-c", script])
    }

    /// Creates a container; its id.
    pub(crate) async fn create(
        &self,
        pod: &str,
        config: cri::ContainerConfig,
    ) -> Result<String, Status> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: None,
        };
        Ok(self
            .runtime()
            .create_container(request)
            .await?
            .into_inner()
            .container_id)
    }

    pub(crate) async fn start(&self, id: &str) -> Result<(), Status> {
        let request = cri::StartContainerRequest {
            container_id: id.to_owned(),
        };
        self.runtime().start_container(request).await.map(drop)
    }

    /// Creates and starts a container; its id.
    pub(crate) async fn run(&self, pod: &str, config: cri::ContainerConfig) -> String {
        let id = self.create(pod, config).await.unwrap();
        self.start(&id).await.unwrap();
        id
    }

    pub(crate) async fn stop(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = cri::StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        };
        self.runtime().stop_container(request).await.map(drop)
    }

    pub(crate) async fn remove(&self, id: &str) -> Result<(), Status> {
        let request = cri::RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        self.runtime().remove_container(request).await.map(drop)
    }

    /// A container in full.
    pub(crate) async fn status(&self, id: &str) -> Result<cri::ContainerStatus, Status> {
        let request = cri::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        Ok(self
            .runtime()
            .container_status(request)
            .await?
            .into_inner()
            .status
            .unwrap())
    }

    /// A container's verbose information.
    pub(crate) async fn info(&self, id: &str) -> serde_json::Value {
        let request = cri::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: true,
        };
        let answer = self
            .runtime()
            .container_status(request)
            .await
            .unwrap()
            .into_inner();
        serde_json::from_str(&answer.info["info"]).unwrap()
    }

    /// Waits until the container has ended.
    pub(crate) async fn ended(&self, id: &str) -> cri::ContainerStatus {
        self.until("the container has ended", async || {
            let status = self.status(id).await.unwrap();
            (status.state() == cri::ContainerState::ContainerExited).then_some(status)
        })
        .await
    }

    /// Runs a script in a new container to its end; what it wrote to stdout, and its status.
    pub(crate) async fn output(
        &self,
        pod: &str,
        config: cri::ContainerConfig,
    ) -> (String, cri::ContainerStatus) {
        let id = self.run(pod, config).await;
        let status = self.ended(&id).await;
        (log::read(&status.log_path).of("stdout"), status)
    }

    /// Runs a command in a container.
    pub(crate) async fn exec(
        &self,
        id: &str,
        command: &[&str],
        timeout: i64,
    ) -> Result<cri::ExecSyncResponse, Status> {
        let request = cri::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout,
        };
        Ok(self.runtime().exec_sync(request).await?.into_inner())
    }

    /// Asks again and again until there is an answer; gives up after a time that no healthy node
    /// needs.
    pub(crate) async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        for _ in 0..1500 {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain until {what}");
    }
}

/// An image by its name.
pub(crate) fn image_spec(name: &str) -> cri::ImageSpec {
    cri::ImageSpec {
        image: name.to_owned(),
        ..Default::default()
    }
}

/// The identity and confinement of a container.
pub(crate) fn secured(
    mut config: cri::ContainerConfig,
    change: impl FnOnce(&mut cri::LinuxContainerSecurityContext),
) -> cri::ContainerConfig {
    change(
        config
            .linux
            .get_or_insert_default()
            .security_context
            .get_or_insert_default(),
    );
    config
}
