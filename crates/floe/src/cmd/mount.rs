//! `floe mount` and `floe unmount`, of containers and (`floe image mount`) of images: their root file systems at a
//! place of the node's, for a person to look into (podman mount).
//!
//! What runs is mounted for reading: must never put a second writer on a root file system.

use std::path::PathBuf;
use std::process::ExitCode;

use engine::image::ImageRecord;
use engine::{Container, ContainerFilter, Engine};
use serde_json::{Value, json};

use super::ps;
use crate::failure::Failure;
use crate::{names, output};

/// Options of `floe mount` and `floe image mount`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// json
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
}

/// Options of `floe mount`.
#[derive(Debug, clap::Args)]
pub(crate) struct ContainerArgs {
    #[command(flatten)]
    common: Args,
    /// The newest container
    #[arg(long, short)]
    latest: bool,
    /// Print whole ids
    #[arg(long, visible_alias = "no-trunc")]
    notruncate: bool,
    /// Names or ids; without any, what is mounted is listed
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Options of `floe image mount`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {
    #[command(flatten)]
    common: Args,
    /// Names or ids; without any, what is mounted is listed
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Options of `floe unmount`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnmountArgs {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// Accepted for podman's sake: a mount is taken back however often it was asked for
    #[arg(long, short)]
    force: bool,
    /// The newest container
    #[arg(long, short)]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Options of `floe image unmount`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageUnmountArgs {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// Accepted for podman's sake: a mount is taken back however often it was asked for
    #[arg(long, short)]
    force: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    images: Vec<String>,
}

/// What is mounted.
struct Mounted {
    id: String,
    /// What it is called in a list.
    shown: String,
    names: Vec<String>,
    path: PathBuf,
}

pub(crate) fn containers(engine: &Engine, args: &ContainerArgs) -> Result<ExitCode, Failure> {
    let mut wanted = args.containers.clone();
    wanted.extend(ps::selected(engine, &[], args.latest)?);
    let of = |container: &Container, path| Mounted {
        id: container.id.clone(),
        shown: match args.notruncate {
            true => container.id.clone(),
            false => output::short(&container.id),
        },
        names: vec![container.spec.name.clone()],
        path,
    };
    if args.common.all {
        wanted = names::of_people(engine)?;
    } else if wanted.is_empty() {
        let all = engine.containers(&ContainerFilter::default())?;
        let mounted = engine.store().mounts().map_err(engine::Error::from)?;
        let found = mounted.into_iter().filter_map(|(id, path)| {
            let container = all.iter().find(|container| container.id == id)?;
            Some(of(container, path))
        });
        return show(&args.common, false, &found.collect::<Vec<_>>());
    }
    let mut mounted = Vec::new();
    for name in &wanted {
        let container = names::find(engine, name)?;
        let path = engine.mount_container(&container.id, container.is_at_rest())?;
        mounted.push(of(&container, path));
    }
    show(&args.common, wanted.len() == 1, &mounted)
}

pub(crate) fn images(engine: &Engine, args: &ImageArgs) -> Result<ExitCode, Failure> {
    let of = |image: &ImageRecord, path| Mounted {
        id: image.id.clone(),
        shown: image.names.first().unwrap_or(&image.id).clone(),
        names: image.names.clone(),
        path,
    };
    if !args.common.all && args.images.is_empty() {
        let mounted = engine.store().mounts().map_err(engine::Error::from)?;
        let all = engine.images(None)?;
        let found = mounted.into_iter().filter_map(|(id, path)| {
            let image = all.iter().find(|image| image.id == id)?;
            Some(of(image, path))
        });
        return show(&args.common, false, &found.collect::<Vec<_>>());
    }
    let wanted = match args.common.all {
        true => engine.images(None)?,
        false => found(engine, &args.images)?,
    };
    let mut mounted = Vec::new();
    for image in &wanted {
        let path = engine.mount_image(&image.id)?;
        mounted.push(of(image, path));
    }
    let alone = !args.common.all && wanted.len() == 1;
    show(&args.common, alone, &mounted)
}

fn found(engine: &Engine, names: &[String]) -> Result<Vec<ImageRecord>, Failure> {
    let find = |name: &String| {
        let unknown = || Failure::missing(format!("{name}: image not known"));
        engine.find_image(name)?.ok_or_else(unknown)
    };
    names.iter().map(find).collect()
}

fn show(args: &Args, alone: bool, mounted: &[Mounted]) -> Result<ExitCode, Failure> {
    match (args.format.is_some(), mounted) {
        (true, _) => {
            let list: Vec<Value> = mounted
                .iter()
                .map(|one| json!({ "id": one.id, "Names": one.names, "mountpoint": one.path }))
                .collect();
            output::print_list(&list);
        }
        (false, [one]) if alone => println!("{}", one.path.display()),
        (false, all) => {
            for one in all {
                println!("{} {}", output::shown(&one.shown), one.path.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn unmount(engine: &Engine, args: &UnmountArgs) -> Result<ExitCode, Failure> {
    let mut wanted = args.containers.clone();
    wanted.extend(ps::selected(engine, &[], args.latest)?);
    if args.all {
        wanted = names::of_people(engine)?;
    } else if wanted.is_empty() {
        return Err(Failure::new("you must provide at least one name or id"));
    }
    super::for_each(&wanted, |name| {
        let container = names::find(engine, name)?;
        let was_mounted = engine.unmount(&container.id)?;
        if was_mounted || !args.all {
            println!("{name}");
        }
        Ok(())
    })
}

pub(crate) fn unmount_images(
    engine: &Engine,
    args: &ImageUnmountArgs,
) -> Result<ExitCode, Failure> {
    let wanted = match args.all {
        true => engine.images(None)?,
        false => found(engine, &args.images)?,
    };
    for image in wanted {
        if engine.unmount(&image.id)? || !args.all {
            println!("{}", image.id);
        }
    }
    Ok(ExitCode::SUCCESS)
}
