//! `floe wait`: until containers have ended, or are in another state; prints their codes.

use std::process::ExitCode;

use clap::ValueEnum;
use engine::container::Health;
use engine::{AttachEvent, AttachOptions, Container, ContainerState, Engine};

use super::start::LOOK;
use super::which::Which;
use super::{ps, stop};
use crate::failure::Failure;
use crate::names;

/// Options of `floe wait`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The state that is waited for; several are alternatives
    #[arg(
        long,
        value_name = "STATE",
        value_delimiter = ',',
        default_value = "stopped"
    )]
    condition: Vec<Condition>,
    /// Print -1 for containers that are not there
    #[arg(long)]
    ignore: bool,
    /// End when the first of them is there
    #[arg(long, visible_alias = "exit-first-match")]
    return_on_first: bool,
    /// Accepted for podman's sake: an end is told at once
    #[arg(long, short, value_name = "TIME")]
    interval: Option<String>,
    #[command(flatten)]
    which: Which,
}

/// A state in podman's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Condition {
    Configured,
    Created,
    Exited,
    Healthy,
    Initialized,
    Paused,
    Running,
    Stopped,
    Stopping,
    Removing,
    Unhealthy,
    Unknown,
}

impl Condition {
    fn is_of(self, container: &Container) -> bool {
        let state = ps::state(container);
        match self {
            Self::Configured | Self::Created | Self::Initialized => state == "created",
            Self::Exited => state == "exited",
            // One that never ran does not run.
            Self::Stopped => state == "exited" || (state == "created" && container.pid.is_none()),
            Self::Paused => state == "paused",
            Self::Running => state == "running",
            Self::Unknown => state == "unknown",
            Self::Healthy => container.runs() && ps::health(container) == Some(Health::Healthy),
            Self::Unhealthy => container.runs() && ps::health(container) == Some(Health::Unhealthy),
            // Nobody sees one that is on its way.
            Self::Stopping | Self::Removing => false,
        }
    }

    fn is_an_end(self) -> bool {
        matches!(self, Self::Exited | Self::Stopped)
    }
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let names = args.which.names(engine, false, |_| true)?;
    if args.return_on_first {
        println!("{}", first(engine, args, &names)?);
        return Ok(ExitCode::SUCCESS);
    }
    super::for_each(&names, |name| {
        println!("{}", wait(engine, args, name)?);
        Ok(())
    })
}

/// The code of one; -1 for a state that is no end.
fn wait(engine: &Engine, args: &Args, name: &str) -> Result<i32, Failure> {
    let mut container = match names::find(engine, name) {
        Err(failure) if args.ignore && failure.is_missing() => return Ok(-1),
        found => found?,
    };
    loop {
        if args.condition.iter().any(|one| one.is_of(&container)) {
            if matches!(container.state, ContainerState::Exited { .. }) {
                stop::finish_seen(engine, &container)?;
            }
            return Ok(code(&container).unwrap_or(-1));
        }
        let is_end = args.condition.iter().all(|one| one.is_an_end());
        match is_end && container.runs() {
            true => {
                if let Some(code) = end(engine, &container.id)? {
                    stop::finish_seen(engine, &container)?;
                    return Ok(code);
                }
            }
            false => std::thread::sleep(LOOK),
        }
        container = match names::find(engine, &container.id) {
            Err(failure) if failure.is_missing() => return Ok(-1),
            found => found?,
        };
    }
}

/// The code of one that runs, told by whoever runs it; `None`: it was not seen.
fn end(engine: &Engine, id: &str) -> Result<Option<i32>, Failure> {
    let Ok(attached) = engine.attach(id, AttachOptions::default()) else {
        std::thread::sleep(LOOK);
        return Ok(None);
    };
    let (mut output, _input) = attached.split();
    loop {
        match output.read() {
            Ok(AttachEvent::Exit(state)) => {
                return Ok(engine::exit_code(&state).map(i32::from));
            }
            Ok(AttachEvent::Output(..)) => {}
            Err(_) => return Ok(None),
        }
    }
}

/// The code of the first that is there.
fn first(engine: &Engine, args: &Args, names: &[String]) -> Result<i32, Failure> {
    loop {
        for name in names {
            let container = match names::find(engine, name) {
                Err(failure) if args.ignore && failure.is_missing() => return Ok(-1),
                found => found?,
            };
            if args.condition.iter().any(|one| one.is_of(&container)) {
                return Ok(code(&container).unwrap_or(-1));
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn code(container: &Container) -> Option<i32> {
    match container.state {
        ContainerState::Exited { exit_code, .. } => Some(exit_code),
        ContainerState::Created => Some(0),
        _ => None,
    }
}
