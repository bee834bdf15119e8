//! `pod.json`: what the engine remembers of a pod, and how it becomes a [`Pod`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use supervisor::SupervisorInfo;

use super::{NamespaceMode, Pod, PodSpec, PodState};
use crate::disk;
use crate::error::{Error, Result};

/// The stored form of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) stage: Stage,
    /// The pod's cgroup below each hierarchy's root.
    pub(crate) cgroup: String,
    /// Did floe name that cgroup, so that it goes with the pod?
    pub(crate) owns_cgroup: bool,
    pub(crate) spec: PodSpec,
}

/// How far a pod has come. A pod that is being made is hidden from every list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Someone who holds the name's lock makes it; without that lock it is half made and goes.
    Creating,
    /// It was made; it is ready as long as its supervisor lives.
    Made { ips: Vec<std::net::IpAddr> },
    /// It was stopped.
    Stopped,
}

impl PodRecord {
    pub(crate) fn path(pod_dir: &Path) -> PathBuf {
        pod_dir.join("pod.json")
    }

    pub(crate) fn read(pod_dir: &Path) -> Result<Option<Self>> {
        disk::read_json(&Self::path(pod_dir))
    }

    pub(crate) fn write(&self, pod_dir: &Path) -> Result<()> {
        disk::write_json(&Self::path(pod_dir), self)
    }

    /// The parts of the name that is unique among pods.
    pub(crate) fn name_parts(spec: &PodSpec) -> [String; 5] {
        let attempt = spec.attempt.to_string();
        [
            "pod".into(),
            spec.namespace.clone(),
            spec.name.clone(),
            spec.uid.clone(),
            attempt,
        ]
    }

    /// The pod as callers see it; `None` while it is being made.
    pub(crate) fn view(&self, pod_dir: &Path) -> Result<Option<Pod>> {
        let (alive, ips) = match &self.stage {
            Stage::Creating => return Ok(None),
            Stage::Made { ips } => (live_supervisor(&self.id, pod_dir)?, ips.clone()),
            Stage::Stopped => (None, Vec::new()),
        };
        let own_network = self.spec.namespaces.network != NamespaceMode::Node;
        Ok(Some(Pod {
            id: self.id.clone(),
            spec: self.spec.clone(),
            state: if alive.is_some() {
                PodState::Ready
            } else {
                PodState::NotReady
            },
            created_at: self.created_at,
            ips,
            netns: alive
                .as_ref()
                .filter(|_| own_network)
                .map(|info| namespace(info.pid, "net")),
            supervisor_pid: alive.map(|info| info.pid),
            cgroup_parent: self.cgroup.clone(),
        }))
    }
}

/// The pod's supervisor, if it lives.
pub(crate) fn live_supervisor(id: &str, pod_dir: &Path) -> Result<Option<SupervisorInfo>> {
    let info = SupervisorInfo::read(pod_dir).map_err(|source| Error::Supervisor {
        verb: "look for the supervisor of pod",
        id: id.to_owned(),
        source,
    })?;
    Ok(info.filter(SupervisorInfo::is_alive))
}

/// The path of a process's namespace, such as `/proc/7/ns/net`.
pub(crate) fn namespace(pid: i32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/{name}"))
}
