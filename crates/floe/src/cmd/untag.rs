//! `floe untag`: take names from an image, which stays (podman untag).

use std::process::ExitCode;

use engine::Engine;

use crate::failure::Failure;

/// Options of `floe untag`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name or id
    image: String,
    /// Those of its names that it loses; without any, all
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let unknown = || Failure::missing(format!("{}: image not known", args.image));
    let image = engine.find_image(&args.image)?.ok_or_else(unknown)?;
    let mut doomed = Vec::new();
    for name in &args.names {
        let meant = engine.tag_meant(&image, name);
        let meant = meant.ok_or_else(|| Failure::new(format!("{name}: tag not known")))?;
        doomed.push(meant);
    }
    if args.names.is_empty() {
        doomed.clone_from(&image.names);
    }
    for name in &doomed {
        engine.untag_image(name)?;
    }
    Ok(ExitCode::SUCCESS)
}
