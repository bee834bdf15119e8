//! `floe rmi`: remove images with all their names.

use std::process::ExitCode;

use engine::{ContainerFilter, Engine};

use crate::{Failure, cmd};

/// Options of `floe rmi`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove the containers that use it first
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
        if args.force {
            for container in engine.containers(&ContainerFilter::default())? {
                if container.image_id == image.id {
                    cmd::rm::remove(engine, &container)?;
                }
            }
        }
        engine.remove_image(&image.id)?;
        image
            .names
            .iter()
            .for_each(|name| println!("Untagged: {name}"));
        println!("Deleted: {}", image.id);
        Ok(())
    })
}
