//! `floe kill`, `pause` and `unpause`: a signal to containers that run, and standing still.

use std::process::ExitCode;

use engine::{Container, Engine};

use super::{ps, stop, which::Which};
use crate::failure::Failure;
use crate::names;

/// Options of `floe kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The signal
    #[arg(
        long,
        short,
        value_name = "SIGNAL",
        default_value = "KILL",
        allow_hyphen_values = true
    )]
    signal: String,
    /// All running containers that people made
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    which: Which,
}

/// Options of `floe pause` and `floe unpause`.
#[derive(Debug, clap::Args)]
pub(crate) struct PauseArgs {
    /// All containers that people made, as far as it is due
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    which: Which,
}

/// A signal by its name or number.
pub(super) fn signal(text: &str) -> Result<i32, Failure> {
    // podman takes -9 for 9.
    let text = text.trim_start_matches('-');
    let wrong = || match text.parse::<i32>() {
        Ok(65..) => Failure::new("valid signals are 1 through 64"),
        _ => Failure::new(format!("invalid signal: {text}")),
    };
    base::signal::parse(text).ok_or_else(wrong)
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let signal = signal(&args.signal)?;
    let names = args.which.names(engine, args.all, Container::runs)?;
    super::for_each(&names, |name| {
        let container = names::find(engine, name)?;
        if !container.runs() {
            return Err(Failure::new(format!(
                "can only kill running containers. {} is in state {}: container state improper",
                container.id,
                ps::state(&container)
            )));
        }
        if matches!(signal, libc::SIGKILL | libc::SIGTERM) {
            stop::note_stopped(engine, &container, true)?;
        }
        engine.signal_container(&container.id, signal)?;
        println!("{name}");
        Ok(())
    })
}

pub(crate) fn pause(engine: &Engine, args: &PauseArgs) -> Result<ExitCode, Failure> {
    let due = |container: &Container| container.runs() && !container.paused;
    let names = args.which.names(engine, args.all, due)?;
    super::for_each(&names, |name| {
        let container = names::find(engine, name)?;
        if !due(&container) {
            let state = ps::state(&container);
            return Err(Failure::new(format!(
                "{state:?} is not running, can't pause: container state improper"
            )));
        }
        engine.pause_container(&container.id)?;
        println!("{name}");
        Ok(())
    })
}

pub(crate) fn unpause(engine: &Engine, args: &PauseArgs) -> Result<ExitCode, Failure> {
    let names = args
        .which
        .names(engine, args.all, |container| container.paused)?;
    super::for_each(&names, |name| {
        let container = names::find(engine, name)?;
        if !container.paused {
            let state = ps::state(&container);
            return Err(Failure::new(format!(
                "{state:?} is not paused, can't unpause: container state improper"
            )));
        }
        engine.resume_container(&container.id)?;
        println!("{name}");
        Ok(())
    })
}
