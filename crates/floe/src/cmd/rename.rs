//! `floe rename`.

use std::process::ExitCode;

use engine::Engine;

use crate::failure::Failure;
use crate::names;

/// Options of `floe rename`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name or id
    container: String,
    /// The new name
    name: String,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    names::check(&args.name)?;
    let container = names::find(engine, &args.container)?;
    engine.rename_container(&container.id, &args.name)?;
    Ok(ExitCode::SUCCESS)
}
