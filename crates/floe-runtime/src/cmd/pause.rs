//! `pause` and `resume`: the freezer of the container's cgroup.

use runtime::cgroup::Cgroup;

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::state::{State, Status};

/// Options of both.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container id
    id: String,
}

pub(crate) fn pause(global: &Global, args: &Args) -> Outcome {
    let state = State::load(global, &args.id)?;
    match state.status(global) {
        Status::Created | Status::Running => Cgroup::open(&state.cgroup)?.freeze()?,
        Status::Creating | Status::Paused | Status::Stopped => {
            return Err(Failure::new("container not running or created"));
        }
    }
    Ok(0)
}

pub(crate) fn resume(global: &Global, args: &Args) -> Outcome {
    let state = State::load(global, &args.id)?;
    match state.status(global) {
        Status::Paused => Cgroup::open(&state.cgroup)?.thaw()?,
        _ => return Err(Failure::new("container not paused")),
    }
    Ok(0)
}
