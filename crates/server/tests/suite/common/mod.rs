//! A world of its own for each test: a network namespace, a registry on loopback with a busybox
//! image, and `floe serve` on private roots, driven over its CRI socket. Cleaned up and checked
//! for leftovers at the end. Needs root and the programs built (`cargo build --workspace --bins`).

#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub(crate) mod bad_registry;
mod change;
pub(crate) mod http2;
pub(crate) mod log;
pub(crate) mod trust;

pub(crate) use change::{
    image_spec, inside, labels, layer, pod_security, refused, secured, security, sorted, words,
};

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;
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
    /// What pods were made from, by their ids: kubelet sends it again with each container.
    sandboxes: RefCell<HashMap<String, cri::PodSandboxConfig>>,
}

/// A pod that was made, with what it was made from; it stands for its id.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) config: cri::PodSandboxConfig,
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

impl Deref for Pod {
    type Target = String;

    fn deref(&self) -> &String {
        &self.id
    }
}

/// Runs a test in a new world.
pub(crate) fn world(test: impl AsyncFnOnce(&mut World)) {
    world_with(String::new(), test);
}

/// As [`world`], with lines of TOML added to the engine's configuration.
pub(crate) fn world_with(config: String, test: impl AsyncFnOnce(&mut World)) {
    let options = |_: &Registry| NodeOptions {
        config,
        ..NodeOptions::default()
    };
    world_on(options, test);
}

/// As [`world`], on a node that differs from the usual one.
pub(crate) fn world_on(
    options: impl FnOnce(&Registry) -> NodeOptions,
    test: impl AsyncFnOnce(&mut World),
) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: pods need root");
        return;
    }
    // Before any other thread exists, so that all of them are in the private network.
    net::isolate().unwrap();
    let registry = Registry::start().unwrap();
    let mut options = options(&registry);
    options.insecure.push(registry.host());
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
        let clients = node.clients().await.unwrap();
        let mut world = Self {
            node,
            registry,
            image: String::new(),
            image_id: String::new(),
            clients,
            sandboxes: RefCell::default(),
        };
        let layers = [images::busybox().unwrap()];
        let config = serde_json::json!({ "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"] });
        world.image = world.push("test/busybox:1", &layers, config).await;
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

    /// Starts the engine again, after it was ended or killed, and waits until it has cleared up.
    pub(crate) async fn serve_again(&mut self) {
        self.node.serve().unwrap();
        self.clients = self.node.clients().await.unwrap();
    }

    /// As [`World::serve_again`], without waiting for the clear-up.
    pub(crate) async fn listen_again(&mut self) {
        self.node.listen().unwrap();
        self.clients = self.node.clients().await.unwrap();
    }

    /// Makes an image and pushes it under a name of the world's registry; the full name.
    pub(crate) async fn push(
        &self,
        name: &str,
        layers: &[images::Layer],
        config: serde_json::Value,
    ) -> String {
        let host = self.registry.host();
        let name = format!("{host}/{name}");
        let client = images::client(&[&host]).unwrap();
        let pushed = images::push(&client, &name, layers, config).await;
        pushed.unwrap();
        name
    }

    /// The image by any of its names, if it is there.
    pub(crate) async fn image_status(&self, name: &str) -> Result<Option<cri::Image>, Status> {
        let request = cri::ImageStatusRequest {
            image: Some(image_spec(name)),
            verbose: false,
        };
        Ok(self
            .images()
            .image_status(request)
            .await?
            .into_inner()
            .image)
    }

    /// All images.
    pub(crate) async fn image_list(&self) -> Vec<cri::Image> {
        let request = cri::ListImagesRequest::default();
        let listed = self.images().list_images(request).await.unwrap();
        listed.into_inner().images
    }

    pub(crate) async fn remove_image(&self, name: &str) -> Result<(), Status> {
        let request = cri::RemoveImageRequest {
            image: Some(image_spec(name)),
        };
        self.images().remove_image(request).await.map(drop)
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
        self.try_pod_by("", config).await
    }

    /// Runs a pod by a runtime handler; its id.
    pub(crate) async fn try_pod_by(
        &self,
        handler: &str,
        config: &cri::PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        let answer = self.runtime().run_pod_sandbox(request).await?.into_inner();
        let id = answer.pod_sandbox_id;
        let mut sandboxes = self.sandboxes.borrow_mut();
        sandboxes.insert(id.clone(), config.clone());
        Ok(id)
    }

    /// Runs a pod with the usual configuration.
    pub(crate) async fn pod(&self, name: &str) -> Pod {
        self.pod_of(self.pod_config(name)).await
    }

    /// Runs a pod as described.
    pub(crate) async fn pod_of(&self, config: cri::PodSandboxConfig) -> Pod {
        let id = self.try_pod(&config).await.unwrap();
        Pod { id, config }
    }

    /// The ids of the pods that fit, sorted.
    pub(crate) async fn pod_ids(&self, filter: cri::PodSandboxFilter) -> Vec<String> {
        let request = cri::ListPodSandboxRequest {
            filter: Some(filter),
        };
        let listed = self.runtime().list_pod_sandbox(request).await.unwrap();
        sorted(listed.into_inner().items.into_iter().map(|pod| pod.id))
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

    /// As [`World::config`], with a process namespace of its own, as kubelet asks for by default.
    pub(crate) fn container(&self, name: &str, command: &[&str]) -> cri::ContainerConfig {
        secured(self.config(name, command), |security| {
            security.namespace_options = Some(cri::NamespaceOption {
                pid: cri::NamespaceMode::Container.into(),
                ..Default::default()
            });
        })
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
            sandbox_config: self.sandboxes.borrow().get(pod).cloned(),
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

    /// Creates and starts a container that does nothing for a long time; its id.
    pub(crate) async fn sleeper(&self, pod: &str, name: &str) -> String {
        self.run(pod, self.container(name, &["sleep", "1000"]))
            .await
    }

    /// The ids of the containers that fit, sorted.
    pub(crate) async fn container_ids(&self, filter: cri::ContainerFilter) -> Vec<String> {
        let request = cri::ListContainersRequest {
            filter: Some(filter),
        };
        let listed = self.runtime().list_containers(request).await.unwrap();
        sorted(listed.into_inner().containers.into_iter().map(|one| one.id))
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

    /// Runs a container to its end; its exit code, and what it wrote to both streams.
    pub(crate) async fn ran(&self, pod: &str, config: cri::ContainerConfig) -> (i32, String) {
        let id = self.run(pod, config).await;
        let status = self.ended(&id).await;
        let text = log::read(&status.log_path).text();
        (status.exit_code, text.trim_end().to_owned())
    }

    /// What a command in a container writes to its stdout; it must succeed.
    pub(crate) async fn said(&self, id: &str, command: &[&str]) -> String {
        let answer = self.exec(id, command, 20).await.unwrap();
        let stderr = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(answer.exit_code, 0, "{command:?}: {stderr}");
        String::from_utf8(answer.stdout).unwrap().trim().to_owned()
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

    /// Waits until a container's own process has made a file: it may be asked before it came to that.
    pub(crate) async fn written(&self, id: &str, path: &str) {
        self.until(&format!("{path} is written"), async || {
            let there = self.exec(id, &["test", "-f", path], 10).await;
            (there.unwrap().exit_code == 0).then_some(())
        })
        .await;
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
