//! `pod.json`: what the engine remembers of a pod, and how it becomes a [`Pod`]. A record that cannot
//! be read harms its own pod alone: that pod is not ready, and can be stopped and removed by its id.

use std::path::{Path, PathBuf};

use supervisor::SupervisorInfo;

use super::{NamespaceMode, Origin, Pod, PodSpec, PodState};
use crate::container::record::ContainerRecord;
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::record::{self, Kept};

/// What is remembered of a pod. How it is written down: `record/pod.rs`.
#[derive(Debug, Clone)]
pub(crate) struct PodRecord {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) stage: Stage,
    /// The pod's cgroup below each hierarchy's root.
    pub(crate) cgroup: String,
    /// Did floe name that cgroup, so that it goes with the pod?
    pub(crate) owns_cgroup: bool,
    /// Which process made a person's pod: pid and start time. Its container comes from the same.
    pub(crate) maker: Option<(i32, u64)>,
    pub(crate) spec: PodSpec,
    /// What a newer floe has written besides.
    pub(crate) kept: Kept,
}

/// How far a pod has come. A pod that is being made is hidden from every list.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// Someone who holds the name's lock makes it; without that lock it is half made and goes.
    Creating,
    /// It was made; it is ready as long as its supervisor lives.
    Made { ips: Vec<std::net::IpAddr> },
    /// It was stopped.
    Stopped,
    /// It could not be made, and not all of it could be taken back: whoever asks for its name next, or
    /// removes it, tries again.
    Failed,
    /// One that only a newer floe knows: the pod is not ready, and can be stopped and removed.
    Other,
    /// What is on disk cannot be read; never written.
    Damaged,
}

impl PodRecord {
    pub(crate) fn path(pod_dir: &Path) -> PathBuf {
        record::pod::path(pod_dir)
    }

    pub(crate) fn read(pod_dir: &Path) -> Result<Option<Self>> {
        record::pod::read(pod_dir)
    }

    pub(crate) fn write(&self, pod_dir: &Path) -> Result<()> {
        record::pod::write(pod_dir, self)
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

    /// Is it of that origin? Of a damaged one nobody knows.
    pub(crate) fn is_of(&self, origin: Option<Origin>) -> bool {
        self.is_damaged() || origin.is_none_or(|origin| origin == self.spec.origin)
    }

    pub(crate) fn is_damaged(&self) -> bool {
        matches!(self.stage, Stage::Damaged)
    }

    /// The pod as callers see it; `None` while it is being made.
    pub(crate) fn view(&self, pod_dir: &Path) -> Result<Option<Pod>> {
        let (alive, ips) = match &self.stage {
            Stage::Creating => return Ok(None),
            Stage::Made { ips } => (live_supervisor(&self.id, pod_dir)?, ips.clone()),
            Stage::Stopped | Stage::Failed | Stage::Other | Stage::Damaged => (None, Vec::new()),
        };
        let alive = match alive {
            Some(alive) if containers_are_whole(pod_dir)? => Some(alive),
            _ => None,
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
            damaged: self.is_damaged(),
        }))
    }
}

impl Engine {
    /// The record of a pod that is there. One that cannot be read has a stand-in of which only the id
    /// is true.
    pub(crate) fn pod_record(&self, id: &str) -> Result<Option<PodRecord>> {
        let dir = self.layout().pod(id);
        let damage = match PodRecord::read(&dir) {
            Ok(Some(record)) if record.id == id => return Ok(Some(record)),
            Ok(Some(_)) => "it is the record of another pod".to_owned(),
            Ok(None) if !dir.is_dir() => return Ok(None),
            Ok(None) => "it is missing".to_owned(),
            Err(error) if error.is_damage() => error.to_string(),
            Err(error) => return Err(error),
        };
        disk::warn_once(&PodRecord::path(&dir), &damage);
        Ok(Some(self.stand_in(id, &dir)))
    }

    fn stand_in(&self, id: &str, dir: &Path) -> PodRecord {
        let made = std::fs::metadata(dir).and_then(|dir| dir.modified()).ok();
        let since = made.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        PodRecord {
            id: id.to_owned(),
            created_at: since
                .and_then(|since| i64::try_from(since.as_nanos()).ok())
                .unwrap_or(0),
            stage: Stage::Damaged,
            cgroup: self.own_pod_cgroup(id),
            owns_cgroup: true,
            maker: None,
            spec: PodSpec::default(),
            kept: Kept::default(),
        }
    }

    /// Is it a person's pod whose maker was killed before it had made the container? Nobody could see
    /// it, and it would keep its name.
    pub(crate) fn is_abandoned(&self, record: &PodRecord) -> Result<bool> {
        let made = matches!(record.stage, Stage::Made { .. } | Stage::Stopped);
        let Some((pid, start)) = record.maker.filter(|_| made) else {
            return Ok(false);
        };
        if supervisor::lives(pid, start) {
            return Ok(false);
        }
        let bundles = disk::bundles(&self.layout().pod(&record.id))?;
        Ok(bundles
            .iter()
            .all(|bundle| matches!(ContainerRecord::read(bundle), Ok(None))))
    }

    /// The cgroup of a pod that names no parent.
    pub(crate) fn own_pod_cgroup(&self, id: &str) -> String {
        format!("{}/pod-{id}", self.config().runtime.cgroup_parent)
    }

    /// The record of a damaged pod with the cgroup that it really has: the one in which its
    /// supervisor's is, wherever that was made.
    pub(crate) fn with_true_cgroup(&self, record: &PodRecord) -> Result<PodRecord> {
        let mut record = record.clone();
        if !record.is_damaged() {
            return Ok(record);
        }
        let failed = |source| Error::Cgroup {
            id: record.id.clone(),
            source,
        };
        let supervisor = format!("crio-{}", record.id);
        let found = runtime::cgroup::Cgroup::find(&supervisor).map_err(failed)?;
        if let Some((parent, _)) = found.as_deref().and_then(|path| path.rsplit_once('/')) {
            record.owns_cgroup = format!("/{parent}").ends_with(&format!("/pod-{}", record.id));
            record.cgroup = parent.to_owned();
        }
        Ok(record)
    }
}

/// Can the records of all containers of a pod be read?
fn containers_are_whole(pod_dir: &Path) -> Result<bool> {
    for bundle in disk::bundles(pod_dir)? {
        let engine = || ContainerRecord::read(&bundle).is_ok();
        let supervisor = || supervisor::ContainerState::read(&bundle).is_ok();
        if !disk::is_whole(&bundle.join("container.json"), engine)
            || !disk::is_whole(&bundle.join("state.json"), supervisor)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The pod's supervisor, if it lives and its record can be read.
pub(crate) fn live_supervisor(id: &str, pod_dir: &Path) -> Result<Option<SupervisorInfo>> {
    let read = SupervisorInfo::read(pod_dir).map_err(|source| Error::Supervisor {
        verb: "look for the supervisor of pod",
        id: id.to_owned(),
        source,
    });
    match read {
        Ok(info) => Ok(info.filter(SupervisorInfo::is_alive)),
        Err(error) if error.is_damage() => {
            disk::warn_once(&pod_dir.join("supervisor.json"), &error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The path of a process's namespace, such as `/proc/7/ns/net`.
pub(crate) fn namespace(pid: i32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/{name}"))
}
