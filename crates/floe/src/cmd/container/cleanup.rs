//! `floe container cleanup`: what is due when a container has ended, which its supervisor asks for by itself.

use std::process::ExitCode;

use engine::{ContainerState, Engine, Kind};

use crate::cmd::{start, stop, which::Which};
use crate::failure::Failure;
use crate::names;
use crate::refused::{self, List, NotOffered, Takes};

/// Options of `floe container cleanup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All containers that people made, and that have ended
    #[arg(long, short)]
    all: bool,
    /// Its supervisor asks, and says that it is to run again
    #[arg(long, hide = true, conflicts_with = "ended")]
    restart: bool,
    /// Its supervisor asks
    #[arg(long, hide = true)]
    ended: bool,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
}

/// What podman's cleanup has besides.
#[derive(Debug)]
pub(crate) struct Refused;

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[
        ("rm", Takes::Nothing, "a container that is to be removed is"),
        ("rmi", Takes::Nothing, "floe rmi removes the image"),
        ("exec", Takes::Value, "nothing is kept of commands"),
    ];
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let names = args.which.names(engine, args.all, |container| {
        matches!(container.state, ContainerState::Exited { .. })
    })?;
    crate::cmd::for_each(&names, |name| {
        let container = match names::find(engine, name) {
            Err(failure) if failure.is_missing() && args.ended => return Ok(()),
            found => found?,
        };
        if args.restart {
            return again(engine, &container);
        }
        stop::finish(engine, &container)?;
        if !args.ended {
            println!("{name}");
        }
        Ok(())
    })
}

/// Lets it run again, unless somebody has removed it meanwhile.
fn again(engine: &Engine, container: &engine::Container) -> Result<(), Failure> {
    match start::start(engine, container) {
        Err(failure) => match engine.container(&container.id) {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            _ => Err(failure),
        },
        Ok(()) => Ok(()),
    }
}
