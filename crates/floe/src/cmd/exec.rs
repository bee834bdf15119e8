//! `floe exec`: a command in a running container, with this process's own standard streams, or
//! with a terminal of its own.

use std::io::BufRead;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

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
    /// Run it in the background, and print an id for it
    #[arg(long, short)]
    detach: bool,
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
            "must provide a non-empty command to start an exec session: floe exec CONTAINER COMMAND",
        )),
        false => Ok((names::find(engine, &name)?, command)),
    }
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    if args.detach && std::env::var_os(BACKGROUND).is_none() {
        return in_background();
    }
    let (container, command) = target(engine, args)?;
    let options = ExecOptions {
        env: given(&args.env_file, &args.env)?,
        working_dir: args.workdir.clone(),
        privileged: args.privileged,
        user: args.user.clone(),
    };
    let stdio = if args.detach {
        let null = || {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")
        };
        match args.tty {
            true => ExecStdio::Terminal(None),
            false => ExecStdio::Fds([null()?.into(), null()?.into(), null()?.into()]),
        }
    } else if args.tty {
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
    if args.detach {
        // Whoever waits for the beginning learns of it, and nobody of the rest.
        println!("{STARTED}");
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null).map_err(std::io::Error::from)?;
        rustix::stdio::dup2_stderr(&null).map_err(std::io::Error::from)?;
    }
    attach::exec(session, args.interactive && !args.detach).map(ExitCode::from)
}

/// Says to this program that it is the one in the background.
const BACKGROUND: &str = "_FLOE_EXEC_IN_BACKGROUND";
/// What it says when the command runs.
const STARTED: &str = "started";

/// Executes this program once more, for which the command runs; returns when it does.
fn in_background() -> Result<ExitCode, Failure> {
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(BACKGROUND, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        std::io::BufReader::new(stdout).read_line(&mut said)?;
    }
    if said.trim_end() == STARTED {
        let mut id = [0_u8; 32];
        rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())
            .map_err(std::io::Error::from)?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{id}");
        return Ok(ExitCode::SUCCESS);
    }
    // It has said why.
    let code = child
        .wait()?
        .code()
        .and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(crate::failure::FAILED)))
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
