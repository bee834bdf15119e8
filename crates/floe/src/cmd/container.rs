//! `floe container`: podman's second way to write the commands for containers, and the first for `exists`.

use std::process::ExitCode;

use clap::Subcommand;
use engine::Engine;

use super::{exec, logs, ps, rm, run, stop};
use crate::failure::Failure;
use crate::global::Global;
use crate::names;

/// What can be done to containers.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in a running container
    Exec(exec::Args),
    /// Is there a container of that name or id? The exit code says it: 0 or 1
    Exists(Name),
    /// List containers
    #[command(visible_aliases = ["ls", "ps"])]
    List(ps::Args),
    /// Show what a container has written
    Logs(logs::Args),
    /// Remove containers
    Rm(rm::Args),
    /// Run a command in a new container
    Run(Box<run::Args>),
    /// Stop containers
    Stop(stop::Args),
}

/// What is looked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Accepted for podman's sake: there are no containers of other tools
    #[arg(long)]
    external: bool,
    /// Name or id
    name: String,
}

pub(crate) fn run(global: &Global, engine: &Engine, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Exec(args) => exec::run(engine, &args),
        Command::Exists(args) => match names::find(engine, &args.name) {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(failure) if failure.is_missing() => Ok(ExitCode::from(1)),
            Err(failure) => Err(failure),
        },
        Command::List(args) => ps::run(engine, &args),
        Command::Logs(args) => logs::run(engine, &args),
        Command::Rm(args) => rm::run(engine, &args),
        Command::Run(args) => run::run(global, engine, *args),
        Command::Stop(args) => stop::run(engine, &args),
    }
}
