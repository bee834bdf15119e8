//! `floe rmi`: remove images with all their names.

use std::process::ExitCode;

use engine::image::ImageRecord;
use engine::{ContainerFilter, Engine};

use crate::cmd;
use crate::failure::Failure;

/// podman's exit code for an image that a container uses.
const IN_USE: u8 = 2;

/// Options of `floe rmi`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all its names, and the containers that use it
    #[arg(long, short)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    super::for_each(&args.images, |name| {
        let image = engine
            .find_image(name)?
            .ok_or_else(|| Failure::new(format!("{name}: image not known")).with_code(1))?;
        let tag = engine.tag_meant(&image, name);
        match tag {
            Some(tag) if image.names.len() > 1 && !args.force => {
                engine.untag_image(&tag)?;
                println!("Untagged: {tag}");
                Ok(())
            }
            None if image.names.len() > 1 && !args.force => Err(Failure::new(format!(
                "{name}: the image has more than one name ({}): remove them, or use --force",
                image.names.join(", ")
            ))),
            _ => remove(engine, &image, args.force),
        }
    })
}

/// Removes an image with all its names; with `force` also the containers that use it.
fn remove(engine: &Engine, image: &ImageRecord, force: bool) -> Result<(), Failure> {
    if force {
        for container in engine.containers(&ContainerFilter::default())? {
            if container.image_id == image.id {
                cmd::rm::remove(engine, &container)?;
            }
        }
    }
    engine.remove_image(&image.id).map_err(|error| {
        let in_use = matches!(error, engine::Error::ImageInUse { .. });
        let failure = Failure::from(error);
        if in_use {
            failure.with_code(IN_USE)
        } else {
            failure
        }
    })?;
    for name in &image.names {
        println!("Untagged: {name}");
    }
    println!("Deleted: {}", image.id);
    Ok(())
}
