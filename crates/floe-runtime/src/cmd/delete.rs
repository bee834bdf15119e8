//! `delete`: everything that a container has left goes: processes, cgroup, state. With `--force`
//! also a running one, a damaged one, and one that is not there.

use runtime::cgroup::{Cgroup, Unit};
use runtime::hooks::{self, HookState};

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::log;
use crate::state::{self, State, Status};

/// How many times a cgroup whose processes do not end is tried, for most of a second each.
const TRIES: u32 = 8;

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

/// Kills what is in the cgroup and removes it. What was killed leaves it only when it has ended, which on a
/// busy machine takes longer than one try.
fn remove(cgroup: &Cgroup) -> Result<(), Failure> {
    for _ in 0..TRIES {
        cgroup.kill_all()?;
        match cgroup.delete() {
            Err(runtime::cgroup::Error::Busy { .. }) => {}
            other => return Ok(other?),
        }
    }
    Ok(cgroup.delete()?)
}

/// Kills what is left and removes everything.
pub(crate) fn delete(global: &Global, state: &State) -> Result<(), Failure> {
    state.signal(libc::SIGKILL)?;
    match state.cgroup()? {
        Some(cgroup) => remove(&cgroup)?,
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
