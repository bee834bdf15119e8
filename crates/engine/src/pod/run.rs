//! RunPodSandbox: make a pod, or find the one that an earlier try has made.
//! Whatever fails is undone by [`Making`]'s drop; a kill in the middle leaves a record in stage
//! `Creating`, which the next try of the same name or the next start of the engine removes.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use ::network::Network;

use super::network::network_error;
use super::record::{PodRecord, Stage};
use super::{NamespaceMode, Origin, PodSpec, PodState, Step, files};
use crate::disk::{self, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{Ability, Handler, LIMIT, Netns, PodPlan, RootForm, Sandbox};
use crate::node::Node;
use crate::record::UnknownFields;
use crate::steps::{self, step};

/// As many bytes as a path may have, less what floe adds below it.
const MAX_CGROUP_PARENT: usize = 3500;
/// The kernel has a few hundred for a namespace.
const MAX_SYSCTLS: usize = 1024;

impl Engine {
    /// Makes the pod and returns its id; a pod of the same name that is ready is returned as it
    /// is, so that a caller who gave up may ask again.
    ///
    /// # Errors
    /// A request that cannot be accepted, a stopped pod that still has the name, or a step that
    /// failed; nothing is left behind then.
    pub fn run_pod(&self, spec: PodSpec) -> Result<String> {
        self.make_pod(spec).map(|(id, _)| id)
    }

    /// As [`Engine::run_pod`]; was it made just now?
    ///
    /// # Errors
    /// As that.
    pub(crate) fn make_pod(&self, mut spec: PodSpec) -> Result<(String, bool)> {
        let asked = Step::now("asked");
        let handler = self.handlers().chosen(&spec.runtime_handler)?;
        validate_pod(&spec, handler, self.node())?;
        self.validate_users(&spec)?;
        self.check_annotations(&spec)?;
        self.check_networks(&mut spec.networks)?;
        let parts = PodRecord::name_parts(&spec);
        let mut name = Reservation::lock(&self.layout().names(), &parts)?;
        if let Some(holder) = name.holder() {
            if let Some(id) = self.ready_pod_or_clear(&holder, &spec)? {
                return Ok((id, false));
            }
            name.forget();
        }
        let id = disk::new_id()?;
        name.hold(&id)?;
        let making = Making::begin(self, handler, name, id, spec, asked)?;
        let ips = making.stand()?;
        Ok((making.commit(ips)?, true))
    }

    /// Can this node give the pod the user namespace that it asks for?
    pub(super) fn validate_users(&self, spec: &PodSpec) -> Result<()> {
        let field = "namespace_options.userns_options";
        match spec.namespaces.users.ids() {
            None => Ok(()),
            Some(ids) if ids.root().is_none() => Err(Error::invalid(
                field,
                "the id 0 of users and of groups must be mapped",
            )),
            Some(_) => {
                let can = self.node().kernel().mapped_roots(self.store());
                can.map_err(|reason| {
                    Error::Unsupported(format!("{field}: a user namespace on this node: {reason}"))
                })
            }
        }
    }

    /// What has the name: a ready pod is the answer, a half-made one is cleared away.
    pub(super) fn ready_pod_or_clear(
        &self,
        holder: &str,
        spec: &PodSpec,
    ) -> Result<Option<String>> {
        let Some(record) = self.pod_record(holder)? else {
            return Ok(None);
        };
        if matches!(record.stage, Stage::Failed) || self.is_abandoned(&record)? {
            return self.destroy_pod(&record).map(|()| None);
        }
        match self.view_pod(&record)? {
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

    /// Shows a half-made pod of which something could not be taken back.
    pub(crate) fn mark_failed(&self, record: &mut PodRecord) {
        record.stage = Stage::Failed;
        let dir = self.layout().pod(&record.id);
        if dir.is_dir()
            && let Err(error) = record.write(&dir)
        {
            tracing::warn!(pod = %record.id, %error, "it stays hidden");
        }
    }

    /// Where the containers' logs of a pod without a log directory are: no two pods share one.
    fn own_logs(&self, id: &str) -> PathBuf {
        self.config().root_table.log_dir.join(id)
    }

    /// Removes that directory if there is nothing in it.
    pub(crate) fn remove_own_logs(&self, record: &PodRecord) {
        let own = self.own_logs(&record.id);
        if record.spec.log_directory.as_ref() == Some(&own) {
            // What is in it is kept, as kubelet's are.
            let _ = std::fs::remove_dir(own);
        }
    }
}

/// What is asked for is refused before anything is made.
pub(super) fn validate_pod(spec: &PodSpec, handler: &dyn Handler, node: &Node) -> Result<()> {
    if let Some(lacking) = handler.abilities().lacking(&Ability::of_pod(spec)) {
        return Err(handler.lacks(lacking));
    }
    // Its containers would have none.
    if let Some(what) = handler.abilities().refused_root(&RootForm::of_node(node)) {
        return Err(Error::Lacking {
            handler: handler.name().to_owned(),
            what: what.into(),
        });
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
    let parent = spec.cgroup_parent.as_deref();
    if let Some(parent) = parent.filter(|path| !path.is_empty()) {
        validate_cgroup_parent(parent)?;
        node.cgroups().of_request(parent)?;
    }
    crate::oci::limits(&spec.size.total())?;
    validate_sysctls(spec)
}

/// A path below the hierarchies' roots, checked before anything is made.
fn validate_cgroup_parent(parent: &str) -> Result<()> {
    let wrong = |reason: &str| {
        Err(Error::invalid(
            "cgroup_parent",
            format!("{parent:?} {reason}"),
        ))
    };
    if parent.len() > MAX_CGROUP_PARENT || parent.split('/').any(|name| name.len() > 255) {
        return wrong("is too long");
    }
    if parent.contains(['\0', '\n']) {
        return wrong("contains NUL or a line break");
    }
    if parent.split('/').any(|name| name == "..") {
        return wrong("contains \"..\"");
    }
    if parent.split('/').all(|name| matches!(name, "" | ".")) {
        return wrong("names the root");
    }
    Ok(())
}

fn validate_sysctls(spec: &PodSpec) -> Result<()> {
    if spec.sysctls.len() > MAX_SYSCTLS {
        let reason = format!("more than {MAX_SYSCTLS} are asked for");
        return Err(Error::invalid("sysctls", reason));
    }
    for (key, value) in &spec.sysctls {
        let node = NamespaceMode::Node;
        let wrong = |reason: &str| Err(Error::invalid(format!("sysctls[{key:.80}]"), reason));
        if key.len() > 255 || value.len() >= 4096 {
            return wrong("is too long");
        }
        if key.starts_with("net.") && spec.namespaces.network == node {
            return wrong("the pod uses the node's network namespace");
        }
        if !key.starts_with("net.") && spec.namespaces.ipc == node {
            return wrong("the pod uses the node's IPC namespace");
        }
    }
    Ok(())
}

/// A pod that is being made. Dropped before [`Making::commit`], it takes everything back.
pub(super) struct Making<'a> {
    engine: &'a Engine,
    handler: &'a dyn Handler,
    pub(super) dir: PathBuf,
    /// Where that directory is made.
    staging: PathBuf,
    pub(super) record: PodRecord,
    /// What is done so far; sandbox and network are made beside each other.
    steps: Mutex<Vec<Step>>,
    name: Option<Reservation>,
}

impl<'a> Making<'a> {
    pub(super) fn begin(
        engine: &'a Engine,
        handler: &'a dyn Handler,
        name: Reservation,
        id: String,
        mut spec: PodSpec,
        asked: Step,
    ) -> Result<Self> {
        let choosing = engine.choose_users(&mut spec)?;
        if choosing.is_some() {
            validate_pod(&spec, handler, engine.node())?;
            engine.validate_users(&spec)?;
        }
        let dir = engine.layout().pod(&id);
        let cgroups = engine.node().cgroups();
        let parent = spec.cgroup_parent.as_deref();
        let parent = parent.filter(|path| !path.is_empty());
        let owns_cgroup = parent.is_none();
        let cgroup = match parent {
            Some(parent) => cgroups.of_request(parent)?,
            None => cgroups.own_pod(&id),
        };
        if spec.log_directory.is_none() && spec.origin == Origin::Cri {
            spec.log_directory = Some(engine.own_logs(&id));
        }
        let own = i32::try_from(std::process::id()).ok();
        let maker = own
            .filter(|_| spec.origin == Origin::Cli)
            .and_then(|pid| Some((pid, base::process::start(pid)?)));
        let record = PodRecord {
            maker,
            cgroup,
            id,
            created_at: disk::now_ns(),
            stage: Stage::Creating,
            handler: handler.name().to_owned(),
            owns_cgroup,
            cgroup_prefix: engine.config().compat.cgroup_prefix.clone(),
            spec,
            steps: Vec::new(),
            kept: UnknownFields::default(),
        };
        let file = format!("{}.{}", name.file_name(), disk::NEW);
        let making = Self {
            engine,
            handler,
            dir,
            staging: engine.layout().pods().join(file),
            record,
            steps: Mutex::new(vec![asked]),
            name: Some(name),
        };
        making.make_dir()?;
        drop(choosing);
        making.step("directory");
        Ok(making)
    }

    /// A pod that was made before, in its directory. Dropped, it takes nothing back.
    pub(super) fn again(engine: &'a Engine, handler: &'a dyn Handler, record: PodRecord) -> Self {
        Self {
            dir: engine.layout().pod(&record.id),
            staging: PathBuf::new(),
            engine,
            handler,
            record,
            steps: Mutex::new(vec![Step::now("asked")]),
            name: None,
        }
    }

    /// Everything of the pod that is more than its directory and its record.
    pub(super) fn stand(&self) -> Result<Vec<IpAddr>> {
        let record = &self.record;
        let resolves = self.engine.has_names(&record.spec)?;
        files::write(&self.dir, &record.id, &record.spec, resolves)?;
        let ips = match self.may_give_netns()? {
            true => self.run_while_connecting()?,
            false => self.attach_network(&self.run(None)?)?,
        };
        if resolves {
            self.engine.begin_names(record)?;
        }
        super::link_logs::mount(&self.engine.annotations(&record.spec), &record.spec)?;
        self.handler.connected(record.at(&self.dir), LIMIT)?;
        Ok(ips)
    }

    /// It is not run: what is asked for is written down alone.
    pub(super) fn define(mut self) -> Result<PodRecord> {
        self.record.stage = Stage::Defined;
        self.record.write(&self.dir)?;
        self.name = None;
        Ok(self.record.clone())
    }

    /// The pod's directory, which has its record from its first moment on, and that of its logs.
    fn make_dir(&self) -> Result<()> {
        disk::remove_tree(&self.staging)?;
        disk::make_dir(&self.staging.join("containers"))?;
        self.record.write(&self.staging)?;
        std::fs::rename(&self.staging, &self.dir).map_err(Error::io("rename", &self.staging))?;
        match &self.record.spec.log_directory {
            Some(logs) => disk::make_dir(logs),
            None => Ok(()),
        }
    }

    /// Can a network namespace be connected while the sandbox comes up? Not where the order counts: what parameters of a network say holds for the interfaces that come after them, and a plugin program
    /// is told a path of the namespace that lasts.
    fn may_give_netns(&self) -> Result<bool> {
        let spec = &self.record.spec;
        if !self.handler.takes_netns()
            || spec.namespaces.network == NamespaceMode::Node
            || spec.namespaces.users.ids().is_some()
            || self.sysctls().keys().any(|key| key.starts_with("net"))
        {
            return Ok(false);
        }
        let failed = |source| network_error(&self.record.id, source);
        Ok(spec.network_none || !self.engine.network().runs_programs().map_err(failed)?)
    }

    /// Makes a network namespace and connects it while the sandbox comes up, which takes it.
    fn run_while_connecting(&self) -> Result<Vec<IpAddr>> {
        let netns = Netns::new(Network::new_namespace);
        let path = || {
            let made = LazyLock::force(&netns).as_ref();
            let number = made.map(AsRawFd::as_raw_fd).unwrap_or(-1);
            PathBuf::from(format!("/proc/self/fd/{number}"))
        };
        std::thread::scope(|scope| {
            let whole = steps::current();
            let connect = || steps::part_of(whole, || self.connect(&path()));
            let thread = std::thread::Builder::new().name("connect".to_owned());
            let connecting = thread.spawn_scoped(scope, connect);
            let sandbox = self.run(Some(&netns));
            let ips = match connecting.map(ScopedJoinHandle::join) {
                Ok(Ok(ips)) => ips,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(error) => Err(Error::io("start", "a thread")(error)),
            };
            sandbox.and(ips)
        })
    }

    fn run(&self, netns: Option<&Netns>) -> Result<Sandbox> {
        let spec = &self.record.spec;
        let own_hostname = spec.namespaces.network != NamespaceMode::Node;
        let plan = PodPlan {
            pod: self.record.at(&self.dir),
            spec,
            hostname: own_hostname.then(|| files::hostname(&self.record.id, spec)),
            sysctls: self.sysctls(),
            shm_size: self.engine.shm_size(spec)?,
            cpuset: &self.engine.config().runtime.infra_ctr_cpuset,
            netns,
            keeps_home: spec.origin == Origin::Cli && self.engine.exit_program().is_some(),
        };
        let sandbox = step("supervisor", || self.handler.run_pod(&plan, LIMIT))?;
        self.step("sandbox");
        Ok(sandbox)
    }

    /// This much is done.
    fn step(&self, what: &'static str) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push(Step::now(what));
    }

    fn connect(&self, netns: &Path) -> Result<Vec<IpAddr>> {
        let ips = self.engine.attach_network(&self.record, netns)?;
        self.step("network");
        Ok(ips)
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

    /// A sandbox without a network namespace on this node connects itself.
    fn attach_network(&self, sandbox: &Sandbox) -> Result<Vec<IpAddr>> {
        match &sandbox.namespaces.network {
            Some(netns) if self.record.spec.namespaces.network != NamespaceMode::Node => {
                self.connect(netns)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// It is ready.
    pub(super) fn commit(mut self, ips: Vec<IpAddr>) -> Result<String> {
        let let_by_plugins = self.engine.plugins_let_pod(&self.record, &ips)?;
        if self.record.owns_cgroup {
            let total = self.record.spec.size.total();
            self.engine.limit_pod(&self.record, &total)?;
        }
        self.step("ready");
        let steps = self.steps.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.record.steps = std::mem::take(steps);
        self.record.stage = Stage::Made { ips };
        self.record.write(&self.dir)?;
        self.name = None;
        if let Some(new) = let_by_plugins {
            new.made();
        }
        Ok(self.record.id.clone())
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let id = &self.record.id;
        if let Err(error) = disk::remove_tree(&self.staging) {
            tracing::warn!(pod = %id, %error, "undo of a failed pod");
        }
        match self.engine.destroy_pod(&self.record) {
            Ok(()) => {
                if let Err(error) = name.release() {
                    tracing::warn!(pod = %id, %error, "name of a failed pod not released");
                }
            }
            Err(error) => {
                tracing::warn!(pod = %id, %error, "undo of a failed pod left something behind; the pod is listed until it is removed");
                self.engine.mark_failed(&mut self.record);
            }
        }
    }
}
