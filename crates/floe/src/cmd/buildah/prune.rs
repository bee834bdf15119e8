//! `buildah prune`: images that nobody has a name for, and what builds have remembered.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use build::working;
use engine::Engine;

use crate::failure::Failure;

/// Options of `buildah prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All images that nothing uses
    #[arg(long, short)]
    all: bool,
    /// Also those of working containers, which go with them
    #[arg(long, short)]
    force: bool,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let doomed = |image: &engine::image::ImageRecord| args.all || image.names.is_empty();
    let mut used = BTreeSet::new();
    for one in working::list(engine)? {
        let Some(image) = one.record.ok().and_then(|record| record.image) else {
            continue;
        };
        let found = engine.find_image(&image.id)?;
        match found.filter(|found| args.force && doomed(found)) {
            Some(_) => drop(working::remove(engine, &one.id)?),
            None => drop(used.insert(image.id)),
        }
    }
    let store = engine.store();
    store
        .forget_unused(Duration::ZERO)
        .map_err(engine::Error::from)?;
    let removed = engine.prune_images(|image| Ok(doomed(image) && !used.contains(&image.id)))?;
    for image in removed {
        for name in &image.names {
            println!("untagged: {name}");
        }
        println!("{}", image.id);
    }
    Ok(ExitCode::SUCCESS)
}
