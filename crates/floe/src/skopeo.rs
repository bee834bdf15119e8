//! floe under the name `skopeo` (a symbolic link): skopeo's own command line for what floe builds
//! of it. Only the global options differ; each command is the same file under `cmd/`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use crate::cli::MoveCommand;
use crate::cmd;
use crate::cmd::copy::flags::PlatformFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::remote::{self, PolicyFlags};
use crate::{clock, move_images};

/// skopeo's exit codes: for an image that is not there, and for every other failure.
pub(crate) const MISSING: u8 = 2;
pub(crate) const FAILED: u8 = 1;

/// Scripts compare the number: it is that of the skopeo whose command line this is.
const VERSION: &str = concat!("version 1.22.0 (floe ", env!("CARGO_PKG_VERSION"), ")");

/// Images in registries and elsewhere: skopeo's command line, by floe.
#[derive(Debug, Parser)]
#[command(name = "skopeo", version = VERSION, disable_version_flag = true, max_term_width = 100, args_override_self = true)]
pub(crate) struct Skopeo {
    /// Print the version of skopeo whose command line this is, and of floe
    #[arg(long, short = 'v', action = ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    platform: PlatformFlags,
    /// Say more about what is done (errors say all that is known anyway)
    #[arg(long, global = true)]
    debug: bool,
    /// Where large temporary files go [default: $TMPDIR, or else /var/tmp]
    #[arg(long, global = true, value_name = "DIR")]
    tmpdir: Option<PathBuf>,
    /// Give up what is done with registries after this time
    #[arg(long, global = true, value_name = "DURATION", value_parser = clock::duration)]
    command_timeout: Option<Duration>,
    /// Another registries.conf
    #[arg(long, global = true, value_name = "FILE")]
    registries_conf: Option<PathBuf>,
    /// Require HTTPS and check certificates, unless the command says otherwise
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
    /// What of TLS may be used: a file as containers-tls-details.yaml(5) describes it
    #[arg(long, global = true, value_name = "FILE")]
    tls_details: Option<PathBuf>,
    /// What stands before floe's own name where it tells registries who asks
    #[arg(long, global = true, value_name = "TEXT")]
    user_agent_prefix: Option<String>,
    /// Configuration file of floe
    #[arg(long, env = "FLOE_CONFIG", value_name = "FILE", hide = true)]
    floe_config: Option<PathBuf>,
    #[command(subcommand)]
    command: SkopeoCommand,
}

/// What can be done under the name `skopeo`.
#[derive(Debug, Subcommand)]
enum SkopeoCommand {
    #[command(flatten)]
    Move(Box<MoveCommand>),
    /// Print what makes a shell complete commands and options
    #[command(hide = true)]
    Completion(cmd::documents::CompletionArgs),
}

/// Whether the program goes by the name `skopeo`.
pub(crate) fn is_meant() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.is_some_and(|name| name.file_name().is_some_and(|name| name == "skopeo"))
}

pub(crate) fn run(cli: Skopeo) -> Result<ExitCode, Failure> {
    crate::show_warnings();
    if let Some(dir) = cli.tmpdir {
        transfer::set_temporary_dir(dir);
    }
    if let Some(limit) = cli.command_timeout.filter(|limit| !limit.is_zero()) {
        remote::limit(limit);
    }
    let global = Global {
        config: cli.floe_config,
        registries_conf: cli.registries_conf,
        tls_verify: cli.tls_verify,
        tls_details: cli.tls_details,
        user_agent_prefix: cli.user_agent_prefix,
        ..Global::default()
    };
    match cli.command {
        SkopeoCommand::Move(command) => move_images(&global, *command),
        SkopeoCommand::Completion(args) => {
            cmd::documents::complete(&mut Skopeo::command(), "skopeo", &args)
        }
    }
}
