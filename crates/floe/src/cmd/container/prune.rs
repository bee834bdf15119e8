//! `floe container prune`: remove all containers that do not run.

use std::process::ExitCode;

use engine::pod::Origin;
use engine::{ContainerFilter, Engine};

use crate::cmd::ps::{self, Filters};
use crate::cmd::rm;
use crate::failure::Failure;
use crate::terminal;

/// Options of `floe container prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not ask
    #[arg(long, short)]
    force: bool,
    /// Only those that match, as floe ps --filter has it
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let fits = ps::filters(engine, &args.filter)?;
    let warning = "WARNING! This will remove all non running containers.";
    if !args.force && !terminal::agreed(warning)? {
        return Ok(ExitCode::SUCCESS);
    }
    crate::cmd::for_each(&prunable(engine, &fits)?, |id| {
        rm::remove(engine, &engine.container(id)?)?;
        println!("{id}");
        Ok(())
    })
}

/// The ids of people's containers that do not run and match.
pub(crate) fn prunable(engine: &Engine, fits: &Filters) -> Result<Vec<String>, Failure> {
    let of_people = ContainerFilter {
        origin: Some(Origin::Cli),
        ..ContainerFilter::default()
    };
    let mut ids = Vec::new();
    for container in engine.containers(&of_people)? {
        let ended = !container.runs();
        let pod = engine.pod(&container.pod_id).ok();
        if ended && fits.match_all(&container, pod.as_ref()) {
            ids.push(container.id.clone());
        }
    }
    Ok(ids)
}
