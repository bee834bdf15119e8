//! A container's life, asked of its pod's supervisor, and its state, read from that one's record.

use std::path::Path;
use std::time::Duration;

use supervisor::protocol::{Request, Response};
use supervisor::{
    ANSWER_LIMIT, Call, Client, ContainerState, CreateContainer, Error as Failure, LogTarget,
    OciProgram, RestoreContainer,
};

use super::super::{
    Adopted, Cause, ContainerPlan, ContainerRef, Event, Happened, LIMIT, LogLoss, Pending, Sandbox,
    State, Status,
};
use super::ask::{Asked, ask as begin};
use super::orphaned::{self, Ended};
use super::pod::connect;
use super::root::Root;
use crate::disk;
use crate::error::{Error, Result};
use crate::pod::stop::remove_cgroup;

const START: &str = "start container";
const STOP: &str = "stop container";

/// Has the process at its gate made.
pub(super) fn create(
    plan: &ContainerPlan<'_>,
    program: Option<OciProgram>,
    limit: Duration,
) -> Result<()> {
    if program.is_some() && plan.sandbox.namespaces.users.is_some() {
        disk::let_pass(plan.container.dir)?;
    }
    let root = Root::hand_over(plan.root, plan.sandbox.takes_mounts, plan.spec)?;
    let request = asked(plan, &root, program);
    let failed = |source| failed("create container", plan.container.id, source);
    if request.program.is_some()
        && let Some(supervisor) = super::pod::live(plan.container.pod)?
    {
        // One of before would pass over it, and make the container by itself.
        supervisor.can("create.program").map_err(failed)?;
    }
    ask("create container", plan.container, limit, |client| {
        client.create_on(&request, root.mount()).map(|_created| ())
    })
}

/// What a supervisor is told of a container.
fn asked(plan: &ContainerPlan<'_>, root: &Root, program: Option<OciProgram>) -> CreateContainer {
    CreateContainer {
        id: plan.container.id.to_owned(),
        bundle: plan.container.dir.to_owned(),
        rootfs: root.source.clone(),
        log: plan.log.clone().map(|log| LogTarget {
            path: log.path,
            beneath: Some(log.beneath),
            max_size: log.max_size,
            limit: log.limit,
            reserve: log.reserve,
        }),
        terminal: plan.terminal,
        stdin: plan.stdin,
        stdin_once: plan.stdin_once,
        program,
        on_exit: plan.on_exit.clone().map(Box::new),
        run_limit: plan.run_limit,
        check: plan.check.clone().map(Box::new),
    }
}

/// Has the process made from criu's images, before its next step.
pub(super) fn restore(
    plan: &ContainerPlan<'_>,
    images: &Path,
    criu: &Path,
    limit: Duration,
) -> Result<()> {
    let root = Root::hand_over(plan.root, plan.sandbox.takes_mounts, plan.spec)?;
    let request = RestoreContainer {
        container: asked(plan, &root, None),
        images: images.to_owned(),
        work: plan.container.dir.join("restore"),
        criu: criu.to_owned(),
        limit,
    };
    ask("restore container", plan.container, LIMIT, |client| {
        client.restore(&request, root.mount()).map(|_created| ())
    })
}

/// Asks the supervisor one thing that waits for nothing but work.
pub(super) fn ask<T>(
    verb: &'static str,
    container: ContainerRef<'_>,
    limit: Duration,
    call: impl FnOnce(&mut Client) -> Result<T, Failure>,
) -> Result<T> {
    let mut client = connect(container.pod, limit)?;
    call(&mut client).map_err(|source| Error::Supervisor {
        verb,
        id: container.id.to_owned(),
        source,
    })
}

pub(super) fn start(container: ContainerRef<'_>) -> Pending<Pending<()>> {
    let (id, dir) = (container.id.to_owned(), container.pod.dir.to_owned());
    Box::pin(async move {
        let request = Request::Start { id: id.clone() };
        let asked = begin(&dir, &request, Vec::new()).await;
        let asked = asked.map_err(|source| failed(START, &id, source))?;
        Ok(answer(START, id, asked, ANSWER_LIMIT))
    })
}

pub(super) fn start_and_wait(container: ContainerRef<'_>) -> Result<()> {
    connect(container.pod, ANSWER_LIMIT)?
        .start(container.id)
        .map_err(|source| failed(START, container.id, source))
}

pub(in crate::handler) fn stop(
    container: ContainerRef<'_>,
    signal: i32,
    grace: Duration,
) -> Pending<Pending<()>> {
    let (id, dir) = (container.id.to_owned(), container.pod.dir.to_owned());
    let cgroup = container.cgroup.to_owned();
    Box::pin(async move {
        let request = Request::Stop {
            id: id.clone(),
            signal,
            timeout: grace,
        };
        match begin(&dir, &request, Vec::new()).await {
            Ok(asked) => {
                let limit = grace.saturating_add(ANSWER_LIMIT);
                Ok(answer(STOP, id, asked, limit))
            }
            Err(error) if error.is_gone() => {
                let stop = move || orphaned::stop(&id, &cgroup, signal, grace);
                let stop = tokio::task::spawn_blocking(stop);
                Ok(Box::pin(async move {
                    match stop.await {
                        Ok(stopped) => stopped,
                        Err(error) => Err(Error::io("wait for", "a stop")(error.into())),
                    }
                }) as Pending<()>)
            }
            Err(error) => Err(failed(STOP, &id, error)),
        }
    })
}

pub(super) fn stop_and_wait(
    container: ContainerRef<'_>,
    signal: i32,
    grace: Duration,
) -> Result<()> {
    let stopped = Client::connect(container.pod.dir)
        .and_then(|mut client| client.stop(container.id, signal, grace));
    match stopped {
        Err(error) if error.is_gone() => {
            orphaned::stop(container.id, container.cgroup, signal, grace)
        }
        Err(error) if !error.is_not_found() => Err(failed(STOP, container.id, error)),
        _ => Ok(()),
    }
}

/// Waits until the container's program runs, or until it has ended. A container that is removed
/// meanwhile has ended, too.
fn answer(verb: &'static str, id: String, mut asked: Asked, limit: Duration) -> Pending<()> {
    Box::pin(async move {
        match asked.answer(Some(limit)).await {
            Ok(Response::Done | Response::State(_)) => Ok(()),
            Ok(other) => Err(failed(verb, &id, Call::unexpected(&other))),
            Err(error) if verb == STOP && error.is_not_found() => Ok(()),
            Err(error) => Err(failed(verb, &id, error)),
        }
    })
}

/// No process and no cgroup of the container is left.
pub(super) fn remove(container: ContainerRef<'_>, limit: Duration) -> Result<()> {
    if super::pod::live(container.pod)?.is_some() {
        match connect(container.pod, limit)?.delete(container.id, true) {
            Err(error) if !error.is_not_found() => {
                return Err(failed("remove container", container.id, error));
            }
            Ok(()) => return Ok(()),
            // It knows nothing of it, as one that was started anew would not.
            Err(_) => {}
        }
    }
    remove_cgroup(container.id, container.cgroup)?;
    supervisor::clean_container(container.dir)
        .map_err(|source| failed("remove container", container.id, source))
}

fn failed(verb: &'static str, id: &str, source: Failure) -> Error {
    let id = id.to_owned();
    match source {
        Failure::Start { message, exit_code } => Error::Start {
            id,
            message,
            exit_code: u8::try_from(exit_code).unwrap_or(u8::MAX),
        },
        source => Error::Supervisor { verb, id, source },
    }
}

/// The container's state. `supervised`: does the pod's supervisor live?
pub(super) fn state(container: ContainerRef<'_>, supervised: bool) -> Result<Option<State>> {
    let recorded = match ContainerState::read(container.dir) {
        Ok(recorded) => recorded,
        Err(error @ Failure::Record { .. }) => {
            disk::warn_once(&container.dir.join("state.json"), &error);
            None
        }
        Err(source) => {
            return Err(Error::Supervisor {
                verb: "read the state of container",
                id: container.id.to_owned(),
                source,
            });
        }
    };
    let recorded = recorded.map(seen);
    if supervised {
        return Ok(recorded);
    }
    let restarts = recorded.as_ref().map_or(0, |state| state.restarts);
    let (started_at, log_loss) = match recorded {
        Some(state) if matches!(state.status, Status::Exited { .. }) => return Ok(Some(state)),
        Some(state) => (state.status.started_at(), state.log_loss),
        None => Default::default(),
    };
    let status = Ended::find(container).map_or(Status::Lost, |ended| ended.status(started_at));
    Ok(Some(State {
        status,
        pid: None,
        log_loss,
        restarts,
    }))
}

/// The supervisor's record as the engine's state.
pub(super) fn seen(recorded: ContainerState) -> State {
    use supervisor::Status as S;
    let status = match recorded.status {
        S::Created => Status::Created,
        S::Running { started_at } => Status::Running { started_at },
        S::Paused { started_at } => Status::Paused { started_at },
        S::Exited {
            started_at,
            finished_at,
            exit_code,
            oom_killed,
            message,
        } => Status::Exited {
            started_at,
            finished_at,
            exit_code,
            oom_killed,
            cause: message.map_or(Cause::Program, Cause::NotExecuted),
        },
        S::Other(name) => Status::Other(name),
    };
    let log_loss = recorded.log_loss.map(|loss| LogLoss {
        lines: loss.lines,
        bytes: loss.bytes,
        why: loss.why,
    });
    State {
        status,
        pid: recorded.pid,
        log_loss: log_loss.unwrap_or_default(),
        restarts: recorded.restarts,
    }
}

/// What the records of all containers tell.
pub(super) fn adopt(sandbox: Option<Sandbox>, containers: &[ContainerRef<'_>]) -> Result<Adopted> {
    let mut adopted = Adopted::default();
    for container in containers {
        if let Some(state) = state(*container, sandbox.is_some())? {
            adopted.events.extend(events(container.id, &state.status));
            adopted.containers.push((container.id.to_owned(), state));
        }
    }
    adopted.events.sort_by_key(|event| event.at);
    adopted.sandbox = sandbox;
    Ok(adopted)
}

fn events(id: &str, status: &Status) -> Vec<Event> {
    let event = |at, happened| Event {
        number: None,
        at,
        container: Some(id.to_owned()),
        happened,
    };
    let started = status.started_at().map(|at| event(at, Happened::Started));
    let mut events: Vec<Event> = started.into_iter().collect();
    if let Status::Exited {
        finished_at,
        exit_code,
        oom_killed,
        ..
    } = status
    {
        if *oom_killed {
            events.push(event(*finished_at, Happened::OutOfMemory));
        }
        let code = *exit_code;
        events.push(event(*finished_at, Happened::Exited { code }));
    }
    events
}
