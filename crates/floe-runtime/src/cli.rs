//! The command line: runc's global options, and the list of verbs. Each verb's own options stand
//! in its file under `cmd/`.

use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cmd;

/// As Docker reads it: `NAME version NUMBER`, and the specification's version on its own line.
const VERSION: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("FLOE_COMMIT"),
    "\nspec: 1.3.0"
);

/// As runc's, whose first lines programs look at.
fn help(name: &str) -> String {
    format!("NAME:\n   {name} - {{about}}\n\nUSAGE:\n   {{usage}}\n\n{{all-args}}")
}

/// What the program is called: under the name `runc` it answers by that name.
pub(crate) fn name() -> &'static str {
    let program = std::env::args_os().next().unwrap_or_default();
    let runc = Path::new(&program)
        .file_name()
        .is_some_and(|name| name == "runc");
    if runc { "runc" } else { "floe-runtime" }
}

/// Reads the command line.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    let name = name();
    let command = Cli::command()
        .name(name)
        .help_template(help(name))
        .mut_subcommands(|verb| {
            let template = help(&format!("{name} {}", verb.get_name()));
            verb.help_template(template)
        });
    let matches = command.try_get_matches()?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    cli.global.root_is_usual = matches.value_source("root") == Some(ValueSource::DefaultValue);
    Ok(cli)
}

/// Prints what [`parse`] answered instead of a command line.
pub(crate) fn print(error: &clap::Error) {
    if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(verb))) =
        (error.kind(), error.get(ContextKind::InvalidSubcommand))
    {
        eprintln!("No help topic for '{verb}'");
    }
    // Nobody is left to tell that standard error is closed.
    let _ = error.print();
}

/// Open Container Initiative runtime
#[derive(Debug, Parser)]
#[command(name = "floe-runtime", version = VERSION, disable_version_flag = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Root of the host keeps to /run; an ordinary user, and root of a user namespace, may not be let in.
fn state_root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match own {
        Some(own) if runtime::is_rootless() => Path::new(&own).join("floe-runtime"),
        _ => "/run/floe-runtime".into(),
    }
}

/// Options of every verb.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: (),
    /// Enable debug logging
    #[arg(long)]
    pub(crate) debug: bool,
    /// The log file [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// The format of the log
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub(crate) log_format: String,
    /// Directory for the state of containers [default: /run/floe-runtime, or
    /// $XDG_RUNTIME_DIR/floe-runtime for a user without root]
    #[arg(long, value_name = "DIR", default_value_os_t = state_root(), hide_default_value = true)]
    pub(crate) root: PathBuf,
    /// Did nobody say where that is?
    #[arg(skip)]
    pub(crate) root_is_usual: bool,
    /// Have systemd make the cgroup; cgroupsPath then reads slice:prefix:name
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// Do without a cgroup where none may be made: as an ordinary user, or never, or always
    #[arg(long, default_value = "auto", value_name = "VALUE", value_parser = ["true", "false", "auto"])]
    pub(crate) rootless: String,
    /// The program of checkpoint and restore
    #[arg(long, default_value = "criu", value_name = "FILE")]
    pub(crate) criu: PathBuf,
}

/// The verbs. What a verb may be told is put together for the one that is called.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Create a container: its process waits for start
    Create(cmd::create::Args),
    /// Run the process of a created container
    Start(cmd::start::Args),
    /// Create and start a container
    Run(cmd::run::Args),
    /// Print the state of a container
    State(cmd::state::Args),
    /// Send a signal to a container
    Kill(cmd::kill::Args),
    /// Delete what a container has left
    Delete(cmd::delete::Args),
    /// List containers
    List(cmd::list::Args),
    /// Write a config.json to start from
    Spec(cmd::spec::Args),
    /// Run a further process in a container
    Exec(Box<cmd::exec::Args>),
    /// List the processes of a container
    Ps(cmd::ps::Args),
    /// Suspend all processes of a container
    Pause(cmd::pause::Args),
    /// Resume all processes of a container
    Resume(cmd::pause::Args),
    /// Change the limits of a container
    Update(Box<cmd::update::Args>),
    /// Print statistics, and when memory ran out
    Events(cmd::events::Args),
    /// Print what this runtime can do
    Features(cmd::features::Args),
    /// Write a running container to images (criu)
    Checkpoint(Box<cmd::checkpoint::Args>),
    /// Run a container from its images (criu)
    Restore(Box<cmd::restore::Args>),
}
