//! StartContainer, StopContainer, ReopenContainerLog: one step of a container's life each. Stop
//! succeeds on what is gone.

use std::fmt::Debug;
use std::time::Duration;

use super::{Container, ContainerState};
use crate::calls::{Place, Purpose};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{Ability, ContainerRef, Handler, LIMIT, Pending, needs};

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
        self.plugins_let_start(&container)?;
        self.with_handler(&container, |handler, at| handler.start_and_wait(at))?;
        self.plugins_saw_start(&container);
        Ok(())
    }

    /// As [`Engine::start_container`], for a caller who does not wait on a thread. `None`: it runs.
    ///
    /// # Errors
    /// As [`Engine::start_container`], and [`Error::Busy`].
    pub fn start_call(&self, id: &str) -> Result<Option<LifeCall>> {
        let Some(container) = self.startable(id)? else {
            return Ok(None);
        };
        let place = self.calls().take(&container.pod_id, Purpose::Life)?;
        let call = self.with_handler(&container, |handler, at| handler.start(at))?;
        let call = match self.plugins_see_lives() {
            true => start_seen(self.clone(), container, call),
            false => call,
        };
        Ok(Some(LifeCall { call, place }))
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
        let signal = container.stop_signal;
        let dir = self.layout().pod(&container.pod_id);
        let handler = self.handlers().to_end(&container.handler);
        handler.stop_and_wait(container.at(&dir), signal, grace)?;
        self.plugins_saw_stop(&container);
        Ok(())
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
        let place = self.calls().take(&container.pod_id, Purpose::Life)?;
        let signal = container.stop_signal;
        let dir = self.layout().pod(&container.pod_id);
        let handler = self.handlers().to_end(&container.handler);
        let call = handler.stop(container.at(&dir), signal, grace)?;
        let call = match self.plugins_see_lives() {
            true => stop_seen(self.clone(), container, call),
            false => call,
        };
        Ok(Some(LifeCall { call, place }))
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

    /// Asks the container's handler.
    pub(crate) fn with_handler<T>(
        &self,
        container: &Container,
        ask: impl FnOnce(&dyn Handler, ContainerRef<'_>) -> Result<T>,
    ) -> Result<T> {
        let dir = self.layout().pod(&container.pod_id);
        let handler = self.handlers().of(&container.handler)?;
        ask(handler, container.at(&dir))
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// An unknown container or one that does not run.
    pub fn signal_container(&self, id: &str, signal: i32) -> Result<()> {
        let container = self.running_container("signal", id)?;
        self.with_handler(&container, |handler, at| {
            handler.signal(at, signal, false, LIMIT)
        })
    }

    /// Opens the log file anew, after it was renamed away.
    ///
    /// # Errors
    /// An unknown container or one that does not run; no file is made then.
    pub fn reopen_log(&self, id: &str) -> Result<()> {
        let container = self.running_container("reopen the log of", id)?;
        self.with_handler(&container, |handler, at| handler.reopen_log(at, LIMIT))
    }

    /// Freezes a running container; one that is frozen is an error of its handler.
    ///
    /// # Errors
    /// An unknown container or one that does not run, or a handler that cannot.
    pub fn pause_container(&self, id: &str) -> Result<()> {
        let container = self.running_container("pause", id)?;
        self.with_handler(&container, |handler, at| {
            needs(handler, Ability::Pause)?;
            handler.pause(at, LIMIT)
        })
    }

    /// Thaws a frozen container.
    ///
    /// # Errors
    /// As [`Engine::pause_container`]; one that is not frozen is an error, too.
    pub fn resume_container(&self, id: &str) -> Result<()> {
        let container = self.running_container("resume", id)?;
        self.with_handler(&container, |handler, at| {
            needs(handler, Ability::Pause)?;
            handler.resume(at, LIMIT)
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

/// A start of which plugins are told before and after. It goes on, whoever waits for it.
fn start_seen(
    engine: Engine,
    container: Container,
    call: Pending<Pending<()>>,
) -> Pending<Pending<()>> {
    Box::pin(async move {
        let (before, asked) = (engine.clone(), container.clone());
        aside(move || before.plugins_let_start(&asked)).await??;
        let answer = call.await?;
        Ok(going_on(async move {
            answer.await?;
            aside(move || engine.plugins_saw_start(&container)).await
        }))
    })
}

/// A stop of which plugins are told when the container has ended.
fn stop_seen(
    engine: Engine,
    container: Container,
    call: Pending<Pending<()>>,
) -> Pending<Pending<()>> {
    Box::pin(async move {
        let answer = call.await?;
        Ok(going_on(async move {
            answer.await?;
            aside(move || engine.plugins_saw_stop(&container)).await
        }))
    })
}

/// On a thread that may wait.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::io("ask", "plugins")(error.into()))
}

/// Not cut short by who leaves.
fn going_on(work: impl Future<Output = Result<()>> + Send + 'static) -> Pending<()> {
    let work = tokio::spawn(work);
    Box::pin(async move {
        let done = work.await;
        done.map_err(|error| Error::io("wait for", "plugins")(error.into()))?
    })
}

/// A start or stop that its container's handler is about to be asked for.
pub struct LifeCall {
    call: Pending<Pending<()>>,
    place: Place,
}

impl LifeCall {
    /// Hands the request over. It is carried out from then on, whoever waits for it.
    ///
    /// # Errors
    /// A sandbox that is gone, or takes nothing.
    pub async fn send(self) -> Result<LifeAnswer> {
        let answer = self.call.await?;
        Ok(LifeAnswer {
            answer,
            _place: self.place,
        })
    }
}

/// A start or stop that is under way.
pub struct LifeAnswer {
    answer: Pending<()>,
    _place: Place,
}

impl LifeAnswer {
    /// Waits until the container's program runs, or until it has ended. A container that is removed
    /// meanwhile has ended, too.
    ///
    /// # Errors
    /// A program that cannot be executed, or a sandbox that is gone or silent.
    pub async fn wait(self) -> Result<()> {
        self.answer.await
    }
}

impl Debug for LifeCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LifeCall").finish_non_exhaustive()
    }
}

impl Debug for LifeAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LifeAnswer").finish_non_exhaustive()
    }
}

pub(crate) fn state_error(verb: &'static str, container: &Container) -> Error {
    let state = match &container.state {
        ContainerState::Created => "created, not started".to_owned(),
        ContainerState::Running { .. } => "running".to_owned(),
        ContainerState::Exited { exit_code, .. } => format!("exited with code {exit_code}"),
        ContainerState::Unknown => {
            "without a supervisor, or in a state that only a newer floe knows".to_owned()
        }
    };
    Error::State {
        verb,
        what: "container",
        id: container.id.clone(),
        state,
    }
}
