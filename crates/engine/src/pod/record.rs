//! `pod.json`: what the engine remembers of a pod, and how it becomes a [`Pod`]. A record that cannot
//! be read harms its own pod alone: that pod is not ready, and can be stopped and removed by its id.

use std::path::{Path, PathBuf};

use super::{NamespaceMode, Pod, PodSpec, PodState, Step};
use crate::container::record::ContainerRecord;
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{PodRef, Sandbox};
use crate::node::cgroups;
use crate::record::{self, UnknownFields};

/// What is remembered of a pod. How it is written down: `record/pod.rs`.
#[derive(Debug, Clone)]
pub(crate) struct PodRecord {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) stage: Stage,
    /// The name of the handler that runs it; empty in a record of before this field was.
    pub(crate) handler: String,
    /// The pod's cgroup below each hierarchy's root.
    pub(crate) cgroup: String,
    /// Did floe name that cgroup, so that it goes with the pod?
    pub(crate) owns_cgroup: bool,
    /// What the names of the cgroups in it begin with.
    pub(crate) cgroup_prefix: String,
    /// Which process made a person's pod: pid and start time. Its container comes from the same.
    pub(crate) maker: Option<(i32, u64)>,
    pub(crate) spec: PodSpec,
    /// How it came to be ready; empty in a record of before this field was.
    pub(crate) steps: Vec<Step>,
    /// What a newer floe has written besides.
    pub(crate) kept: UnknownFields,
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
    /// A person's pod that is not made: its containers were never started, or not since the node was. Its
    /// definition is kept beside the images.
    Defined,
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

    /// As its handler is told of it.
    pub(crate) fn at<'a>(&'a self, pod_dir: &'a Path) -> PodRef<'a> {
        PodRef {
            id: &self.id,
            dir: pod_dir,
            cgroup: &self.cgroup,
            prefix: &self.cgroup_prefix,
        }
    }

    pub(crate) fn is_damaged(&self) -> bool {
        matches!(self.stage, Stage::Damaged)
    }

    /// The pod as callers see it, if its sandbox lives and the records of all containers can be read or
    /// not; `None` while it is being made.
    pub(crate) fn view(&self, sandbox: Option<Sandbox>, intact: bool) -> Option<Pod> {
        let (alive, ips) = match &self.stage {
            Stage::Creating => return None,
            Stage::Made { ips } => (sandbox.filter(|_| intact), ips.clone()),
            Stage::Stopped | Stage::Failed | Stage::Defined | Stage::Other | Stage::Damaged => {
                (None, Vec::new())
            }
        };
        let own_network = self.spec.namespaces.network != NamespaceMode::Node;
        Some(Pod {
            id: self.id.clone(),
            spec: self.spec.clone(),
            state: if alive.is_some() {
                PodState::Ready
            } else {
                PodState::NotReady
            },
            created_at: self.created_at,
            steps: self.steps.clone(),
            ips,
            supervisor_pid: alive.as_ref().and_then(|sandbox| sandbox.pid),
            netns: alive
                .filter(|_| own_network)
                .and_then(|sandbox| sandbox.namespaces.network),
            cgroup_parent: self.cgroup.clone(),
            damaged: self.is_damaged(),
        })
    }
}

impl Engine {
    /// The pod as callers see it; `None` while it is being made.
    pub(crate) fn view_pod(&self, record: &PodRecord) -> Result<Option<Pod>> {
        let dir = self.layout().pod(&record.id);
        let sandbox = match &record.stage {
            Stage::Made { .. } => self.sandbox(record)?,
            _ => None,
        };
        let intact = sandbox.is_some() && self.is_intact(record, &dir)?;
        Ok(record.view(sandbox, intact))
    }

    /// The pod's sandbox, if it lives. One whose handler is not there any more does not.
    pub(crate) fn sandbox(&self, record: &PodRecord) -> Result<Option<Sandbox>> {
        let dir = self.layout().pod(&record.id);
        match self.handler_of(record) {
            Ok(handler) => handler.sandbox(record.at(&dir)),
            Err(error) => {
                disk::warn_once(&PodRecord::path(&dir), &error);
                Ok(None)
            }
        }
    }

    /// Can the records of all containers of a pod be read?
    pub(crate) fn is_intact(&self, record: &PodRecord, dir: &Path) -> Result<bool> {
        for bundle in disk::bundles(dir)? {
            let read = || ContainerRecord::read(&bundle).is_ok();
            if !disk::is_whole(&bundle.join("container.json"), read) {
                return Ok(false);
            }
        }
        self.handler_of(record)?.is_intact(record.at(dir))
    }

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
            handler: String::new(),
            cgroup: self.node().cgroups().own_pod(id),
            owns_cgroup: true,
            cgroup_prefix: self.config().compat.cgroup_prefix.clone(),
            maker: None,
            spec: PodSpec::default(),
            steps: Vec::new(),
            kept: UnknownFields::default(),
        }
    }

    /// Is it a person's pod whose maker was killed before it had made the container? Nobody could see
    /// it, and it would keep its name.
    pub(crate) fn is_abandoned(&self, record: &PodRecord) -> Result<bool> {
        let made = matches!(
            record.stage,
            Stage::Made { .. } | Stage::Stopped | Stage::Defined
        );
        let waits = made && !record.spec.by_itself;
        let Some((pid, start)) = record.maker.filter(|_| waits) else {
            return Ok(false);
        };
        if base::process::lives(pid, start) {
            return Ok(false);
        }
        let bundles = disk::bundles(&self.layout().pod(&record.id))?;
        Ok(bundles
            .iter()
            .all(|bundle| matches!(ContainerRecord::read(bundle), Ok(None))))
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
        if let Some(found) = cgroups::find_pod(&record.id).map_err(failed)? {
            (record.cgroup, record.owns_cgroup) = (found.cgroup, found.own);
            record.cgroup_prefix = found.prefix;
        }
        Ok(record)
    }
}
