//! Shims: programs with containerd's shim v2 protocol run the containers (`runtime_type = "vm"`), as Kata
//! Containers does in virtual machines. The crate `shim` speaks with them.
//!
//! A pod has its supervisor as any other: it holds the pod's namespaces on this node, is the parent of
//! the shim, and has the containers' streams, logs, clients and records, of which every list is made. The
//! shim makes and ends processes, wherever they are. It tells the supervisor itself how a container
//! ends, so that nothing is lost when no engine lives ([`supervisor::Watch`]); an engine that comes later
//! needs nothing but `shim.json` ([`record`]) to go on.
//!
//! A verb's limit holds over all of its steps. Of one that ends something the shim has half: if it does not
//! answer, the supervisor has the time to end what it can.
//!
//! ```text
//!  engine ──ttrpc──▶ shim ──▶ virtual machine, containers
//!     │               │ ▲ named pipes, how a container ends
//!     └─ socket ─▶ supervisor ──▶ logs, clients, state.json
//! ```

mod container;
mod events;
mod pod;
mod record;
mod relay;
mod sandbox;
mod service;
mod streams;

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shim::task;

use super::deadline::Deadline;
use super::supervisor::Supervisor;
use super::{
    Abilities, Ability, Adopted, AttachOptions, Attachment, Command, ContainerPlan, ContainerRef,
    End, Events as PodEvents, ExecSession, ExecStdio, Handler, Overhead, Pending, PodPlan, PodRef,
    RootForm, Running, Sandbox, State,
};
use crate::config::RuntimeEntry;
use crate::error::{Error, Result};
pub(crate) use events::ShimEvents;

/// What a virtual machine takes at the least, beside its containers: Kata's own figure for Kubernetes
/// (RuntimeClass `overhead.podFixed`).
const MEMORY: u64 = 160 << 20;
/// As [`MEMORY`], in thousandths of a processor.
const CPU_MILLIS: u64 = 250;

/// How long a shim may count: a list of all containers waits for it.
const COUNTS: Duration = Duration::from_secs(2);

/// A shim as the configuration has it.
#[derive(Debug, Clone)]
pub(crate) struct ShimConfig {
    /// The shim's program (`runtime_path`).
    pub(crate) program: PathBuf,
    /// All that is said of it.
    pub(crate) entry: RuntimeEntry,
    /// The engine's directory on tmpfs.
    pub(crate) runroot: PathBuf,
}

impl ShimConfig {
    /// The file that the shim is to read (`runtime_config_path`).
    fn file(&self) -> Option<PathBuf> {
        let path = &self.entry.runtime_config_path;
        (!path.as_os_str().is_empty()).then(|| path.clone())
    }
}

/// May a shim have a root file system mounted at or below that directory? A container's is `rootfs` in the
/// container's own, that of the sandbox below `shim` in the pod's.
pub(super) fn may_be_mounted(dir: &Path) -> bool {
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|found| found.dev());
    let is_mounted = match device(&dir.join("rootfs")) {
        Ok(root) => device(dir).is_ok_and(|own| own != root),
        Err(e) => !base::file::is_absent(&e),
    };
    is_mounted || dir.join("shim").exists()
}

/// The handler of one shim's program.
#[derive(Debug)]
pub(crate) struct Shims {
    /// The pods' supervisors.
    pods: Supervisor,
    config: ShimConfig,
    abilities: Abilities,
    events: Arc<ShimEvents>,
}

impl Shims {
    /// By the name of `pods`; shims tell `events`.
    pub(crate) fn new(pods: Supervisor, config: ShimConfig, events: Arc<ShimEvents>) -> Self {
        let has = [
            Ability::Devices,
            Ability::Privileged,
            Ability::Pause,
            Ability::Ports,
        ];
        Self {
            pods,
            config,
            abilities: Abilities::new(&[RootForm::Layers], &has),
            events,
        }
    }
}

/// A shim's failure as one of the engine's.
pub(super) fn failed(source: shim::Error) -> Error {
    Error::Shim(source)
}

impl Handler for Shims {
    fn name(&self) -> &str {
        self.pods.name()
    }

    fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    fn overhead(&self) -> Overhead {
        Overhead {
            memory: MEMORY,
            cpu_millis: CPU_MILLIS,
        }
    }

    fn prepare(&self) -> Result<()> {
        self.pods.prepare()?;
        sandbox::root(&self.config.runroot, self.pods.program()?).map(drop)
    }

    fn run_pod(&self, plan: &PodPlan<'_>, limit: Duration) -> Result<Sandbox> {
        let found = self.pods.run_pod(plan, limit)?;
        let annotations = self.config.entry.annotations(&plan.spec.annotations);
        sandbox::write(plan, &found, annotations)?;
        Ok(found)
    }

    /// The shim begins when the network stands: a virtual machine takes its interfaces as they are then.
    fn connected(&self, pod: PodRef<'_>, limit: Duration) -> Result<()> {
        self.begin(pod, limit)
    }

    fn sandbox(&self, pod: PodRef<'_>) -> Result<Option<Sandbox>> {
        let sandbox = self.pods.sandbox(pod)?;
        Ok(sandbox
            .filter(|_| !pod::has_ended(pod))
            .map(|sandbox| Sandbox {
                // It ends with its shim as well, which the supervisor records.
                end: End::ProcessOrRecord(sandbox::bundle(pod)),
                ..sandbox
            }))
    }

    fn is_intact(&self, pod: PodRef<'_>) -> Result<bool> {
        Ok(record::read(pod).is_ok() && self.pods.is_intact(pod)?)
    }

    fn adopt(&self, pod: PodRef<'_>, containers: &[ContainerRef<'_>]) -> Result<Adopted> {
        self.take_over(pod, containers)?;
        let mut adopted = self.pods.adopt(pod, containers)?;
        adopted.sandbox = self.sandbox(pod)?;
        let all = std::mem::take(&mut adopted.events).into_iter();
        adopted.events = all
            .filter_map(|event| events::meaning(event, pod.id))
            .collect();
        Ok(adopted)
    }

    fn events(&self, pod: PodRef<'_>, after: Option<u64>) -> Result<Option<Box<dyn PodEvents>>> {
        let told = self.pods.events(pod, after)?;
        Ok(told.map(|told| events::of_pod(told, pod)))
    }

    fn gone(&self, pod: PodRef<'_>) -> Result<Pending<()>> {
        pod::gone(self.pods.gone(pod)?, pod)
    }

    fn stop_pod(
        &self,
        pod: PodRef<'_>,
        containers: &[ContainerRef<'_>],
        limit: Duration,
    ) -> Result<Option<Sandbox>> {
        let until = Deadline::after(limit);
        let shims = Deadline::after(limit / 2);
        if self.pods.sandbox(pod)?.is_none() {
            // The supervisor is dead, and its shim may live: nothing of the pod is to be left.
            self.end_shim(pod, containers, shims);
        }
        for container in containers {
            self.end(*container, shims);
        }
        self.pods.stop_pod(pod, containers, until.left())
    }

    fn end_pod(
        &self,
        pod: PodRef<'_>,
        containers: &[ContainerRef<'_>],
        limit: Duration,
    ) -> Result<()> {
        let until = Deadline::after(limit);
        self.end_shim(pod, containers, Deadline::after(limit / 2));
        self.pods.end_pod(pod, containers, until.left())
    }

    fn remove_pod(&self, pod: PodRef<'_>, limit: Duration) -> Result<()> {
        self.pods.remove_pod(pod, limit)?;
        self.clear(pod)
    }

    fn create(&self, plan: &ContainerPlan<'_>, limit: Duration) -> Result<()> {
        self.make(plan, limit)
    }

    fn state(
        &self,
        container: ContainerRef<'_>,
        sandbox: Option<&Sandbox>,
    ) -> Result<Option<State>> {
        // A shim that is dead leaves the supervisor, which knows how its containers ended.
        match sandbox {
            Some(_) => self.pods.state(container, sandbox),
            None => {
                let supervisor = self.pods.sandbox(container.pod)?;
                self.pods.state(container, supervisor.as_ref())
            }
        }
    }

    fn start(&self, container: ContainerRef<'_>) -> Result<Pending<Pending<()>>> {
        let shim = self.shim(container.pod)?;
        Ok(container::start(shim, container))
    }

    fn stop(
        &self,
        container: ContainerRef<'_>,
        signal: i32,
        grace: Duration,
    ) -> Result<Pending<Pending<()>>> {
        match record::read(container.pod)?.and_then(|record| record.shim()) {
            Some(shim) => Ok(container::stop(shim, container, signal, grace)),
            None => self.pods.stop(container, signal, grace),
        }
    }

    fn signal(
        &self,
        container: ContainerRef<'_>,
        signal: i32,
        all: bool,
        limit: Duration,
    ) -> Result<()> {
        let shim = self.shim(container.pod)?;
        let signal = u32::try_from(signal).map_err(|_| Error::invalid("signal", "is negative"))?;
        let question = task::kill(&shim, container.id, None, signal, all);
        shim.ask(question.within(Some(limit))).map_err(failed)
    }

    fn remove(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()> {
        let until = Deadline::after(limit);
        self.end(container, Deadline::after(limit / 2));
        self.pods.remove(container, until.left())
    }

    fn exec(
        &self,
        container: ContainerRef<'_>,
        command: Command,
        streams: [OwnedFd; 3],
    ) -> Result<Pending<Running>> {
        let shim = self.shim(container.pod)?;
        streams::exec(shim, container.id, command, streams)
    }

    fn exec_session(
        &self,
        container: ContainerRef<'_>,
        command: Command,
        stdio: ExecStdio,
        limit: Duration,
    ) -> Result<ExecSession> {
        let shim = self.shim(container.pod)?;
        streams::exec_session(shim, container.id, command, stdio, limit)
    }

    fn attach(
        &self,
        container: ContainerRef<'_>,
        options: AttachOptions,
        limit: Duration,
    ) -> Result<Attachment> {
        let shim = self.shim(container.pod)?;
        let attachment = self.pods.attach(container, options, limit)?;
        Ok(streams::attach(shim, container.id, attachment))
    }

    fn reopen_log(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()> {
        self.pods.reopen_log(container, limit)
    }

    fn update(
        &self,
        container: ContainerRef<'_>,
        resources: &runtime::spec::Resources,
        limit: Duration,
    ) -> Result<()> {
        let shim = self.shim(container.pod)?;
        let question = task::update(&shim, container.id, resources);
        let question = question.map_err(|reason| Error::invalid("resources", reason))?;
        shim.ask(question.within(Some(limit))).map_err(failed)
    }

    fn pause(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()> {
        let shim = self.shim(container.pod)?;
        let until = Deadline::after(limit);
        let question = task::pause(&shim, container.id).within(Some(limit));
        shim.ask(question).map_err(failed)?;
        container::tell(container, supervisor::Became::Paused, until)
    }

    fn resume(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()> {
        let shim = self.shim(container.pod)?;
        let until = Deadline::after(limit);
        let question = task::resume(&shim, container.id).within(Some(limit));
        shim.ask(question).map_err(failed)?;
        container::tell(container, supervisor::Became::Running, until)
    }

    fn stats(&self, container: ContainerRef<'_>) -> Result<runtime::cgroup::Stats> {
        let shim = self.shim(container.pod)?;
        let question = task::stats(&shim, container.id).within(Some(COUNTS));
        let stats = shim.ask(question);
        stats.map(container::figures).map_err(failed)
    }

    fn port(&self, pod: PodRef<'_>, port: u16) -> Result<Pending<OwnedFd>> {
        self.pods.port(pod, port)
    }
}
