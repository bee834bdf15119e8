//! StartContainer, StopContainer, RemoveContainer, ReopenContainerLog: one step of a
//! container's life each. Stop and remove succeed on what is gone.

use std::time::Duration;

use super::exec::start_error;
use super::{Container, ContainerState};
use crate::disk::Lock;
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Lets a created container's process run.
    ///
    /// # Errors
    /// An unknown container, one that is not in state created, or a program that cannot be
    /// executed; the container is exited then, with the reason.
    pub fn start_container(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        if container.state != ContainerState::Created {
            return Err(state_error("start", &container));
        }
        let mut supervisor = self.supervisor(&container.pod_id)?;
        supervisor
            .start(&container.id)
            .map_err(|source| match source {
                supervisor::Error::Start { message, exit_code } => {
                    start_error(&container.id, message, exit_code)
                }
                source => Error::Supervisor {
                    verb: "start container",
                    id: container.id.clone(),
                    source,
                },
            })
    }

    /// Asks the container to end and kills it after `grace`. A container that has ended or does
    /// not exist is fine.
    ///
    /// # Errors
    /// An ambiguous id, or a supervisor that does not answer.
    pub fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let Some(container) = self.container_if_any(id)? else {
            return Ok(());
        };
        if matches!(
            container.state,
            ContainerState::Exited { .. } | ContainerState::Unknown
        ) {
            return Ok(());
        }
        let mut supervisor = self.supervisor(&container.pod_id)?;
        match supervisor.stop(&container.id, container.stop_signal, grace) {
            Err(error) if !error.is_not_found() => Err(Error::Supervisor {
                verb: "stop container",
                id: container.id,
                source: error,
            }),
            _ => Ok(()),
        }
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
        let _pod_stays = Lock::shared(&self.layout().pod(&container.pod_id).join("lock"))?;
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
