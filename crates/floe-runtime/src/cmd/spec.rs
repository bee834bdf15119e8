//! `spec`: a config.json to start from.

use std::path::PathBuf;

use super::{Failure, Outcome};
use crate::spec_template;

/// Options of `spec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write it
    #[arg(long, short, default_value = ".", value_name = "DIR")]
    bundle: PathBuf,
    /// For a user without root: in a user namespace, without limits
    #[arg(long)]
    rootless: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let path = args.bundle.join("config.json");
    if path.exists() {
        return Err(Failure::new(format!(
            "file {} exists. Remove it first",
            path.display()
        )));
    }
    let document = match args.rootless {
        true => spec_template::rootless(),
        false => spec_template::document(),
    };
    let text = serde_json::to_string_pretty(&document).map_err(|e| Failure::new(e.to_string()))?;
    std::fs::write(&path, text).map_err(Failure::at(format_args!("write {}", path.display())))?;
    Ok(0)
}
