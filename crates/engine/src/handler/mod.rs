//! What runs a pod: the verbs of a pod's life in terms of the domain. A runtime handler is the
//! built-in runtime behind the pod's supervisor ([`supervisor`]), or whatever else takes a pod, a
//! program of its own or a virtual machine included. The engine knows handlers by name and speaks to
//! nothing else of what runs a pod.
//!
//! # A pod's life
//! ```text
//! run_pod ─▶ (the engine connects its network) ─▶ connected
//!    create ─▶ start ─▶ exec, attach, signal, update, pause, stats … ─▶ stop ─▶ remove
//! stop_pod ─▶ (the engine takes the network back) ─▶ end_pod ─▶ remove_pod
//! ```
//! Every verb that ends something succeeds on what is gone, may be asked again after a failure or a
//! kill in the middle, and needs no space. One that makes something leaves nothing behind when it
//! fails, or leaves what `remove` and `remove_pod` find.
//!
//! # Where a pod is
//! The engine may die at any instant and holds no state of pods. A handler finds a pod again by what
//! [`PodRef`] says: its id, its directory on tmpfs, which is the handler's to keep records in, and the
//! cgroup that was asked for. Process ids, namespaces and cgroups are facts that a handler may report
//! ([`Sandbox`], [`State`]), never assumptions of who calls it.
//!
//! # Limits and cancelling
//! A verb that blocks waits for nothing that a container can hold up, and answers within the `limit`
//! that it is given; its silence is an error of kind [`crate::Kind::Unavailable`] and changes nothing. A
//! verb that lasts as long as a container or a command does returns a [`Pending`]: dropping it gives up
//! waiting, and what else that means stands at the verb.
//!
//! # Streams
//! Every stream is a descriptor on this side: a flow of bytes with a window (what a pipe, a socket or a
//! terminal holds) and an end. To hand the very descriptor to the process is a shortcut of handlers that
//! can; any other copies between it and its own transport, no further ahead than the window.

mod abilities;
mod attach;
mod deadline;
mod event;
mod exec;
mod frozen;
mod left;
mod pending;
mod plan;
mod port;
mod shim;
mod state;
pub(crate) mod supervisor;
mod table;

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

pub use abilities::{Abilities, Ability, Overhead, RootForm};
pub use attach::{AttachEvent, AttachInput, AttachOptions, AttachOutput, Attachment, Stream};
pub use attach::{HangUp, StreamInput, StreamOutput};
pub use event::{Adopted, Event, Events, Happened, News};
pub use exec::{Command, ExecExit, ExecSession, ExecStdio, Running, Session};
pub use frozen::Frozen;
pub(crate) use left::{release, release_all};
pub use pending::{Pending, wait};
pub use plan::{ContainerPlan, ContainerRef, Log, NamesPlan, Netns, OnExit, PodPlan, PodRef};
pub use state::{Cause, End, LogLoss, Namespaces, Sandbox, State, Status};
pub(crate) use table::Handlers;
pub use table::RuntimeHandler;

use ::supervisor::HealthRecord;

use crate::checkpoint::Cancel;
use crate::error::{Error, Result};

/// How long a verb may take that waits for nothing but work: kubelet gives up after two minutes.
pub const LIMIT: Duration = ::supervisor::ANSWER_LIMIT;

/// Can the handler do that?
///
/// # Errors
/// [`Error::Lacking`].
pub(crate) fn needs(handler: &dyn Handler, ability: Ability) -> Result<()> {
    match handler.abilities().has(ability) {
        true => Ok(()),
        false => Err(handler.lacks(ability)),
    }
}

/// What runs pods. See the module's words for the order of the verbs and for what all of them promise.
pub trait Handler: Send + Sync + Debug {
    /// The name by which RuntimeClasses and records know it.
    fn name(&self) -> &str;

    /// What it can do. What it lacks is refused before anything is made, and is never asked of it.
    fn abilities(&self) -> &Abilities;

    /// What one of its pods takes beside its containers.
    fn overhead(&self) -> Overhead {
        Overhead::default()
    }

    /// A hint that pods are to come: what can be warmed for them is. Never needed, and cheap when
    /// there is nothing to do.
    ///
    /// # Errors
    /// What would keep the next pod from being made.
    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Can the sandbox have a network namespace that was made for it ([`PodPlan::netns`])? Its network is connected
    /// while it comes up then.
    fn takes_netns(&self) -> bool {
        false
    }

    /// Makes the sandbox of a pod whose directory exists. Its network is connected afterwards, unless it takes
    /// its namespace.
    ///
    /// # Errors
    /// A part of the pod that cannot be made.
    fn run_pod(&self, plan: &PodPlan<'_>, limit: Duration) -> Result<Sandbox>;

    /// The pod's network stands: what must see its interfaces begins now. Called once, before the first
    /// container.
    ///
    /// # Errors
    /// A sandbox that cannot take its network.
    fn connected(&self, pod: PodRef<'_>, limit: Duration) -> Result<()> {
        let _ = (pod, limit);
        Ok(())
    }

    /// The pod's sandbox while it lives. Reads records only: it is asked for every list.
    ///
    /// # Errors
    /// What cannot be looked at now; a record that is damaged is a sandbox that does not live.
    fn sandbox(&self, pod: PodRef<'_>) -> Result<Option<Sandbox>>;

    /// Can everything that it has recorded of the pod's containers be read? A pod of which it cannot
    /// is not ready.
    ///
    /// # Errors
    /// What cannot be looked at now.
    fn is_intact(&self, pod: PodRef<'_>) -> Result<bool> {
        let _ = pod;
        Ok(true)
    }

    /// Takes a pod over from its record alone, when an engine has started: how it and its containers
    /// are now, and what happened meanwhile.
    ///
    /// # Errors
    /// What cannot be looked at now.
    fn adopt(&self, pod: PodRef<'_>, containers: &[ContainerRef<'_>]) -> Result<Adopted>;

    /// What happens in the pod from now on, or after the event of that number. `None`: nobody tells, and the
    /// records alone say how it is. Never waits for the pod.
    ///
    /// # Errors
    /// What cannot be heard now: it may be asked again.
    fn events(&self, pod: PodRef<'_>, after: Option<u64>) -> Result<Option<Box<dyn Events>>> {
        let _ = (pod, after);
        Ok(None)
    }

    /// Completes once the sandbox is gone, however it went; at once if it is. Dropping it harms nothing.
    ///
    /// # Errors
    /// A sandbox that cannot be watched.
    fn gone(&self, pod: PodRef<'_>) -> Result<Pending<()>>;

    /// Ends every container of the pod. The sandbox stays, if it lives, for its network to be taken
    /// from it: it is the answer. `None`: it is gone, and no process of the pod is left.
    ///
    /// # Errors
    /// A container that does not end, or a sandbox that does not answer.
    fn stop_pod(
        &self,
        pod: PodRef<'_>,
        containers: &[ContainerRef<'_>],
        limit: Duration,
    ) -> Result<Option<Sandbox>>;

    /// Ends the sandbox. How its containers ended can still be read.
    ///
    /// # Errors
    /// A sandbox that does not end.
    fn end_pod(
        &self,
        pod: PodRef<'_>,
        containers: &[ContainerRef<'_>],
        limit: Duration,
    ) -> Result<()>;

    /// Takes away what it keeps of an ended pod outside of the pod's directory. The containers are
    /// removed by then.
    ///
    /// # Errors
    /// What cannot be taken away.
    fn remove_pod(&self, pod: PodRef<'_>, limit: Duration) -> Result<()>;

    /// Makes a container up to the moment before its program is executed.
    ///
    /// # Errors
    /// A plan that cannot be accepted, an id that is taken, or a step that failed; nothing is left then.
    fn create(&self, plan: &ContainerPlan<'_>, limit: Duration) -> Result<()>;

    /// How a container is now; `None` if the handler knows of none. `sandbox` is what
    /// [`Handler::sandbox`] says of its pod at this moment. Reads records only, as that.
    ///
    /// # Errors
    /// What cannot be looked at now.
    fn state(
        &self,
        container: ContainerRef<'_>,
        sandbox: Option<&Sandbox>,
    ) -> Result<Option<State>>;

    /// Lets a created container's program run. The outer [`Pending`] completes when the start is handed
    /// over and goes on whoever waits for it, the inner one when the program is executed.
    ///
    /// # Errors
    /// A program that cannot be executed ([`Error::Start`]; the container has ended then), or a
    /// container that is not created.
    fn start(&self, container: ContainerRef<'_>) -> Result<Pending<Pending<()>>>;

    /// As [`Handler::start`], for a caller whose thread may wait.
    ///
    /// # Errors
    /// As [`Handler::start`].
    fn start_and_wait(&self, container: ContainerRef<'_>) -> Result<()> {
        let start = self.start(container)?;
        wait(async { start.await?.await })
    }

    /// Ends a container: `signal` now, SIGKILL after `grace`. A later stop with a shorter grace shortens
    /// the wait of all. The outer [`Pending`] completes when the stop is handed over and goes on whoever
    /// waits for it, the inner one when the container has ended. One that has ended, or that the handler
    /// does not know, is fine.
    ///
    /// # Errors
    /// A container that does not end.
    fn stop(
        &self,
        container: ContainerRef<'_>,
        signal: i32,
        grace: Duration,
    ) -> Result<Pending<Pending<()>>>;

    /// As [`Handler::stop`], for a caller whose thread may wait.
    ///
    /// # Errors
    /// As [`Handler::stop`].
    fn stop_and_wait(
        &self,
        container: ContainerRef<'_>,
        signal: i32,
        grace: Duration,
    ) -> Result<()> {
        let stop = self.stop(container, signal, grace)?;
        wait(async { stop.await?.await })
    }

    /// Sends a signal to the container's first process, or to all of its processes.
    ///
    /// # Errors
    /// A container that does not run, or a signal that does not exist.
    fn signal(
        &self,
        container: ContainerRef<'_>,
        signal: i32,
        all: bool,
        limit: Duration,
    ) -> Result<()>;

    /// Kills a container if it lives and forgets it; its log stays. One that the handler does not know
    /// is fine, also in a pod whose sandbox is gone; no process of it is left then either.
    ///
    /// # Errors
    /// A container that cannot be removed.
    fn remove(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()>;

    /// Runs a command in a running container with the caller's descriptors as its stdin, stdout and
    /// stderr. The [`Pending`] completes when the program is executed; dropping it or what it gives kills
    /// the command.
    ///
    /// # Errors
    /// A command that cannot be executed ([`Error::Exec`]), or a container that does not run.
    fn exec(
        &self,
        container: ContainerRef<'_>,
        command: Command,
        streams: [OwnedFd; 3],
    ) -> Result<Pending<Running>>;

    /// As [`Handler::exec`], also with a terminal, for a caller whose thread may wait; returns when the
    /// program is executed.
    ///
    /// # Errors
    /// As [`Handler::exec`].
    fn exec_session(
        &self,
        container: ContainerRef<'_>,
        command: Command,
        stdio: ExecStdio,
        limit: Duration,
    ) -> Result<ExecSession>;

    /// Joins a container's streams from this moment on.
    ///
    /// # Errors
    /// A container that has ended.
    fn attach(
        &self,
        container: ContainerRef<'_>,
        options: AttachOptions,
        limit: Duration,
    ) -> Result<Attachment>;

    /// Opens the container's log file anew, after it was renamed away; the new one exists on return.
    ///
    /// # Errors
    /// A container that does not run or has no log.
    fn reopen_log(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()>;

    /// Changes a container's limits; what is absent stays.
    ///
    /// # Errors
    /// What cannot be set; what stands before it holds then.
    fn update(
        &self,
        container: ContainerRef<'_>,
        resources: &runtime::spec::Resources,
        limit: Duration,
    ) -> Result<()>;

    /// Freezes a running container.
    ///
    /// # Errors
    /// A container that does not run.
    fn pause(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()>;

    /// Thaws a paused container.
    ///
    /// # Errors
    /// A container that is not paused.
    fn resume(&self, container: ContainerRef<'_>, limit: Duration) -> Result<()>;

    /// What a container that has processes uses now.
    ///
    /// # Errors
    /// What cannot be read now.
    fn stats(&self, container: ContainerRef<'_>) -> Result<runtime::cgroup::Stats>;

    /// The cgroup of this node that counts what [`Handler::stats`] says, if one does: it may be read without
    /// asking.
    fn counted_in<'a>(&self, container: ContainerRef<'a>) -> Option<&'a str> {
        let _ = container;
        None
    }

    /// Checks a container's health now, which may take `limit`, or waits for the check that runs: see
    /// [`Ability::HealthChecks`].
    ///
    /// # Errors
    /// [`Error::Lacking`] where the handler cannot; a container that does not run or ends meanwhile.
    fn check_health(&self, container: ContainerRef<'_>, limit: Duration) -> Result<HealthRecord> {
        let _ = (container, limit);
        Err(self.lacks(Ability::HealthChecks))
    }

    /// Freezes running containers of a pod, to be written down as they are at one moment: see
    /// [`Ability::Checkpoint`]. Their state is running all the while. They go on when the time of `cancel` is over
    /// or it is cancelled.
    ///
    /// # Errors
    /// [`Error::Lacking`] where the handler cannot; a container that does not run, or whose processes do not stop.
    /// None is frozen then.
    fn freeze(
        &self,
        pod: PodRef<'_>,
        containers: &[String],
        cancel: &Cancel,
    ) -> Result<Box<dyn Frozen>> {
        let _ = (pod, containers, cancel);
        Err(self.lacks(Ability::Checkpoint))
    }

    /// Makes a container that goes on where another was: see [`Ability::Restore`]. Its root file system has the
    /// files of that one already; `images` are criu's, which are only read. It is created then, and its start lets
    /// it go on.
    ///
    /// # Errors
    /// [`Error::Lacking`] where the handler cannot; else as [`Handler::create`], and images that cannot be used.
    /// Nothing is left then.
    fn restore(
        &self,
        plan: &ContainerPlan<'_>,
        images: &Path,
        criu: &Path,
        limit: Duration,
    ) -> Result<()> {
        let _ = (plan, images, criu, limit);
        Err(self.lacks(Ability::Restore))
    }

    /// Has names answered in the pod's network namespace from now on, by a process that ends with the pod. One that
    /// does so already is fine.
    ///
    /// # Errors
    /// A handler that cannot, or a process that cannot be begun.
    fn resolve_names(&self, pod: PodRef<'_>, plan: &NamesPlan<'_>, limit: Duration) -> Result<()> {
        let _ = (pod, plan, limit);
        Err(Error::Lacking {
            handler: self.name().to_owned(),
            what: "names of containers on a network: make it with --disable-dns".into(),
        })
    }

    /// A flow of bytes to and from a TCP port in the pod, at its loopback address: see [`Ability::Ports`]. The
    /// descriptor's calls do not wait; a half of the flow that has ended is seen as on a socket. The
    /// [`Pending`] completes when somebody has accepted; dropping it gives up.
    ///
    /// # Errors
    /// [`Error::Lacking`] where the handler cannot, a sandbox that does not live, or a port where nobody listens.
    fn port(&self, pod: PodRef<'_>, port: u16) -> Result<Pending<OwnedFd>> {
        let _ = (pod, port);
        Err(self.lacks(Ability::Ports))
    }

    /// The refusal of what it cannot do.
    fn lacks(&self, ability: Ability) -> Error {
        Error::Lacking {
            handler: self.name().to_owned(),
            what: ability.words().into(),
        }
    }
}
