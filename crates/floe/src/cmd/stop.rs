//! `floe stop`: ask, wait, kill.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use engine::container::RestartPolicy;
use engine::pod::Origin;
use engine::{Container, ContainerState, Engine, Kind};

use super::run::options::STOP_TIMEOUT;
use super::{ps, rm};
use crate::failure::Failure;
use crate::{names, output};

/// Options of `floe stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds to wait before killing, -1 for ever [default: what the container was made with, or else 10]
    #[arg(
        long,
        short,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<i64>,
    /// All running containers that people made
    #[arg(long, short)]
    all: bool,
    /// Be content with missing ones
    #[arg(long, short)]
    ignore: bool,
    /// Those that match, as floe ps --filter has it
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// The newest one
    #[arg(long, short)]
    latest: bool,
    /// The container whose id is in this file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Names or ids
    #[arg(required_unless_present_any = ["all", "cidfile", "filter", "latest"], value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let mut names = args.containers.clone();
    names.extend(names::of_files(&args.cidfile, args.ignore)?);
    names.extend(ps::selected(engine, &args.filter, args.latest)?);
    if args.all {
        names.extend(names::of_people(engine)?);
    }
    super::for_each(&names, |name| {
        let container = match names::find(engine, name) {
            Err(failure) if args.ignore && failure.is_missing() => return Ok(()),
            found => found?,
        };
        stop(engine, &container, patience(&container, args.time))?;
        println!("{name}");
        Ok(())
    })
}

/// The code of one that was killed: 128 and SIGKILL.
const KILLED: i32 = 137;
/// As good as for ever.
const EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a container is waited for: as it is asked, or as it was made.
pub(crate) fn patience(container: &Container, asked: Option<i64>) -> Duration {
    let made_with = container.spec.annotations.get(STOP_TIMEOUT);
    let made_with = made_with.and_then(|text| text.parse().ok());
    match asked.or(made_with).map(u64::try_from) {
        Some(Ok(seconds)) => Duration::from_secs(seconds).min(EVER),
        Some(Err(_)) => EVER,
        None => Duration::from_secs(10),
    }
}

/// Stops a container, and does what is due then: the network of a person's is given back.
pub(crate) fn stop(engine: &Engine, container: &Container, grace: Duration) -> Result<(), Failure> {
    note_stopped(engine, container, true)?;
    let ran = container.runs();
    engine.stop_container(&container.id, grace)?;
    let killed = |now: &Container| match now.state {
        ContainerState::Exited { exit_code, .. } => exit_code == KILLED,
        _ => false,
    };
    if ran
        && !grace.is_zero()
        && container.stop_signal != libc::SIGKILL
        && engine
            .container(&container.id)
            .is_ok_and(|now| killed(&now))
    {
        // podman's words, which scripts look for.
        eprintln!(
            "level=warning msg=\"StopSignal {} failed to stop container {} in {} seconds, resorting to SIGKILL\"",
            base::signal::name(container.stop_signal),
            output::shown(&container.spec.name),
            grace.as_secs()
        );
    }
    finish(engine, container)
}

/// Notes whether a person has stopped it, which decides at the next start of the node.
pub(crate) fn note_stopped(
    engine: &Engine,
    container: &Container,
    stopped: bool,
) -> Result<(), Failure> {
    let of = container.spec.extras.as_deref();
    if of.is_some_and(|extras| extras.stopped != stopped) {
        let noted = engine.redefine_container(&container.id, |spec| {
            spec.extras.get_or_insert_default().stopped = stopped;
        });
        return match noted {
            // To end something needs no space.
            Err(error) if error.kind() == Kind::ResourceExhausted => {
                let words = error.to_string();
                eprintln!("Warning: not written down: {}", output::lines(&words));
                Ok(())
            }
            noted => Ok(noted?),
        };
    }
    Ok(())
}

/// What is due when a person's container has ended and does not run again: it is removed if it was made so, and else
/// its own pod is stopped. One that runs again meanwhile, or is gone, is left alone.
pub(crate) fn finish(engine: &Engine, container: &Container) -> Result<(), Failure> {
    let pod = match engine.pod(&container.pod_id) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(()),
        pod => pod?,
    };
    if pod.spec.origin != Origin::Cli {
        return Ok(());
    }
    let now = match engine.container(&container.id) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(()),
        now => now?,
    };
    if !matches!(now.state, ContainerState::Exited { .. }) {
        return Ok(());
    }
    let extras = container.spec.extras.as_deref();
    if extras.is_some_and(|extras| extras.remove) {
        rm::remove(engine, container)?;
        return rm::remove_volumes(engine, container);
    }
    if names::is_alone(&pod, container) {
        engine.stop_ended_pod(&pod.id)?;
    }
    Ok(())
}

/// As [`finish`], for who has seen an end and did not bring it about: whether it runs again is its supervisor's to say.
pub(crate) fn finish_seen(engine: &Engine, container: &Container) -> Result<(), Failure> {
    let extras = container.spec.extras.as_deref();
    match extras.map_or(RestartPolicy::No, |extras| extras.restart) {
        RestartPolicy::No => finish(engine, container),
        _ => Ok(()),
    }
}
