//! `buildah rm` and `buildah rename`.

use std::process::ExitCode;

use build::{Error, working};
use engine::Engine;

use crate::cmd::for_each;
use crate::failure::Failure;
use crate::names;

/// Options of `buildah rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Options of `buildah rename`.
#[derive(Debug, clap::Args)]
pub(crate) struct RenameArgs {
    /// Name or id
    container: String,
    /// The name that it gets
    name: String,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let mut wanted = args.containers.clone();
    match (args.all, wanted.is_empty()) {
        (false, true) => return Err(Failure::new("container ID must be specified")),
        (true, false) => {
            return Err(Failure::new(
                "when using the --all switch, you may not pass any containers names or IDs",
            ));
        }
        (true, true) => {
            wanted = working::list(engine)?
                .into_iter()
                .map(|one| one.id)
                .collect()
        }
        (false, false) => {}
    }
    for_each(&wanted, |name| {
        let removed = working::remove(engine, name).map_err(|error| match error {
            Error::NoContainer { reason, .. } => {
                Failure::new(format!("removing container {name:?}: {reason}"))
            }
            other => Failure::from(other),
        })?;
        println!("{removed}");
        Ok(())
    })
}

pub(crate) fn rename(engine: &Engine, args: &RenameArgs) -> Result<ExitCode, Failure> {
    names::check(&args.name)?;
    working::rename(engine, &args.container, &args.name)?;
    Ok(ExitCode::SUCCESS)
}
