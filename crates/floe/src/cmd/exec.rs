//! `floe exec`: a command in a running container, with this process's own standard streams, or
//! with a terminal of its own.

use std::os::fd::AsFd;
use std::process::ExitCode;

use engine::container::ExecOptions;
use engine::{Engine, ExecStdio};

use crate::failure::Failure;
use crate::{attach, names, terminal};

/// Options of `floe exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep standard input open
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// NAME=VALUE
    #[arg(long, short, value_name = "ENV")]
    env: Vec<String>,
    /// Working directory
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// UID[:GID]
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// All capabilities
    #[arg(long)]
    privileged: bool,
    /// Name or id
    container: String,
    /// Command and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let container = names::find(engine, &args.container)?;
    let options = ExecOptions {
        env: args.env.clone(),
        working_dir: args.workdir.clone(),
        privileged: args.privileged,
        user: args.user.clone(),
    };
    let stdio = if args.tty {
        ExecStdio::Terminal(terminal::size())
    } else {
        own_streams(args.interactive)?
    };
    let session = engine
        .exec(&container.id, &args.command, None, &options, stdio)
        .map_err(|error| {
            let code = if let engine::Error::Exec { exit_code, .. } = &error {
                *exit_code
            } else {
                crate::failure::FAILED
            };
            Failure::from(error).with_code(code)
        })?;
    attach::exec(session, args.interactive).map(ExitCode::from)
}

fn own_streams(interactive: bool) -> Result<ExecStdio, Failure> {
    let stdin = if interactive {
        std::io::stdin().as_fd().try_clone_to_owned()?
    } else {
        std::fs::File::open("/dev/null")?.into()
    };
    Ok(ExecStdio::Fds([
        stdin,
        std::io::stdout().as_fd().try_clone_to_owned()?,
        std::io::stderr().as_fd().try_clone_to_owned()?,
    ]))
}
