//! `floe create`: a container that is not started. It has its name, its id and its writable layer, and no process.

use std::process::ExitCode;

use clap::ArgAction;
use engine::Engine;

use super::run::request::{Asked, Place, Request};
use crate::failure::Failure;
use crate::global::Global;
use crate::refused::{self, List, NotOffered, Takes};

/// Options of `floe create`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    request: Request,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
}

/// What podman's create has besides.
#[derive(Debug)]
pub(crate) struct Refused;

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[
        (
            "pidfile",
            Takes::Value,
            "there is no process before the start",
        ),
        (
            "conmon-pidfile",
            Takes::Value,
            "there is no process before the start",
        ),
        ("rmi", Takes::Nothing, "floe rmi removes the image"),
    ];
}

pub(crate) fn run(global: &Global, engine: &Engine, mut args: Args) -> Result<ExitCode, Failure> {
    args.request.take_defaults()?;
    let Asked {
        pod,
        container,
        id_file,
        volumes,
    } = args.request.asked(global, engine)?;
    let (pod, own) = match pod {
        Place::Own(pod) => (engine.define_pod(*pod)?, true),
        Place::Shared(pod) => (pod.id.clone(), false),
    };
    let made = engine.define_container(&pod, container);
    let id = match made {
        Ok(id) => id,
        Err(error) => {
            if own {
                engine.remove_pod(&pod)?;
            }
            return Err(error.into());
        }
    };
    engine.keep_definition(&id)?;
    volumes.keep();
    id_file.keep(&id)?;
    println!("{id}");
    Ok(ExitCode::SUCCESS)
}
