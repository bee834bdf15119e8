//! `floe manifest-digest`: the digest of a manifest in a file (skopeo manifest-digest).

use std::path::PathBuf;
use std::process::ExitCode;

use image::{AnyManifest, Digest};

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
    // Schema 1, whose digest is not that of its bytes, is refused here.
    AnyManifest::parse(None, &bytes)?;
    println!("{}", Digest::of(&bytes));
    Ok(ExitCode::SUCCESS)
}
