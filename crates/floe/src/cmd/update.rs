//! `floe update`: other limits, or another restart policy, for a container that is there.

use std::process::ExitCode;

use engine::container::RestartPolicy;
use engine::{ContainerState, Engine};

use super::run::limits::Change;
use super::run::options::restart_policy;
use crate::failure::Failure;
use crate::names;
use crate::refused::{self, List, NotOffered, Takes};

/// Options of `floe update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    limits: Change,
    /// When it runs again after its next start and end: no, always, unless-stopped, on-failure[:TIMES]
    #[arg(long, value_name = "POLICY", value_parser = restart_policy)]
    restart: Option<RestartPolicy>,
    /// The newest container
    #[arg(long, short)]
    latest: bool,
    /// Name or id
    #[arg(required_unless_present = "latest", conflicts_with = "latest")]
    container: Option<String>,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
}

/// What podman's update has besides.
#[derive(Debug)]
pub(crate) struct Refused;

const ANEW: &str = "make the container anew, with --replace";

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[
        ("memory-reservation", Takes::Value, ANEW),
        ("memory-swappiness", Takes::Value, ANEW),
        ("blkio-weight", Takes::Value, ANEW),
        ("blkio-weight-device", Takes::Value, ANEW),
        ("device-read-bps", Takes::Value, ANEW),
        ("device-write-bps", Takes::Value, ANEW),
        ("device-read-iops", Takes::Value, ANEW),
        ("device-write-iops", Takes::Value, ANEW),
        ("cpu-rt-period", Takes::Value, ANEW),
        ("cpu-rt-runtime", Takes::Value, ANEW),
        ("env", Takes::Value, ANEW),
        ("unsetenv", Takes::Value, ANEW),
    ];
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let mut named: Vec<String> = args.container.iter().cloned().collect();
    named.extend(super::ps::selected(engine, &[], args.latest)?);
    let name = named
        .first()
        .ok_or_else(|| Failure::missing("there is no container"))?;
    let container = names::find(engine, name)?;
    let change = args.limits.resources()?;
    if change != engine::container::Resources::default() {
        match container.state {
            ContainerState::Running { .. } => engine.update_container(&container.id, &change)?,
            _ => engine.redefine_container(&container.id, |spec| {
                spec.resources = spec.resources.with(&change)
            })?,
        }
    }
    if let Some(policy) = args.restart {
        engine.redefine_container(&container.id, |spec| {
            spec.extras.get_or_insert_default().restart = policy;
        })?;
    }
    println!("{}", container.id);
    Ok(ExitCode::SUCCESS)
}
