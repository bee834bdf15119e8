//! floe under the name `buildah` (a symbolic link): buildah's own command line. Only the global options differ from
//! `floe buildah`; each command is the same file under `cmd/`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use crate::cmd;
use crate::failure::Failure;
use crate::global::Global;
use crate::refused::{List, NotOffered, Refused, Takes};

/// Scripts compare the number: it is that of the buildah whose command line this is.
const VERSION: &str = concat!("version 1.44.0 (floe ", env!("CARGO_PKG_VERSION"), ")");

/// Images built step by step or of a Containerfile: buildah's command line, by floe.
#[derive(Debug, Parser)]
#[command(name = "buildah", version = VERSION, disable_version_flag = true, max_term_width = 100, args_override_self = true)]
pub(crate) struct Buildah {
    /// Print the version of buildah whose command line this is, and of floe
    #[arg(long, short = 'v', action = ArgAction::Version)]
    version: Option<bool>,
    /// Directory of the image store, instead of the configuration's
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Directory of the state of commands that run, instead of the configuration's
    #[arg(long, global = true, value_name = "DIR")]
    runroot: Option<PathBuf>,
    /// Another registries.conf
    #[arg(long, global = true, value_name = "FILE")]
    registries_conf: Option<PathBuf>,
    /// Directory of drop-ins of registries.conf
    #[arg(long, global = true, value_name = "DIR")]
    registries_conf_dir: Option<PathBuf>,
    /// File with the short names that a user has chosen
    #[arg(long, global = true, value_name = "FILE")]
    short_name_alias_conf: Option<PathBuf>,
    /// File with what is mounted into every command; it must name nothing: use --volume
    #[arg(long, global = true, value_name = "FILE", value_parser = names_nothing)]
    default_mounts_file: Option<PathBuf>,
    /// Another policy.json
    #[arg(long, global = true, value_name = "FILE")]
    signature_policy: Option<PathBuf>,
    /// Who makes cgroups: cgroupfs or systemd
    #[arg(long, global = true, value_name = "MANAGER", value_parser = ["cgroupfs", "systemd"])]
    cgroup_manager: Option<String>,
    /// Accepted for buildah's sake: floe's store has one form
    #[arg(long, global = true, value_name = "DRIVER")]
    storage_driver: Option<String>,
    /// The same
    #[arg(long, global = true, value_name = "OPTION")]
    storage_opt: Vec<String>,
    /// Accepted for buildah's sake: errors say all that is known
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The same
    #[arg(long)]
    debug: bool,
    #[command(flatten)]
    _refused: NotOffered<NotInBuildah>,
    /// Configuration file of floe
    #[arg(long, env = "FLOE_CONFIG", value_name = "FILE", hide = true)]
    floe_config: Option<PathBuf>,
    #[command(subcommand)]
    command: BuildahCommand,
}

/// What can be done under the name `buildah`.
#[derive(Debug, Subcommand)]
enum BuildahCommand {
    #[command(flatten)]
    Verb(Box<cmd::buildah::Command>),
    /// Print what makes a shell complete commands and options
    #[command(hide = true)]
    Completion(cmd::documents::CompletionArgs),
}

/// The global options that buildah has besides.
#[derive(Debug)]
pub(crate) struct NotInBuildah;

const USERS: &str = "commands have the node's users";

impl List for NotInBuildah {
    const OPTIONS: &'static [Refused] = &[
        ("userns-uid-map", Takes::Value, USERS),
        ("userns-gid-map", Takes::Value, USERS),
        (
            "imagestore",
            Takes::Value,
            "images and containers are in one store, which --root names",
        ),
        (
            "transient-store",
            Takes::Nothing,
            "what is built is kept until it is removed",
        ),
        ("cpu-profile", Takes::Value, "floe writes no profiles"),
        ("memory-profile", Takes::Value, "floe writes no profiles"),
    ];
}

/// A file of mounts (containers-mounts.conf(5)) that has none.
fn names_nothing(text: &str) -> Result<PathBuf, String> {
    const LARGEST: u64 = 1 << 20;
    let path = PathBuf::from(text);
    let read = base::file::read_bounded(&path, LARGEST).map_err(|error| error.to_string())?;
    let read = String::from_utf8_lossy(read.as_deref().unwrap_or_default()).into_owned();
    let mut lines = read.lines().map(str::trim);
    match lines.find(|line| !line.is_empty() && !line.starts_with('#')) {
        Some(line) => Err(format!(
            "nothing is mounted that no command asks for, as {line:?} would have it: use --volume"
        )),
        None => Ok(path),
    }
}

/// Whether the program goes by the name `buildah`.
pub(crate) fn is_meant() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.is_some_and(|name| name.file_name().is_some_and(|name| name == "buildah"))
}

pub(crate) fn run(cli: Buildah) -> Result<ExitCode, Failure> {
    crate::show_warnings();
    let global = Global {
        config: cli.floe_config,
        root: cli.root,
        runroot: cli.runroot,
        registries_conf: cli.registries_conf,
        registries_conf_dir: cli.registries_conf_dir,
        short_name_alias_conf: cli.short_name_alias_conf,
        signature_policy: cli.signature_policy,
        cgroup_manager: cli.cgroup_manager,
        ..Global::default()
    };
    match cli.command {
        BuildahCommand::Verb(command) => cmd::buildah::run(&global, *command),
        BuildahCommand::Completion(args) => {
            cmd::documents::complete(&mut Buildah::command(), "buildah", &args)
        }
    }
}
