//! `floe rmi`: remove images with all their names.

use std::process::ExitCode;

use build::working;
use engine::image::ImageRecord;
use engine::{ContainerFilter, Engine};

use crate::cmd;
use crate::failure::Failure;

/// podman's exit code for an image that a container uses.
const IN_USE: u8 = 2;

/// Options of `floe rmi`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all its names, and the containers that use it; be content with missing ones
    #[arg(long, short)]
    force: bool,
    /// All images
    #[arg(long, short)]
    all: bool,
    /// Be content with missing ones
    #[arg(long, short)]
    ignore: bool,
    /// Accepted for podman's sake: there are no images between others
    #[arg(long)]
    no_prune: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    if args.all {
        if !args.images.is_empty() {
            return Err(Failure::new(
                "when using the --all switch, you may not pass any images names or IDs",
            ));
        }
        let all = engine.images(None)?.into_iter();
        // Those of additional stores are not this one's to remove.
        let own = all.filter(|image| !image.read_only);
        let ids: Vec<String> = own.map(|image| image.id).collect();
        return super::for_each(&ids, |id| remove(engine, &engine.image(id)?, args.force));
    }
    super::for_each(&args.images, |name| {
        let Some(image) = engine.find_image(name)? else {
            return match args.ignore || args.force {
                true => Ok(()),
                false => Err(Failure::new(format!("{name}: image not known")).with_code(1)),
            };
        };
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

/// Removes an image with all its names unless a container uses it.
pub(crate) fn unless_used(engine: &Engine, id: &str) -> Result<(), Failure> {
    match engine.remove_image(id) {
        Ok(_) | Err(engine::Error::ImageInUse { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
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
    let in_use = |container: &str| {
        let words = format!(
            "image used by {container}: image is in use by a container: consider listing external containers and \
             force-removing image"
        );
        Failure::new(words).with_code(IN_USE)
    };
    for one in working::list(engine)? {
        let base = one.record.ok().and_then(|record| record.image);
        match base.filter(|base| base.id == image.id) {
            Some(_) if force => drop(working::remove(engine, &one.id)?),
            Some(_) => return Err(in_use(&one.id)),
            None => {}
        }
    }
    engine
        .remove_image(&image.id)
        .map_err(|error| match error {
            engine::Error::ImageInUse { container, .. } => in_use(&container),
            other => Failure::from(other),
        })?;
    for name in &image.names {
        println!("Untagged: {name}");
    }
    println!("Deleted: {}", image.id);
    Ok(())
}
