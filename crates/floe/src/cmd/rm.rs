//! `floe rm`: remove containers that have ended, or any with `--force`.

use std::path::PathBuf;
use std::process::ExitCode;

use engine::pod::Origin;
use engine::{Container, ContainerFilter, Engine, PodFilter};

use super::{ps, stop};
use crate::failure::Failure;
use crate::names;

/// Options of `floe rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stop running ones, and be content with missing ones
    #[arg(long, short)]
    force: bool,
    /// Be content with missing ones
    #[arg(long, short)]
    ignore: bool,
    /// Seconds to wait before killing a running one, -1 for ever
    /// [default: what the container was made with, or else 10]
    #[arg(long, short, value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// All containers that people made
    #[arg(long, short)]
    all: bool,
    /// With --all: kubelet's pods too, also those without containers
    #[arg(long, requires = "all")]
    pods: bool,
    /// Those that match, as floe ps --filter has it
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// The newest one
    #[arg(long, short)]
    latest: bool,
    /// The container whose id is in this file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Anonymous volumes that they have, too
    #[arg(long, short)]
    volumes: bool,
    /// Accepted for podman's sake: no container depends on another
    #[arg(long)]
    depend: bool,
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
            Err(failure) if failure.is_missing() && (args.force || args.ignore) => return Ok(()),
            // podman's exit code for a container that is not there.
            Err(failure) if failure.is_missing() => {
                let words =
                    format!("no container with ID or name {name:?} found: no such container");
                return Err(Failure::new(words).with_code(1));
            }
            found => found?,
        };
        if container.runs() {
            if !args.force {
                return Err(Failure::new(format!(
                    "cannot remove container {} as it is running - running or paused containers cannot be \
                     removed without force: container state improper",
                    container.id
                ))
                .with_code(2));
            }
            engine.stop_container(&container.id, stop::patience(&container, args.time))?;
        }
        remove(engine, &container)?;
        if args.volumes {
            remove_volumes(engine, &container)?;
        }
        println!("{name}");
        Ok(())
    })
}

/// Removes the anonymous volumes of a container that is gone, but for those that another has taken over.
pub(crate) fn remove_volumes(engine: &Engine, container: &Container) -> Result<(), Failure> {
    for volume in container
        .spec
        .mounts
        .iter()
        .filter_map(|mount| mount.volume.as_ref())
    {
        if !engine
            .volume(&volume.name)?
            .is_some_and(|found| found.anonymous)
        {
            continue;
        }
        match engine.remove_volume(&volume.name) {
            Err(engine::Error::VolumeInUse { .. }) => {}
            removed => {
                removed?;
            }
        }
    }
    Ok(())
}

/// Removes a container, and the pod around it if a person made it, or nobody can read who did.
pub(crate) fn remove(engine: &Engine, container: &Container) -> Result<(), Failure> {
    let pod = engine.pod(&container.pod_id)?;
    if names::is_alone(&pod, container) {
        engine.remove_pod(&pod.id)?;
        return Ok(());
    }
    if pod.spec.origin == Origin::Cli {
        engine.forget_definition(&pod.id, &container.id)?;
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
