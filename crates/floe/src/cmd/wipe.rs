//! `floe wipe`: away with what a node no longer needs (crio wipe). After a reboot that is what containers
//! left; images stay, also over versions, as the store's format has a version of its own. `--force` takes
//! everything: for a store that nothing else helps.
//!
//! Must never take anything from an engine that serves, nor from a process that runs.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use engine::{ContainerFilter, Engine, PodFilter};

use crate::failure::Failure;

/// Options of `floe wipe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All pods, containers and images, whatever has happened
    #[arg(long, short)]
    force: bool,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let socket = &engine.config().api.listen;
    if UnixStream::connect(socket).is_ok() {
        let socket = socket.display();
        let why = format!("an engine serves at {socket}: stop it before its store is wiped");
        return Err(Failure::new(why));
    }
    let found = engine.recover();
    println!(
        "{} things of containers that were gone removed",
        found.cleared
    );
    if !args.force {
        return Ok(ExitCode::SUCCESS);
    }
    let running: Vec<String> = engine
        .containers(&ContainerFilter::default())?
        .iter()
        .filter(|container| !container.is_at_rest())
        .map(|container| container.id.chars().take(12).collect())
        .collect();
    if !running.is_empty() {
        return Err(Failure::new(format!(
            "these containers have not ended: {}; floe rm --force --all --pods ends them",
            running.join(", ")
        )));
    }
    let pods = engine.pods(&PodFilter::default())?;
    for pod in &pods {
        engine.remove_pod(&pod.id)?;
    }
    super::buildah::remove_all(engine)?;
    let mut images = 0;
    for image in engine.store().images()? {
        if !image.read_only && engine.store().remove(&image.id)? {
            images += 1;
        }
    }
    engine.store().gc()?;
    println!("{} pods and {images} images removed", pods.len());
    Ok(ExitCode::SUCCESS)
}
