//! `floe pull`: registry to store.

use std::process::ExitCode;

use engine::Engine;

use crate::failure::Failure;
use crate::progress;

/// Options of `floe pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print only the ids
    #[arg(long, short)]
    quiet: bool,
    /// Images, such as registry.example/app:1.2
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    super::for_each(&args.images, |image| {
        println!("{}", progress::pull(engine, image, args.quiet)?);
        Ok(())
    })
}
