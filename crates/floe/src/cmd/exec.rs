//! `floe exec`: a command in a running container, with this process's own standard streams, or
//! with a terminal of its own.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use engine::container::ExecOptions;
use engine::{Container, Engine, ExecStdio};

use super::ps;
use super::run::env::given;
use crate::failure::Failure;
use crate::refused::{self, List, NotOffered, Takes};
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
    /// NAME=VALUE, or NAME (also NAME*) to take it from here
    #[arg(long, short, value_name = "ENV")]
    env: Vec<String>,
    /// File with a variable in each line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// UID[:GID]
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// All capabilities
    #[arg(long)]
    privileged: bool,
    /// In the newest container of people: no name is given then
    #[arg(long, short)]
    latest: bool,
    /// In the container whose id is in this file: no name is given then
    #[arg(long, value_name = "FILE", conflicts_with = "latest")]
    cidfile: Option<PathBuf>,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
    /// Name or id of the container, then command and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_names = ["CONTAINER", "COMMAND"])]
    words: Vec<String>,
}

/// What podman's exec has besides.
#[derive(Debug)]
pub(crate) struct Refused;

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[
        (
            "detach",
            Takes::Nothing,
            "a command of floe exec is ended with it",
        ),
        (
            "detach-keys",
            Takes::Value,
            "a terminal of floe's is left by its end alone",
        ),
        (
            "no-session",
            Takes::Nothing,
            "floe exec keeps nothing of its commands",
        ),
        (
            "preserve-fd",
            Takes::Value,
            "a container gets no open files of who starts it",
        ),
        (
            "preserve-fds",
            Takes::Value,
            "a container gets no open files of who starts it",
        ),
    ];
}

/// The container and the words of the command.
fn target(engine: &Engine, args: &Args) -> Result<(Container, Vec<String>), Failure> {
    let mut named = names::of_files(args.cidfile.as_slice(), false)?;
    named.extend(ps::selected(engine, &[], args.latest)?);
    let is_named = args.latest || args.cidfile.is_some();
    let (name, command) = match (named.into_iter().next(), args.words.split_first()) {
        (Some(name), _) => (name, args.words.clone()),
        (None, Some((name, command))) if !is_named => (name.clone(), command.to_vec()),
        _ => return Err(Failure::missing("there is no such container")),
    };
    match command.is_empty() {
        true => Err(Failure::new(
            "there is no COMMAND: write floe exec CONTAINER COMMAND",
        )),
        false => Ok((names::find(engine, &name)?, command)),
    }
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let (container, command) = target(engine, args)?;
    let options = ExecOptions {
        env: given(&args.env_file, &args.env)?,
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
        .exec(&container.id, &command, None, &options, stdio)
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
