//! `floe stop`: ask, wait, kill.

use std::process::ExitCode;
use std::time::Duration;

use engine::pod::Origin;
use engine::{Container, Engine};

use crate::failure::Failure;
use crate::names;

/// Options of `floe stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds to wait before killing
    #[arg(long, short, default_value_t = 10, value_name = "SECONDS")]
    time: u64,
    /// All running containers that people made
    #[arg(long, short)]
    all: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let mut names = args.containers.clone();
    if args.all {
        names.extend(names::of_people(engine)?);
    }
    super::for_each(&names, |name| {
        let container = names::find(engine, name)?;
        stop(engine, &container, Duration::from_secs(args.time))?;
        println!("{name}");
        Ok(())
    })
}

/// Stops a container, and the pod around it if a person made it: its network is given back.
pub(crate) fn stop(engine: &Engine, container: &Container, grace: Duration) -> Result<(), Failure> {
    engine.stop_container(&container.id, grace)?;
    if engine.pod(&container.pod_id)?.spec.origin == Origin::Cli {
        engine.stop_pod(&container.pod_id)?;
    }
    Ok(())
}
