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
    /// For a user without root (not supported yet)
    #[arg(long)]
    rootless: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.rootless {
        return Err(Failure::new(
            "spec --rootless is not supported by this version of floe-runtime",
        ));
    }
    let path = args.bundle.join("config.json");
    if path.exists() {
        return Err(Failure::new(format!(
            "file {} exists. Remove it first",
            path.display()
        )));
    }
    let text = serde_json::to_string_pretty(&spec_template::document())
        .map_err(|e| Failure::new(e.to_string()))?;
    std::fs::write(&path, text).map_err(Failure::at(format_args!("write {}", path.display())))?;
    Ok(0)
}
