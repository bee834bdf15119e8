//! `kill`: a signal to the container's first process, or to all.

use runtime::cgroup::Cgroup;

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::signals;
use crate::state::{State, Status};

/// Options of `kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container id
    id: String,
    /// Name or number
    #[arg(default_value = "SIGTERM")]
    signal: String,
    /// To all processes of the container
    #[arg(long, short)]
    all: bool,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let state = State::load(global, &args.id)?;
    let signal = signals::parse(&args.signal)
        .ok_or_else(|| Failure::new(format!("unknown signal {:?}", args.signal)))?;
    // In another's PID namespace nobody else kills what init leaves behind.
    let shared = signal == libc::SIGKILL && !state.has_own_pids();
    if args.all || shared {
        return match Cgroup::open(&state.cgroup) {
            Ok(cgroup) => cgroup.signal_all(signal).map(|()| 0).map_err(Failure::from),
            // Its processes have gone with it.
            Err(error) if error.is_not_found() => Err(Failure::new("container not running")),
            Err(error) => Err(error.into()),
        };
    }
    match state.status(global) != Status::Creating && state.signal(signal)? {
        true => Ok(0),
        false => Err(Failure::new("container not running")),
    }
}
