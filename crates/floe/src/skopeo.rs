//! floe under the name `skopeo` (a symbolic link): skopeo's own command line for what floe builds
//! of it. Only the global options differ; each command is the same file under `cmd/`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::Global;
use crate::cmd::copy::PlatformFlags;
use crate::remote::PolicyFlags;
use crate::{Failure, cmd};

/// skopeo's exit code for every failure.
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
    /// Configuration file of floe
    #[arg(long, env = "FLOE_CONFIG", value_name = "FILE", hide = true)]
    floe_config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy an image from one place to another
    Copy(Box<cmd::copy::Args>),
    /// Show what an image is, without copying it
    Inspect(cmd::inspect::Args),
    /// List the tags of a repository
    #[command(name = "list-tags")]
    ListTags(cmd::list_tags::Args),
    /// Delete an image from a registry
    Delete(cmd::delete::Args),
    /// Print the digest of a manifest in a file
    #[command(name = "manifest-digest")]
    ManifestDigest(cmd::manifest_digest::Args),
    /// Store a login for a registry
    Login(cmd::login::LoginArgs),
    /// Forget a login for a registry
    Logout(cmd::login::LogoutArgs),
}

/// Whether the program goes by the name `skopeo`.
pub(crate) fn is_meant() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.is_some_and(|name| name.file_name().is_some_and(|name| name == "skopeo"))
}

pub(crate) fn run(cli: Skopeo) -> Result<ExitCode, Failure> {
    if let Some(dir) = cli.tmpdir {
        transfer::set_temporary_dir(dir);
    }
    let global = Global {
        config: cli.floe_config,
        ..Global::default()
    };
    match cli.command {
        Command::Copy(args) => cmd::copy::run(&global, *args),
        Command::Inspect(args) => cmd::inspect::run(&global, &args),
        Command::ListTags(args) => cmd::list_tags::run(&global, &args),
        Command::Delete(args) => cmd::delete::run(&global, &args),
        Command::ManifestDigest(args) => cmd::manifest_digest::run(&args),
        Command::Login(args) => cmd::login::login(&global, &args),
        Command::Logout(args) => cmd::login::logout(&args),
    }
}
