//! `floe system prune`: removes pods and containers that do not run, networks and images that nothing uses, and volumes if
//! they are asked for. `floe system reset`: removes all that people made, and all images.
//!
//! Must never ask nobody: without --force somebody has to say yes. Kubelet's pods are nothing of theirs.

use std::process::ExitCode;

use engine::Engine;

use crate::cmd::container::prune::prunable;
use crate::cmd::{network, pod, ps, rm, volume};
use crate::failure::Failure;
use crate::{names, output, terminal};

/// Options of `floe system prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// All images that no container uses, not only those without a tag
    #[arg(long, short)]
    all: bool,
    /// Do not ask
    #[arg(long, short)]
    force: bool,
    /// Volumes that no container uses, too
    #[arg(long)]
    volumes: bool,
    /// What killed builds have left: it goes in any case
    #[arg(long)]
    build: bool,
    /// Accepted for podman's sake: there are no containers of other tools
    #[arg(long, conflicts_with_all = ["all", "volumes"])]
    external: bool,
    /// Only those that fit: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Options of `floe system reset`.
#[derive(Debug, clap::Args)]
pub(crate) struct ResetArgs {
    /// Do not ask
    #[arg(long, short)]
    force: bool,
}

pub(crate) fn prune(engine: &Engine, args: &PruneArgs) -> Result<ExitCode, Failure> {
    let filters = args.filter.iter();
    let images = filters.map(|text| crate::cmd::images::filter::Filter::parse(engine, text));
    let images = images.collect::<Result<Vec<_>, _>>()?;
    let containers = ps::filters(engine, &args.filter)?;
    let volumes = volume::filters(&args.filter)?;
    if !args.force && !terminal::agreed(&warning(args))? {
        return Ok(ExitCode::SUCCESS);
    }
    let before = used(engine)?;
    let mut removed = Vec::new();
    for id in prunable(engine, &containers)? {
        let container = engine.container(&id)?;
        rm::remove(engine, &container)?;
        removed.push(id);
    }
    print("Deleted Containers", &removed);
    if args.filter.is_empty() {
        print("Deleted Pods", &pod::sweep(engine)?);
        print("Deleted Networks", &network::sweep(engine, |_| Ok(true))?);
    }
    if args.volumes {
        let swept = volume::sweep(engine, |volume| volume::fits(engine, volume, &volumes))?;
        print("Deleted Volumes", &swept);
    }
    let bases = crate::cmd::buildah::bases(engine)?;
    let gone = engine.prune_images(|image| {
        let mut fits = (args.all || image.names.is_empty()) && !bases.contains(&image.id);
        for filter in &images {
            fits = fits && filter.fits(engine, image)?;
        }
        Ok(fits)
    })?;
    let gone: Vec<String> = gone.into_iter().map(|image| image.id).collect();
    print("Deleted Images", &gone);
    let freed = before.saturating_sub(used(engine)?);
    println!("Total reclaimed space: {}", output::size(freed));
    Ok(ExitCode::SUCCESS)
}

fn print(title: &str, ids: &[String]) {
    if ids.is_empty() {
        return;
    }
    println!("{title}");
    ids.iter().for_each(|id| println!("{id}"));
}

/// What images, containers and volumes take, in bytes.
fn used(engine: &Engine) -> Result<u64, Failure> {
    let failed = |error: store::Error| Failure::new(error.to_string());
    let store = engine.store();
    let mut bytes = store.usage().map_err(failed)?.bytes;
    for id in store.writable_layer_ids().map_err(failed)? {
        bytes += store.writable_layer_usage(&id).map_err(failed)?.bytes;
    }
    for volume in engine.volumes()? {
        bytes += engine.volume_usage(&volume)?.bytes;
    }
    Ok(bytes)
}

fn warning(args: &PruneArgs) -> String {
    let images = match args.all {
        true => "all images without at least one container associated with them",
        false => "all dangling images",
    };
    let mut lines = vec![
        "all stopped containers",
        "all pods that do not run",
        "all networks not used by at least one container",
    ];
    if args.volumes {
        lines.push("all volumes not used by at least one container");
    }
    lines.push(images);
    let list: String = lines
        .iter()
        .map(|line| format!("\n        - {line}"))
        .collect();
    format!("WARNING! This command removes:{list}\n")
}

pub(crate) fn reset(engine: &Engine, args: &ResetArgs) -> Result<ExitCode, Failure> {
    let warning = "WARNING! This will remove:\n        - all containers\n        - all pods\n        - \
                   all images\n        - all volumes\n        - all networks\n";
    if !args.force && !terminal::agreed(warning)? {
        return Ok(ExitCode::SUCCESS);
    }
    for pod in names::pods(engine)? {
        engine.remove_pod(&pod.id)?;
    }
    for id in names::of_people(engine)? {
        let container = engine.container(&id)?;
        rm::remove(engine, &container)?;
    }
    crate::cmd::buildah::remove_all(engine)?;
    volume::sweep(engine, |_| Ok(true))?;
    network::sweep(engine, |_| Ok(true))?;
    // Kubelet's containers go on, with their images.
    engine.prune_images(|_| Ok(true))?;
    Ok(ExitCode::SUCCESS)
}
