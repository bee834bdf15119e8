//! The built-in runtime: one supervisor per pod, which calls the runtime library; and OCI programs, which
//! the same supervisor executes ([`oci`]). The only place in the engine that talks to supervisors.
//!
//! A pod's sandbox is its supervisor's process. How containers are is read from the records that the
//! supervisor writes (`state.json`), without asking it; of one that was killed, from what the kernel
//! knows of their cgroups ([`lost`]).

mod ask;
pub(super) mod container;
mod events;
mod frozen;
mod names;
mod oci;
pub(crate) mod orphaned;
mod pod;
mod program;
mod root;
mod streams;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use runtime::cgroup::Cgroup;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::unix::pipe::Receiver;

use ::supervisor::HealthRecord;

use super::{
    Abilities, Ability, Adopted, AttachOptions, Attachment, Command, ContainerPlan, ContainerRef,
    Event, Events, ExecSession, ExecStdio, Frozen, Handler, NamesPlan, Overhead, Pending, PodPlan,
    PodRef, RootForm, Running, Sandbox, State,
};
use crate::checkpoint::Cancel;
use crate::error::{Error, Result};

pub(crate) use oci::OciRuntime;
pub(crate) use program::Program;

/// How long the kernel may take to get memory back for a lower limit.
const RECLAIM: Duration = Duration::from_secs(10);

/// What a supervisor takes: measured, with room to spare (docs/benchmarks.md has the figures).
const MEMORY: u64 = 1 << 20;

/// How long a process that has ended, as its pidfd says, may be seen by others.
const ENDED_SOON: Duration = Duration::from_millis(1);

/// A handler whose pods have supervisors: the built-in one, or a program's.
#[derive(Debug)]
pub(crate) struct Supervisor {
    name: String,
    program: Program,
    /// What makes its containers, if it is not the supervisor itself.
    oci: Option<OciRuntime>,
    /// Asked for once, as a program has to be executed for it.
    abilities: OnceLock<Abilities>,
}

impl Supervisor {
    /// By that name, with `floe-runtime` found as configured.
    pub(crate) fn new(name: &str, program: Program) -> Self {
        let has = [
            Ability::HostNetwork,
            Ability::HostIpc,
            Ability::HostPid,
            Ability::TargetPid,
            Ability::Devices,
            Ability::Privileged,
            Ability::Propagation,
            Ability::RecursiveReadOnly,
            Ability::MountOptions,
            Ability::UserNamespaces,
            Ability::MappedMounts,
            Ability::Pause,
            Ability::HealthChecks,
            Ability::Checkpoint,
            Ability::Restore,
            Ability::Ports,
        ];
        Self {
            name: name.to_owned(),
            program,
            oci: None,
            abilities: Abilities::new(&[RootForm::Mount, RootForm::Layers], &has).into(),
        }
    }

    /// One whose containers a program makes.
    pub(crate) fn of_program(name: &str, program: Program, oci: OciRuntime) -> Self {
        Self {
            name: name.to_owned(),
            program,
            oci: Some(oci),
            abilities: OnceLock::new(),
        }
    }

    /// The program `floe-runtime`.
    ///
    /// # Errors
    /// It is not where it should be.
    pub(super) fn program(&self) -> Result<&std::path::Path> {
        self.program.find()
    }
}

impl Handler for Supervisor {
    fn name(&self) -> &str {
        &self.name
    }

    fn abilities(&self) -> &Abilities {
        let ask = || self.oci.as_ref().map(OciRuntime::abilities);
        self.abilities.get_or_init(|| ask().unwrap_or_default())
    }

    fn overhead(&self) -> Overhead {
        Overhead {
            memory: MEMORY,
            cpu_millis: 0,
        }
    }

    fn prepare(&self) -> Result<()> {
        self.program.find()?;
        self.oci.as_ref().map_or(Ok(()), OciRuntime::check)
    }

    fn takes_netns(&self) -> bool {
        true
    }

    fn run_pod(&self, plan: &PodPlan<'_>, limit: Duration) -> Result<Sandbox> {
        // Before anything is made: a pod without it could have no container.
        self.oci.as_ref().map_or(Ok(()), OciRuntime::check)?;
        pod::run(self.program.find()?, plan, limit)
    }

    fn sandbox(&self, pod: PodRef<'_>) -> Result<Option<Sandbox>> {
        Ok(pod::live(pod)?.as_ref().map(pod::sandbox))
    }

    fn is_intact(&self, pod: PodRef<'_>) -> Result<bool> {
        pod::is_intact(pod)
    }

    fn adopt(&self, pod: PodRef<'_>, containers: &[ContainerRef<'_>]) -> Result<Adopted> {
        let sandbox = self.sandbox(pod)?;
        let mut adopted = container::adopt(sandbox, containers)?;
        let kept = adopted.sandbox.as_ref().and_then(|_| events::kept(pod));
        // What is not kept any more the records tell, as far as they do.
        let mut all = kept.unwrap_or_default();
        let is_new = |known: &[Event], event: &Event| {
            let same =
                |one: &Event| (&one.container, one.happened) == (&event.container, event.happened);
            !known.iter().any(same)
        };
        let recorded = std::mem::take(&mut adopted.events).into_iter();
        let more: Vec<Event> = recorded.filter(|event| is_new(&all, event)).collect();
        all.extend(more);
        all.sort_by_key(|event| event.at);
        adopted.events = all;
        Ok(adopted)
    }

    fn events(&self, pod: PodRef<'_>, after: Option<u64>) -> Result<Option<Box<dyn Events>>> {
        events::begin(pod, after)
    }

    fn gone(&self, pod: PodRef<'_>) -> Result<Pending<()>> {
        let failed = |operation| Error::io(operation, PathBuf::from("the supervisor's process"));
        let gone: Pending<()> = Box::pin(std::future::ready(Ok(())));
        let Some(info) = pod::live(pod)? else {
            return Ok(gone);
        };
        let Some(pid) = Pid::from_raw(info.pid) else {
            return Ok(gone);
        };
        let process = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(process) => process,
            Err(rustix::io::Errno::SRCH) => return Ok(gone),
            Err(error) => return Err(failed("open")(error.into())),
        };
        // Asked once the pidfd is held: from here on the pid cannot become another process's.
        if !info.is_alive() {
            return Ok(gone);
        }
        Ok(Box::pin(async move {
            // Only watched, as the reading end of a pipe is; a pidfd has nothing to read.
            let watched = Receiver::from_owned_fd_unchecked(process).map_err(failed("watch"))?;
            while info.is_alive() {
                watched.readable().await.map_err(failed("watch"))?;
                // Readiness may be a false alarm, and then it stays.
                tokio::time::sleep(ENDED_SOON).await;
            }
            Ok(())
        }))
    }

    fn stop_pod(
        &self,
        pod: PodRef<'_>,
        containers: &[ContainerRef<'_>],
        limit: Duration,
    ) -> Result<Option<Sandbox>> {
        pod::stop(pod, containers, limit)
    }

    fn end_pod(
        &self,
        pod: PodRef<'_>,
        containers: &[ContainerRef<'_>],
        limit: Duration,
    ) -> Result<()> {
        pod::end(pod, containers, limit)
    }

    fn remove_pod(&self, pod: PodRef<'_>, _limit: Duration) -> Result<()> {
        crate::pod::stop::remove_cgroup(pod.id, &pod::cgroup(pod))
    }

    fn create(&self, plan: &ContainerPlan<'_>, limit: Duration) -> Result<()> {
        let linux = plan.spec.linux.as_ref();
        let cgroup = linux.and_then(|linux| linux.cgroups_path.as_deref());
        let program = self.oci.as_ref().map(|oci| oci.find(cgroup)).transpose()?;
        container::create(plan, program, limit)
    }

    fn state(
        &self,
        container: ContainerRef<'_>,
        sandbox: Option<&Sandbox>,
    ) -> Result<Option<State>> {
        container::state(container, sandbox.is_some())
    }

    fn start(&self, container: ContainerRef<'_>) -> Result<Pending<Pending<()>>> {
        Ok(container::start(container))
    }

    fn start_and_wait(&self, container: ContainerRef<'_>) -> Result<()> {
        container::start_and_wait(container)
    }

    fn stop(
        &self,
        container: ContainerRef<'_>,
        signal: i32,
        grace: Duration,
    ) -> Result<Pending<Pending<()>>> {
        Ok(container::stop(container, signal, grace))
    }

    fn stop_and_wait(
        &self,
        container: ContainerRef<'_>,
        signal: i32,
        grace: Duration,
    ) -> Result<()> {
        container::stop_and_wait(container, signal, grace)
    }

    fn signal(
        &self,
        container: ContainerRef<'_>,
        signal: i32,
        all: bool,
        limit: Duration,
    ) -> Result<()> {
        container::ask("signal container", container, limit, |client| {
            client.signal(container.id, signal, all)
        })
    }

    fn remove(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()> {
        container::remove(container, limit)
    }

    fn exec(
        &self,
        container: ContainerRef<'_>,
        command: Command,
        streams: [OwnedFd; 3],
    ) -> Result<Pending<Running>> {
        Ok(streams::exec(container, command, streams))
    }

    fn exec_session(
        &self,
        container: ContainerRef<'_>,
        command: Command,
        stdio: ExecStdio,
        limit: Duration,
    ) -> Result<ExecSession> {
        streams::exec_session(container, command, stdio, limit)
    }

    fn attach(
        &self,
        container: ContainerRef<'_>,
        options: AttachOptions,
        limit: Duration,
    ) -> Result<Attachment> {
        streams::attach(container, options, limit)
    }

    fn reopen_log(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()> {
        container::ask("reopen the log of container", container, limit, |client| {
            client.reopen_log(container.id)
        })
    }

    fn update(
        &self,
        container: ContainerRef<'_>,
        resources: &runtime::spec::Resources,
        limit: Duration,
    ) -> Result<()> {
        let failed = cgroup_failed(container);
        let cgroup = Cgroup::open_managed(container.cgroup).map_err(&failed)?;
        let memory = resources.memory.as_ref().and_then(|memory| memory.limit);
        if let Some(lower) = memory.and_then(|bytes| u64::try_from(bytes).ok())
            && lower > 0
            && !cgroup.limit_makes_room()
        {
            cgroup.make_room(lower, RECLAIM).map_err(&failed)?;
        }
        if self.oci.is_some() {
            return container::ask("update container", container, limit, |client| {
                client.update(container.id, resources)
            });
        }
        // Without asking: a supervisor that is held up does not hold up a limit.
        cgroup.update(resources).map_err(failed)
    }

    fn pause(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()> {
        container::ask("pause container", container, limit, |client| {
            client.pause(container.id)
        })
    }

    fn resume(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()> {
        container::ask("resume container", container, limit, |client| {
            client.resume(container.id)
        })
    }

    fn check_health(&self, container: ContainerRef<'_>, limit: Duration) -> Result<HealthRecord> {
        container::ask(
            "check the health of container",
            container,
            super::LIMIT,
            |client| client.check(container.id, limit),
        )
    }

    fn freeze(
        &self,
        pod: PodRef<'_>,
        containers: &[String],
        cancel: &Cancel,
    ) -> Result<Box<dyn Frozen>> {
        frozen::freeze(pod, containers, cancel)
    }

    fn restore(
        &self,
        plan: &ContainerPlan<'_>,
        images: &Path,
        criu: &Path,
        limit: Duration,
    ) -> Result<()> {
        match self.oci {
            None => container::restore(plan, images, criu, limit),
            Some(_) => Err(self.lacks(Ability::Restore)),
        }
    }

    fn stats(&self, container: ContainerRef<'_>) -> Result<runtime::cgroup::Stats> {
        let failed = cgroup_failed(container);
        let cgroup = Cgroup::open(container.cgroup).map_err(&failed)?;
        cgroup.stats().map_err(failed)
    }

    fn resolve_names(&self, pod: PodRef<'_>, plan: &NamesPlan<'_>, limit: Duration) -> Result<()> {
        names::begin(pod, plan, limit)
    }

    fn port(&self, pod: PodRef<'_>, port: u16) -> Result<Pending<OwnedFd>> {
        pod::port(pod, port)
    }

    fn counted_in<'a>(&self, container: ContainerRef<'a>) -> Option<&'a str> {
        Some(container.cgroup)
    }
}

fn cgroup_failed(container: ContainerRef<'_>) -> impl Fn(runtime::cgroup::Error) -> Error {
    let id = container.id.to_owned();
    move |source| Error::Cgroup {
        id: id.clone(),
        source,
    }
}
