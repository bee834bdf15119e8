//! `floe start`, `restart` and `init`: a container that is only created, or has ended, and runs again with what it
//! had written.

use std::process::ExitCode;
use std::time::Duration;

use clap::ArgAction;
use engine::{Container, ContainerState, Engine, Kind};

use super::run::notify;
use super::stop;
use super::which::Which;
use crate::detach::Keys;
use crate::failure::{FAILED, Failure};
use crate::{attach, names};

/// Options of `floe start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Join the container's output, and end with its code
    #[arg(long, short)]
    attach: bool,
    /// Join its standard input, too
    #[arg(long, short)]
    interactive: bool,
    /// Pass signals on to the command [default: true with --attach]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, hide_default_value = true, default_missing_value = "true", action = ArgAction::Set)]
    sig_proxy: bool,
    /// Keys that leave the container, such as ctrl-p,ctrl-q; '' for none
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// All containers that people made, and that do not run
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    which: Which,
}

/// Options of `floe restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestartArgs {
    /// Seconds to wait before killing, -1 for ever [default: what the container was made with, or else 10]
    #[arg(
        long,
        short,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<i64>,
    /// All containers that people made
    #[arg(long, short)]
    all: bool,
    /// All that run
    #[arg(long)]
    running: bool,
    #[command(flatten)]
    which: Which,
}

/// Options of `floe container init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// All containers that people made, and that were never started
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    if args.all && args.which.is_named() {
        return Err(Failure::new(
            "either start all containers or the container(s) provided in the arguments",
        ));
    }
    let names = args
        .which
        .names(engine, args.all, |container| !container.runs())?;
    let attached = args.attach || args.interactive;
    if attached && names.len() > 1 {
        return Err(Failure::new(
            "you cannot start and attach multiple containers at once",
        ));
    }
    let keys = Keys::parse(args.detach_keys.as_deref())?;
    if let (true, [name]) = (attached, &names[..]) {
        let container = names::find(engine, name)?;
        return start_attached(engine, &container, args, keys);
    }
    super::for_each(&names, |name| {
        start(engine, &names::find(engine, name)?)?;
        println!("{name}");
        Ok(())
    })
}

/// Lets a container run; one that does is fine.
pub(super) fn start(engine: &Engine, container: &Container) -> Result<(), Failure> {
    if container.paused {
        return Err(Failure::new(format!(
            "unable to start container {}: it is paused: container state improper",
            container.id
        )));
    }
    stop::note_stopped(engine, container, false)?;
    engine.make_again(&container.id)?;
    match engine.start_container(&container.id) {
        // It ran already, or another has started it, and it has ended meanwhile.
        Err(error) if error.kind() == Kind::FailedPrecondition && has_run(engine, container) => {
            Ok(())
        }
        // Who is not attached has floe's own code, as with podman.
        started => {
            started?;
            notify::started(engine, &container.id)
        }
    }
}

fn has_run(engine: &Engine, container: &Container) -> bool {
    let now = engine.container(&container.id).map(|now| now.state);
    matches!(
        now,
        Ok(ContainerState::Exited {
            started_at: 1..,
            ..
        })
    )
}

/// Why a container was not started, with the code of a command that cannot be executed or is not there.
pub(crate) fn why(engine: &Engine, id: &str, error: engine::Error) -> Failure {
    let code = match engine.container(id).map(|container| container.state) {
        Ok(ContainerState::Exited {
            exit_code: code @ (126 | 127),
            ..
        }) => code as u8,
        _ => FAILED,
    };
    Failure::from(error).with_code(code)
}

fn start_attached(
    engine: &Engine,
    container: &Container,
    args: &Args,
    keys: Keys,
) -> Result<ExitCode, Failure> {
    let (id, tty) = (&container.id, container.spec.tty);
    engine.make_again(id)?;
    let interactive = args.interactive && container.spec.stdin;
    let session = attach::Session::open(engine, id, interactive, tty)?.leave_by(keys);
    let started = engine.start_container(id);
    started.map_err(|error| why(engine, id, error))?;
    notify::started(engine, id)?;
    match session.run(args.sig_proxy)? {
        attach::End::Left => Ok(ExitCode::SUCCESS),
        attach::End::Exited(code) => {
            stop::finish_seen(engine, container)?;
            Ok(ExitCode::from(code))
        }
    }
}

pub(crate) fn restart(engine: &Engine, args: &RestartArgs) -> Result<ExitCode, Failure> {
    let all = args.all || args.running;
    let names = args
        .which
        .names(engine, all, |container| args.all || container.runs())?;
    super::for_each(&names, |name| {
        let container = names::find(engine, name)?;
        if container.runs() {
            let patience = stop::patience(&container, args.time);
            engine.stop_container(&container.id, patience)?;
        }
        start(engine, &names::find(engine, &container.id)?)?;
        println!("{name}");
        Ok(())
    })
}

pub(crate) fn init(engine: &Engine, args: &InitArgs) -> Result<ExitCode, Failure> {
    let created = |container: &Container| matches!(container.state, ContainerState::Created);
    let names = args.which.names(engine, args.all, created)?;
    super::for_each(&names, |name| {
        let container = names::find(engine, name)?;
        if container.runs() {
            return Err(Failure::new(format!(
                "container {} has already been created in runtime: container state improper",
                container.id
            )));
        }
        engine.make_again(&container.id)?;
        println!("{name}");
        Ok(())
    })
}

/// How often is looked at what nobody tells.
pub(super) const LOOK: Duration = Duration::from_millis(50);
