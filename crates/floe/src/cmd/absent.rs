//! `floe pod`, `network` and `volume`: what people cannot make here, and scripts clear away all the same. There
//! is nothing to remove, and nothing by any name.

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;

/// What can be done to pods of people's own.
#[derive(Debug, Subcommand)]
pub(crate) enum PodCommand {
    /// Remove pods: there are none but those of containers, which go with them
    Rm(PodRm),
    /// Is there a pod of that name? There is none
    Exists(Name),
}

/// Options of `floe pod rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct PodRm {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// Be content with missing ones
    #[arg(long, short)]
    force: bool,
    /// The same
    #[arg(long, short)]
    ignore: bool,
    /// Accepted for podman's sake: nothing is waited for
    #[arg(long, short, value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// Names or ids
    #[arg(required_unless_present = "all", value_name = "POD")]
    pods: Vec<String>,
}

/// What can be done to networks of people's own.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Remove networks that nothing uses: there are none but the configuration's
    Prune(Prune),
}

/// What can be done to named volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Remove volumes: there are none
    Rm(VolumeRm),
    /// Remove volumes that nothing uses: there are none
    Prune(Prune),
    /// Is there a volume of that name? There is none
    Exists(Name),
}

/// Options of `floe network prune` and `floe volume prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Do not ask: nothing is asked
    #[arg(long, short)]
    force: bool,
    /// Accepted for podman's sake: nothing is there to fit
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Options of `floe volume rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct VolumeRm {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// Be content with missing ones
    #[arg(long, short)]
    force: bool,
    /// Accepted for podman's sake: nothing is waited for
    #[arg(long, short, value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// Names
    #[arg(required_unless_present = "all", value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// A name to be looked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Name or id
    name: String,
}

/// podman's exit code for what is not there.
const MISSING: u8 = 1;

pub(crate) fn pod(command: &PodCommand) -> Result<ExitCode, Failure> {
    match command {
        PodCommand::Rm(args) => match args.force || args.ignore {
            true => Ok(ExitCode::SUCCESS),
            false => none(&args.pods, |name| {
                format!("no pod with name or ID {name} found: no such pod")
            }),
        },
        PodCommand::Exists(_) => Ok(ExitCode::from(MISSING)),
    }
}

pub(crate) fn network(command: &NetworkCommand) -> Result<ExitCode, Failure> {
    match command {
        NetworkCommand::Prune(_) => Ok(ExitCode::SUCCESS),
    }
}

pub(crate) fn volume(command: &VolumeCommand) -> Result<ExitCode, Failure> {
    match command {
        VolumeCommand::Rm(args) if args.force => Ok(ExitCode::SUCCESS),
        VolumeCommand::Rm(args) => none(&args.volumes, |name| {
            format!("no volume with name {name:?} found: no such volume")
        }),
        VolumeCommand::Prune(_) => Ok(ExitCode::SUCCESS),
        VolumeCommand::Exists(_) => Ok(ExitCode::from(MISSING)),
    }
}

/// Nothing has any of these names.
fn none(names: &[String], words: impl Fn(&str) -> String) -> Result<ExitCode, Failure> {
    super::for_each(names, |name| {
        Err(Failure::missing(words(name)).with_code(MISSING))
    })
}
