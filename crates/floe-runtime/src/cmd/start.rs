//! `start`: open the gate of a created container.

use runtime::hooks::{self, HookState};

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::notify::{Listener, Notify};
use crate::state::{self, State, Status};

/// Options of `start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container id
    id: String,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let state = State::load(global, &args.id)?;
    match state.status(global) {
        Status::Created => {
            let notify = listen(global, &state)?;
            start(global, &state)?;
            notify.map_or(Ok(()), |notify| notify.wait(state.init_process_pid))?;
            Ok(0)
        }
        Status::Creating => Err(Failure::new(
            "cannot start a container that is being created",
        )),
        Status::Stopped => Err(Failure::new("cannot start a container that has stopped")),
        Status::Running | Status::Paused => {
            Err(Failure::new("cannot start an already running container"))
        }
    }
}

/// The socket at which the container says that it is ready, if the caller wants to hear of that.
pub(crate) fn listen(global: &Global, state: &State) -> Result<Option<Listener>, Failure> {
    match Notify::of_caller(&state::dir(global, &state.id)?) {
        Some(notify) => notify.listen(),
        None => Ok(None),
    }
}

/// Opens the gate and runs the poststart hooks, whose failure ends the container.
pub(crate) fn start(global: &Global, state: &State) -> Result<(), Failure> {
    state.start(global)?;
    if let Some(hooks) = &state.spec.hooks {
        let pid = Some(state.init_process_pid);
        let running = HookState::new(&state.id, "running", pid, &state.bundle, &state.spec);
        hooks::run("poststart", &hooks.poststart, &running)
            .map_err(Failure::from)
            .inspect_err(|_| {
                // What led here is what the caller hears of.
                let _ = state.signal(libc::SIGKILL);
            })?;
    }
    Ok(())
}
