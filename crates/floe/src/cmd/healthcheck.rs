//! `floe healthcheck`: whether containers are well (podman healthcheck).

use std::process::ExitCode;

use clap::Subcommand;
use engine::Engine;
use engine::container::Health;

use crate::failure::Failure;
use crate::names;

/// What can be done about health.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a container's health check now; the exit code says how it is
    Run(Args),
}

/// Options of `floe healthcheck run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Exit with 0 although the container is not well
    #[arg(long)]
    ignore_result: bool,
    /// Name or id
    container: String,
}

/// The exit code of a container that is not well.
const UNHEALTHY: u8 = 1;

pub(crate) fn run(engine: &Engine, command: &Command) -> Result<ExitCode, Failure> {
    let Command::Run(args) = command;
    let container = names::find(engine, &args.container)?;
    let record = engine.check_health(&container.id)?;
    let is_well = record.log.last().is_none_or(|last| last.exit_code == 0);
    if is_well {
        return Ok(ExitCode::SUCCESS);
    }
    // One check that failed makes none unhealthy, but this one has.
    match record.status {
        Health::Starting => println!("{}", Health::Starting.word()),
        Health::Healthy | Health::Unhealthy => println!("{}", Health::Unhealthy.word()),
    }
    Ok(match args.ignore_result {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(UNHEALTHY),
    })
}
