//! `delete`: everything that a container has left goes: processes, cgroup, state. With `--force`
//! also a running one, a damaged one, and one that is not there.

use runtime::cgroup::Unit;
use runtime::hooks::{self, HookState};

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::log;
use crate::state::{self, State, Status};

/// Options of `delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container id
    id: String,
    /// Kill it if it runs; be content if it does not exist
    #[arg(long, short)]
    force: bool,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let state = match State::load(global, &args.id) {
        Ok(state) => state,
        Err(_) if args.force => return state::remove(global, &args.id).map(|()| 0),
        Err(error) => return Err(error),
    };
    match state.status(global) {
        Status::Creating | Status::Running | Status::Paused if !args.force => {
            Err(Failure::new(format!(
                "cannot delete container {} that is not stopped: {}",
                args.id,
                state.status(global).word()
            )))
        }
        _ => delete(global, &state).map(|()| 0),
    }
}

/// Kills what is left and removes everything.
pub(crate) fn delete(global: &Global, state: &State) -> Result<(), Failure> {
    state.signal(libc::SIGKILL)?;
    match state.cgroup()? {
        Some(cgroup) => {
            cgroup.kill_all()?;
            cgroup.delete()?;
        }
        // systemd remembers a unit that has failed.
        None => state.unit.iter().try_for_each(Unit::stop)?,
    }
    if let Some(group) = &state.resctrl {
        group.remove()?;
    }
    runtime::unmount_shared(&state.bundle, &state.spec)?;
    state.remove(global)?;
    if let Some(hooks) = &state.spec.hooks {
        let stopped = HookState::new(&state.id, "stopped", None, &state.bundle, &state.spec);
        hooks::run_all("poststop", &hooks.poststop, &stopped)
            .iter()
            .for_each(|error| log::warn(global, &error.to_string()));
    }
    Ok(())
}
