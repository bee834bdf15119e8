//! `floe container`: podman's second way to write the commands for containers, and the first for `exists`.

mod cleanup;
pub(crate) mod prune;

use std::process::ExitCode;

use clap::Subcommand;
use engine::Engine;

use super::{
    commit, cp, create, diff, exec, inspect, join, kill, logs, mount, port, ps, rename, rm, run,
    start, stats, stop, top, update, wait,
};
use crate::failure::Failure;
use crate::global::Global;
use crate::names;

/// What can be done to containers.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join a container that runs
    Attach(join::Args),
    /// Do what is due at the end of containers
    Cleanup(cleanup::Args),
    /// Make an image of what a container has written
    Commit(commit::Args),
    /// Show what a container has changed of its image's files
    Diff(diff::Args),
    /// Copy files between containers and this machine
    Cp(cp::Args),
    /// Write the files of a container as an archive
    Export(cp::ExportArgs),
    /// Make a container without starting it
    Create(Box<create::Args>),
    /// Run a command in a running container
    Exec(exec::Args),
    /// Is there a container of that name or id? The exit code says it: 0 or 1
    Exists(Name),
    /// Make the processes of containers, and start none
    Init(start::InitArgs),
    /// Show what containers are
    Inspect(inspect::Args),
    /// Send a signal to containers
    Kill(kill::Args),
    /// List containers
    #[command(visible_aliases = ["ls", "ps"])]
    List(ps::Args),
    /// Show what a container has written
    Logs(logs::Args),
    /// Mount the root file systems of containers, to look into them
    Mount(mount::ContainerArgs),
    /// Let containers stand still
    Pause(kill::PauseArgs),
    /// Show which ports of the node lead to a container
    Port(port::Args),
    /// Remove all containers that do not run
    Prune(prune::Args),
    /// Give a container another name
    Rename(rename::Args),
    /// Stop and start containers
    Restart(start::RestartArgs),
    /// Remove containers
    Rm(rm::Args),
    /// Run a command in a new container
    Run(Box<run::Args>),
    /// Start containers that were made, or have ended
    Start(start::Args),
    /// Show what containers use
    Stats(stats::Args),
    /// Stop containers
    Stop(stop::Args),
    /// Show the processes of a container
    Top(top::Args),
    /// Take such mounts back
    #[command(visible_alias = "umount")]
    Unmount(mount::UnmountArgs),
    /// Let containers that stand still go on
    Unpause(kill::PauseArgs),
    /// Give a container other limits
    Update(update::Args),
    /// Wait until containers have ended
    Wait(wait::Args),
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
        Command::Attach(args) => join::run(engine, &args),
        Command::Cleanup(args) => cleanup::run(engine, &args),
        Command::Create(args) => create::run(global, engine, *args),
        Command::Commit(args) => commit::run(engine, &args),
        Command::Diff(args) => diff::run(engine, &args),
        Command::Mount(args) => mount::containers(engine, &args),
        Command::Unmount(args) => mount::unmount(engine, &args),
        Command::Cp(args) => cp::run(engine, &args),
        Command::Export(args) => cp::export(engine, &args),
        Command::Init(args) => start::init(engine, &args),
        Command::Inspect(args) => inspect::stored::run(engine, &args.of_containers()),
        Command::Kill(args) => kill::run(engine, &args),
        Command::Pause(args) => kill::pause(engine, &args),
        Command::Port(args) => port::run(engine, &args),
        Command::Prune(args) => prune::run(engine, &args),
        Command::Rename(args) => rename::run(engine, &args),
        Command::Restart(args) => start::restart(engine, &args),
        Command::Start(args) => start::run(engine, &args),
        Command::Stats(args) => stats::run(engine, &args),
        Command::Top(args) => top::run(engine, &args),
        Command::Update(args) => update::run(engine, &args),
        Command::Unpause(args) => kill::unpause(engine, &args),
        Command::Wait(args) => wait::run(engine, &args),
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
