//! floe under the name `skopeo` (a symbolic link): skopeo's own command line for what floe builds
//! of it. Only the global options differ; each command is the same file under `cmd/`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cli::MoveCommand;
use crate::cmd::copy::flags::PlatformFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::remote::{self, PolicyFlags};
use crate::{clock, move_images};

/// skopeo's exit codes: for an image that is not there, and for every other failure.
pub(crate) const MISSING: u8 = 2;
pub(crate) const FAILED: u8 = 1;

/// Images in registries and elsewhere: skopeo's command line, by floe.
#[derive(Debug, Parser)]
#[command(name = "skopeo", version, max_term_width = 100)]
pub(crate) struct Skopeo {
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
    /// Configuration file of floe
    #[arg(long, env = "FLOE_CONFIG", value_name = "FILE", hide = true)]
    floe_config: Option<PathBuf>,
    #[command(subcommand)]
    command: MoveCommand,
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
        ..Global::default()
    };
    move_images(&global, cli.command)
}
