//! `floe manifest-digest`: the digest of a manifest in a file (skopeo manifest-digest).

use std::path::PathBuf;
use std::process::ExitCode;

use crate::failure::Failure;

/// Options of `floe manifest-digest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The manifest, as --raw printed it
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let bytes = std::fs::read(&args.file)
        .map_err(|e| Failure::new(format!("read {}: {e}", args.file.display())))?;
    println!("{}", image::manifest::digest(&bytes)?);
    Ok(ExitCode::SUCCESS)
}
