//! StartContainer, StopContainer, RemoveContainer, ReopenContainerLog: one step of a
//! container's life each. Stop and remove succeed on what is gone.

use std::path::PathBuf;
use std::time::Duration;

use supervisor::protocol::{Request, Response};
use supervisor::{ANSWER_LIMIT, Call, Error as Failure};

use super::{Container, ContainerState};
use crate::ask::{Asked, Place, Purpose, ask};
use crate::disk::Lock;
use crate::engine::Engine;
use crate::error::{Error, Result};

const START: &str = "start container";
const STOP: &str = "stop container";

impl Engine {
    /// Lets a created container's process run; one that runs is fine, as the first try of a caller
    /// who asks again may have started it.
    ///
    /// # Errors
    /// An unknown container, one that has ended, or a program that cannot be executed; the container
    /// is exited then, with the reason.
    pub fn start_container(&self, id: &str) -> Result<()> {
        let Some(container) = self.startable(id)? else {
            return Ok(());
        };
        let mut supervisor = self.supervisor(&container.pod_id)?;
        supervisor
            .start(&container.id)
            .map_err(|source| life_failed(START, container.id, source))
    }

    /// As [`Engine::start_container`], for a caller who does not wait on a thread. `None`: it runs.
    ///
    /// # Errors
    /// As [`Engine::start_container`], and [`Error::Busy`].
    pub fn start_call(&self, id: &str) -> Result<Option<LifeCall>> {
        let Some(container) = self.startable(id)? else {
            return Ok(None);
        };
        let request = Request::Start {
            id: container.id.clone(),
        };
        self.life_call(START, container, request, ANSWER_LIMIT)
            .map(Some)
    }

    /// Asks the container to end and kills it after `grace`. A container that has ended or does
    /// not exist is fine.
    ///
    /// # Errors
    /// An ambiguous id, or a supervisor that does not answer.
    pub fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let Some(container) = self.stoppable(id)? else {
            return Ok(());
        };
        if container.state == ContainerState::Unknown {
            return self.stop_lost(&container, grace);
        }
        let mut supervisor = self.supervisor(&container.pod_id)?;
        match supervisor.stop(&container.id, container.stop_signal, grace) {
            Err(error) if !error.is_not_found() => Err(life_failed(STOP, container.id, error)),
            _ => Ok(()),
        }
    }

    /// As [`Engine::stop_container`], for a caller who does not wait on a thread. `None`: there is
    /// nothing to stop.
    ///
    /// # Errors
    /// As [`Engine::stop_container`], and [`Error::Busy`].
    pub fn stop_call(&self, id: &str, grace: Duration) -> Result<Option<LifeCall>> {
        let Some(container) = self.stoppable(id)? else {
            return Ok(None);
        };
        // Nobody else can wait for it: it has no supervisor.
        if container.state == ContainerState::Unknown {
            return self.stop_lost(&container, grace).map(|()| None);
        }
        let request = Request::Stop {
            id: container.id.clone(),
            signal: container.stop_signal,
            timeout: grace,
        };
        let limit = grace.saturating_add(ANSWER_LIMIT);
        self.life_call(STOP, container, request, limit).map(Some)
    }

    /// The container if it is to be started; `None` if it runs.
    fn startable(&self, id: &str) -> Result<Option<Container>> {
        let container = self.container(id)?;
        match container.state {
            ContainerState::Created => Ok(Some(container)),
            ContainerState::Running { .. } => Ok(None),
            _ => Err(state_error("start", &container)),
        }
    }

    /// The container if it is there and has not ended.
    fn stoppable(&self, id: &str) -> Result<Option<Container>> {
        let ended =
            |container: &Container| matches!(container.state, ContainerState::Exited { .. });
        Ok(self.container_if_any(id)?.filter(|one| !ended(one)))
    }

    fn life_call(
        &self,
        verb: &'static str,
        container: Container,
        request: Request,
        limit: Duration,
    ) -> Result<LifeCall> {
        Ok(LifeCall {
            verb,
            place: self.calls().take(&container.pod_id, Purpose::Life)?,
            dir: self.layout().pod(&container.pod_id),
            id: container.id,
            request,
            limit,
        })
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// An unknown container or one that does not run.
    pub fn signal_container(&self, id: &str, signal: i32) -> Result<()> {
        let container = self.running_container("signal", id)?;
        self.supervisor(&container.pod_id)?
            .signal(&container.id, signal, false)
            .map_err(|source| Error::Supervisor {
                verb: "signal container",
                id: container.id,
                source,
            })
    }

    /// Kills the container if it runs and removes all of it but its log. A container that does
    /// not exist is fine.
    ///
    /// # Errors
    /// An ambiguous id, or a step that failed; it may be asked again.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        let Some(container) = self.container_if_any(id)? else {
            return Ok(());
        };
        let lock = self.layout().pod(&container.pod_id).join("lock");
        let Some(_pod_stays) = Lock::shared_if_there(&lock)? else {
            // It went with its pod meanwhile.
            return Ok(());
        };
        self.discard_container(&container.pod_id, &container.id)
    }

    /// Opens the log file anew, after it was renamed away.
    ///
    /// # Errors
    /// An unknown container or one that does not run; no file is made then.
    pub fn reopen_log(&self, id: &str) -> Result<()> {
        let container = self.running_container("reopen the log of", id)?;
        self.supervisor(&container.pod_id)?
            .reopen_log(&container.id)
            .map_err(|source| Error::Supervisor {
                verb: "reopen the log of container",
                id: container.id,
                source,
            })
    }

    pub(crate) fn running_container(&self, verb: &'static str, id: &str) -> Result<Container> {
        let container = self.container(id)?;
        match container.state {
            ContainerState::Running { .. } => Ok(container),
            _ => Err(state_error(verb, &container)),
        }
    }
}

/// A start or stop that its container's supervisor is about to be asked for.
#[derive(Debug)]
pub struct LifeCall {
    verb: &'static str,
    id: String,
    dir: PathBuf,
    request: Request,
    limit: Duration,
    place: Place,
}

impl LifeCall {
    /// Hands the request over. It is carried out from then on, whoever waits for it.
    ///
    /// # Errors
    /// A supervisor that is gone, or takes nothing.
    pub async fn send(self) -> Result<LifeAnswer> {
        match ask(&self.dir, &self.request, Vec::new(), self.place).await {
            Ok(asked) => Ok(LifeAnswer {
                verb: self.verb,
                id: self.id,
                limit: self.limit,
                asked,
            }),
            Err(source) => Err(life_failed(self.verb, self.id, source)),
        }
    }
}

/// A start or stop that is under way.
#[derive(Debug)]
pub struct LifeAnswer {
    verb: &'static str,
    id: String,
    limit: Duration,
    asked: Asked,
}

impl LifeAnswer {
    /// Waits until the container's program runs, or until it has ended. A container that is removed
    /// meanwhile has ended, too.
    ///
    /// # Errors
    /// A program that cannot be executed, or a supervisor that is gone or silent.
    pub async fn wait(mut self) -> Result<()> {
        match self.asked.answer(Some(self.limit)).await {
            Ok(Response::Done | Response::State(_)) => Ok(()),
            Ok(other) => Err(life_failed(self.verb, self.id, Call::unexpected(&other))),
            Err(error) if self.verb == STOP && error.is_not_found() => Ok(()),
            Err(error) => Err(life_failed(self.verb, self.id, error)),
        }
    }
}

fn life_failed(verb: &'static str, id: String, source: Failure) -> Error {
    match source {
        Failure::Start { message, exit_code } => Error::Start {
            id,
            message,
            exit_code: u8::try_from(exit_code).unwrap_or(u8::MAX),
        },
        source => Error::Supervisor { verb, id, source },
    }
}

pub(super) fn state_error(verb: &'static str, container: &Container) -> Error {
    let state = match &container.state {
        ContainerState::Created => "created, not started".to_owned(),
        ContainerState::Running { .. } => "running".to_owned(),
        ContainerState::Exited { exit_code, .. } => format!("exited with code {exit_code}"),
        ContainerState::Unknown => "without a supervisor".to_owned(),
    };
    Error::State {
        verb,
        what: "container",
        id: container.id.clone(),
        state,
    }
}
