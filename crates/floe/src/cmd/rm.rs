//! `floe rm`: remove containers that have ended, or any with `--force`.

use std::process::ExitCode;
use std::time::Duration;

use engine::pod::Origin;
use engine::{Container, ContainerFilter, ContainerState, Engine, PodFilter};

use crate::failure::Failure;
use crate::names;

/// Options of `floe rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stop running ones, and be content with missing ones
    #[arg(long, short)]
    force: bool,
    /// Seconds to wait before killing a running one
    #[arg(long, short, default_value_t = 10, value_name = "SECONDS")]
    time: u64,
    /// All containers that people made
    #[arg(long, short)]
    all: bool,
    /// With --all: kubelet's pods too, also those without containers
    #[arg(long, requires = "all")]
    pods: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let mut names = args.containers.clone();
    if args.all {
        names.extend(names::of_people(engine)?);
    }
    if args.pods {
        for pod in engine.pods(&PodFilter {
            origin: Some(Origin::Cri),
            ..PodFilter::default()
        })? {
            engine.remove_pod(&pod.id)?;
            println!("{}", pod.id);
        }
    }
    super::for_each(&names, |name| {
        let container = match names::find(engine, name) {
            Err(_) if args.force => return Ok(()),
            // podman's exit code for a container that is not there.
            other => other.map_err(|failure| failure.with_code(1))?,
        };
        if matches!(container.state, ContainerState::Running { .. }) {
            if !args.force {
                return Err(Failure::new(format!(
                    "cannot remove container {name} as it is running: stop it first or use --force"
                ))
                .with_code(2));
            }
            engine.stop_container(&container.id, Duration::from_secs(args.time))?;
        }
        remove(engine, &container)?;
        println!("{name}");
        Ok(())
    })
}

/// Removes a container, and the pod around it if a person made it, or nobody can read who did.
pub(crate) fn remove(engine: &Engine, container: &Container) -> Result<(), Failure> {
    let pod = engine.pod(&container.pod_id)?;
    if pod.spec.origin == Origin::Cli {
        engine.remove_pod(&pod.id)?;
        return Ok(());
    }
    engine.remove_container(&container.id)?;
    let others = || {
        engine.containers(&ContainerFilter {
            pod_id: Some(pod.id.clone()),
            ..ContainerFilter::default()
        })
    };
    // Nobody knows whose pod it was: it goes with the last that was in it.
    if pod.damaged && others()?.is_empty() {
        engine.remove_pod(&pod.id)?;
    }
    Ok(())
}
