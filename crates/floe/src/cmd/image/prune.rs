//! `floe image prune`: removes images that no container uses (podman image prune).
//!
//! Must never remove a pinned image, nor ask nobody: without --force somebody has to say yes.

use std::process::ExitCode;

use engine::Engine;

use crate::cmd::images::filter::Filter;
use crate::failure::Failure;
use crate::terminal;

/// Options of `floe image prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All images that no container uses, not only those without a tag
    #[arg(long, short)]
    all: bool,
    /// Do not ask
    #[arg(long, short)]
    force: bool,
    /// Only those that fit: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE], dangling=BOOL
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let filters: Vec<Filter> = args
        .filter
        .iter()
        .map(|text| Filter::parse(engine, text))
        .collect::<Result<_, _>>()?;
    if !args.force && !terminal::agreed(&warning(args))? {
        return Ok(ExitCode::SUCCESS);
    }
    let bases = crate::cmd::buildah::bases(engine)?;
    let removed = engine.prune_images(|image| {
        let mut fits = (args.all || image.names.is_empty()) && !bases.contains(&image.id);
        for filter in &filters {
            fits = fits && filter.fits(engine, image)?;
        }
        Ok(fits)
    })?;
    for image in removed {
        println!("{}", image.id);
    }
    Ok(ExitCode::SUCCESS)
}

fn warning(args: &Args) -> String {
    let which = match args.all {
        true => "images that no container uses",
        false => "images that have no tag and that no container uses",
    };
    format!("WARNING! This command removes all {which}.")
}
