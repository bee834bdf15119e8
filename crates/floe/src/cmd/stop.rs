//! `floe stop`: ask, wait, kill.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use engine::pod::Origin;
use engine::{Container, Engine};

use super::ps;
use super::run::options::STOP_TIMEOUT;
use crate::failure::Failure;
use crate::names;

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

/// Stops a container, and the pod around it if a person made it: its network is given back.
pub(crate) fn stop(engine: &Engine, container: &Container, grace: Duration) -> Result<(), Failure> {
    engine.stop_container(&container.id, grace)?;
    if engine.pod(&container.pod_id)?.spec.origin == Origin::Cli {
        engine.stop_pod(&container.pod_id)?;
    }
    Ok(())
}
