//! `features`: what this runtime can do, as JSON (runtime-spec features.md).

use runtime::Features;

use super::{Failure, Outcome};

/// Options of `features`: none.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run() -> Outcome {
    let text = serde_json::to_string_pretty(&Features::of_this_build())
        .map_err(|error| Failure::new(error.to_string()))?;
    println!("{text}");
    Ok(0)
}
