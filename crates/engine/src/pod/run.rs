//! RunPodSandbox: make a pod, or find the one that an earlier try has made.
//! Whatever fails is undone by [`Making`]'s drop; a kill in the middle leaves a record in stage
//! `Creating`, which the next try of the same name or the next start of the engine removes.

use std::net::IpAddr;
use std::path::PathBuf;

use supervisor::{PodSetup, SupervisorInfo};

use super::record::{PodRecord, Stage, namespace};
use super::{NamespaceMode, Origin, PodSpec, PodState, files};
use crate::disk::{self, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Makes the pod and returns its id; a pod of the same name that is ready is returned as it
    /// is, so that a caller who gave up may ask again.
    ///
    /// # Errors
    /// A request that cannot be accepted, a stopped pod that still has the name, or a step that
    /// failed; nothing is left behind then.
    pub fn run_pod(&self, spec: PodSpec) -> Result<String> {
        self.validate_pod(&spec)?;
        let parts = PodRecord::name_parts(&spec);
        let mut name = Reservation::lock(&self.layout().names(), &parts)?;
        if let Some(holder) = name.holder()?
            && let Some(id) = self.ready_pod_or_clear(&holder, &spec)?
        {
            return Ok(id);
        }
        let id = disk::new_id()?;
        name.hold(&id)?;
        let making = Making::begin(self, name, id, spec)?;
        files::write(&making.dir, &making.record.id, &making.record.spec)?;
        let supervisor = making.launch_supervisor()?;
        let ips = making.attach_network(&supervisor)?;
        making.commit(ips)
    }

    /// What has the name: a ready pod is the answer, a half-made one is cleared away.
    fn ready_pod_or_clear(&self, holder: &str, spec: &PodSpec) -> Result<Option<String>> {
        let dir = self.layout().pod(holder);
        let Some(record) = PodRecord::read(&dir)? else {
            return Ok(None);
        };
        match record.view(&dir)? {
            None => self.destroy_pod(&record).map(|()| None),
            // kubelet asks again for what it has asked for; a person's second pod is another one.
            Some(pod) if pod.state == PodState::Ready && spec.origin == Origin::Cri => {
                Ok(Some(pod.id))
            }
            Some(pod) => Err(Error::NameTaken {
                what: "pod",
                name: spec.name.clone(),
                holder: format!("pod {}", pod.id),
            }),
        }
    }

    fn validate_pod(&self, spec: &PodSpec) -> Result<()> {
        if !matches!(spec.runtime_handler.as_str(), "" | "floe") {
            return Err(Error::invalid(
                "runtime_handler",
                format!(
                    "no runtime handler {:?} is configured; known: \"floe\"",
                    spec.runtime_handler
                ),
            ));
        }
        if spec.namespaces.user_pod {
            return Err(Error::Unsupported(
                "a user namespace for a pod (userns_options.mode POD)".into(),
            ));
        }
        if spec
            .log_directory
            .as_ref()
            .is_some_and(|dir| !dir.is_absolute())
        {
            return Err(Error::invalid("log_directory", "must be an absolute path"));
        }
        for (field, mode) in [
            ("network", spec.namespaces.network),
            ("ipc", spec.namespaces.ipc),
        ] {
            if !matches!(mode, NamespaceMode::Pod | NamespaceMode::Node) {
                return Err(Error::invalid(
                    format!("namespace_options.{field}"),
                    "must be POD or NODE",
                ));
            }
        }
        for key in spec.sysctls.keys() {
            let node = NamespaceMode::Node;
            if key.starts_with("net.") && spec.namespaces.network == node {
                return Err(Error::invalid(
                    format!("sysctls[{key}]"),
                    "the pod uses the node's network namespace",
                ));
            }
            if !key.starts_with("net.") && spec.namespaces.ipc == node {
                return Err(Error::invalid(
                    format!("sysctls[{key}]"),
                    "the pod uses the node's IPC namespace",
                ));
            }
        }
        Ok(())
    }
}

/// A pod that is being made. Dropped before [`Making::commit`], it takes everything back.
struct Making<'a> {
    engine: &'a Engine,
    dir: PathBuf,
    record: PodRecord,
    name: Option<Reservation>,
}

impl<'a> Making<'a> {
    fn begin(engine: &'a Engine, name: Reservation, id: String, spec: PodSpec) -> Result<Self> {
        let dir = engine.layout().pod(&id);
        let (cgroup, owns_cgroup) = match spec
            .cgroup_parent
            .as_deref()
            .filter(|parent| !parent.is_empty())
        {
            Some(parent) => (parent.to_owned(), false),
            None => (
                format!("{}/pod-{id}", engine.config().runtime.cgroup_parent),
                true,
            ),
        };
        let record = PodRecord {
            id,
            created_at: disk::now_ns(),
            stage: Stage::Creating,
            cgroup,
            owns_cgroup,
            spec,
        };
        let making = Self {
            engine,
            dir,
            record,
            name: Some(name),
        };
        disk::make_dir(&making.dir.join("containers"))?;
        making.record.write(&making.dir)?;
        Ok(making)
    }

    fn launch_supervisor(&self) -> Result<SupervisorInfo> {
        let spec = &self.record.spec;
        let node = NamespaceMode::Node;
        let own_uts = spec.namespaces.network != node;
        let setup = PodSetup {
            dir: self.dir.clone(),
            id: self.record.id.clone(),
            hostname: own_uts.then(|| files::hostname(&self.record.id, spec)),
            new_net: spec.namespaces.network != node,
            new_ipc: spec.namespaces.ipc != node,
            new_uts: own_uts,
            shared_pid: spec.namespaces.pid == NamespaceMode::Pod,
            sysctls: self.sysctls(),
            shm_size: self.engine.config().runtime.shm_size,
            cgroup: Some(format!("{}/crio-{}", self.record.cgroup, self.record.id)),
            open_files: None,
        };
        let (_client, info) =
            supervisor::launch(self.engine.runtime_program(), &setup).map_err(|source| {
                Error::Supervisor {
                    verb: "start the supervisor of pod",
                    id: self.record.id.clone(),
                    source,
                }
            })?;
        Ok(info)
    }

    /// The configuration's defaults that this pod has the namespace for, and the pod's own.
    fn sysctls(&self) -> std::collections::BTreeMap<String, String> {
        let spec = &self.record.spec;
        let node = NamespaceMode::Node;
        let mut all = std::collections::BTreeMap::new();
        for entry in &self.engine.config().runtime.default_sysctls {
            if let Some((key, value)) = entry.split_once('=') {
                let of_node = if key.starts_with("net.") {
                    spec.namespaces.network
                } else {
                    spec.namespaces.ipc
                } == node;
                if !of_node {
                    all.insert(key.trim().to_owned(), value.trim().to_owned());
                }
            }
        }
        all.extend(spec.sysctls.clone());
        all
    }

    fn attach_network(&self, supervisor: &SupervisorInfo) -> Result<Vec<IpAddr>> {
        let spec = &self.record.spec;
        if spec.namespaces.network == NamespaceMode::Node {
            return Ok(Vec::new());
        }
        let netns = namespace(supervisor.pid, "net");
        self.engine.attach_network(&self.record, &netns)
    }

    fn commit(mut self, ips: Vec<IpAddr>) -> Result<String> {
        self.record.stage = Stage::Made { ips };
        self.record.write(&self.dir)?;
        self.name = None;
        Ok(self.record.id.clone())
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        if let Err(error) = self.engine.destroy_pod(&self.record) {
            tracing::warn!(pod = %self.record.id, %error, "undo of a failed pod left something behind");
            return;
        }
        if let Err(error) = name.release() {
            tracing::warn!(pod = %self.record.id, %error, "name of a failed pod not released");
        }
    }
}
