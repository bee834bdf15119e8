//! `run`: create, start, and in the foreground wait: signals go on to the container, its terminal
//! to ours, its exit code is ours, and it is deleted.

use rustix::process::{Signal, WaitStatus};

use super::create::{Made, Options};
use super::{Failure, Outcome, delete, start};
use crate::cli::Global;
use crate::signals::Signals;
use crate::state::State;
use crate::terminal;

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container id
    id: String,
    #[command(flatten)]
    options: Options,
    /// Return once it runs
    #[arg(long, short)]
    detach: bool,
    /// Do not delete it when it has ended
    #[arg(long)]
    keep: bool,
    /// Reap also what its processes leave behind (has no effect: there are no strays to reap here)
    #[arg(long)]
    no_subreaper: bool,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let signals = if args.detach {
        None
    } else {
        Some(Signals::catch()?)
    };
    let made = Made::new(global, &args.id, &args.options, args.detach)?;
    let (state, console) = made.commit(&args.options)?;
    let notify = match start::listen(global, &state)
        .and_then(|notify| start::start(global, &state).map(|()| notify))
    {
        Ok(notify) => notify,
        Err(error) => {
            delete::delete(global, &state)?;
            return Err(error);
        }
    };
    let Some(signals) = signals else {
        notify.map_or(Ok(()), |notify| notify.wait(state.init_process_pid))?;
        return Ok(0);
    };
    let status = terminal::accompany(state.init_process_pid, console, &signals, notify);
    ended(global, &state, status, args.keep)
}

/// Deletes a container that was waited for, unless it is to be kept; its exit code.
pub(crate) fn ended(
    global: &Global,
    state: &State,
    status: Result<WaitStatus, Failure>,
    keep: bool,
) -> Outcome {
    if !keep {
        delete::delete(global, state)?;
    }
    Ok(exit_code(status?))
}

/// A process's exit code, or 128 and the signal that ended it.
pub(crate) fn exit_code(status: WaitStatus) -> u8 {
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
}

/// For verbs that end a container at once.
pub(crate) fn kill(pid: i32) -> Result<(), Failure> {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else {
        return Ok(());
    };
    match rustix::process::kill_process(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Failure::new(format!(
            "kill {}: {errno}",
            pid.as_raw_nonzero()
        ))),
    }
}
