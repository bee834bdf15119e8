//! The plugins of a node over the real socket, with plugins that are made here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hostile;
mod launched;
mod plugins;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nri::api::{Container, ContainerEviction, ContainerUpdate, PodSandbox};
use nri::{Nri, Runtime, Settings};
use tempfile::TempDir;

/// Ids that are updated and evicted, and what there is.
#[derive(Default)]
struct Node {
    pods: Vec<PodSandbox>,
    containers: Mutex<Vec<Container>>,
    updated: Mutex<Vec<ContainerUpdate>>,
    evicted: Mutex<Vec<String>>,
}

impl Runtime for Node {
    fn present(&self) -> Result<(Vec<PodSandbox>, Vec<Container>), String> {
        Ok((self.pods.clone(), self.containers.lock().unwrap().clone()))
    }

    fn update(&self, update: &ContainerUpdate) -> Result<(), String> {
        if update.container_id == "refuses" {
            return Err("it cannot".to_owned());
        }
        self.updated.lock().unwrap().push(update.clone());
        Ok(())
    }

    fn evict(&self, eviction: &ContainerEviction) -> Result<(), String> {
        let id = eviction.container_id.clone();
        self.evicted.lock().unwrap().push(id);
        Ok(())
    }

    fn joined(&self) {}
}

/// Plugins of a private socket.
struct World {
    nri: Nri,
    node: Arc<Node>,
    socket: PathBuf,
    _dir: TempDir,
}

impl World {
    fn new() -> Self {
        Self::with(Node::default(), |_| ())
    }

    fn with(node: Node, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("nri/nri.sock");
        let mut settings = Settings {
            listen: Some(socket.clone()),
            plugin_dir: dir.path().join("plugins"),
            config_dir: dir.path().join("conf.d"),
            registration_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            validator: None,
            runtime_name: "floe".to_owned(),
            runtime_version: "1".to_owned(),
        };
        change(&mut settings);
        let node = Arc::new(node);
        let nri = Nri::start(settings, Arc::clone(&node) as Arc<_>).unwrap();
        Self {
            nri,
            node,
            socket,
            _dir: dir,
        }
    }

    /// A plugin that has joined: it is asked from now on.
    fn plugin(&self, of: (&str, &str, i32), answers: Box<testkit::nri::Answers>) -> Plugin {
        let plugin = Plugin::connect(&self.socket, of, answers).unwrap();
        plugin.wait("Synchronize").unwrap();
        // Whoever begins waits until it has joined.
        drop(self.nri.begin());
        plugin
    }
}

use testkit::nri::Plugin;

fn pod(id: &str) -> PodSandbox {
    PodSandbox {
        id: id.to_owned(),
        ..PodSandbox::default()
    }
}

fn container(id: &str) -> Container {
    Container {
        id: id.to_owned(),
        ..Container::default()
    }
}
