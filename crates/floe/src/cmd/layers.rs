//! `floe layers`: layers of an image, in a new directory here (skopeo layers, which calls itself deprecated).

use std::process::ExitCode;

use image::Digest;
use transfer::{Location, Source};

use super::copy::flags::PlatformFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::progress;
use crate::remote::{self, Flags, Remote, RetryFlags};

/// Options of `floe layers`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    platform: PlatformFlags,
    #[command(flatten)]
    retry: RetryFlags,
    #[command(flatten)]
    flags: Flags,
    /// The image
    image: String,
    /// Digests of layers, with or without sha256: [default: all, and the configuration]
    layers: Vec<String>,
}

/// Words of a command that is refused whatever they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Any {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _words: Vec<String>,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    progress::note("DEPRECATED: layers is deprecated in favor of copy");
    let remote = Remote::new(global)?;
    let location = Location::parse(&args.image)?;
    let access = args.flags.access(&remote, &location)?;
    let wanted = args.layers.iter().map(|text| match text.contains(':') {
        true => Digest::parse(text),
        false => Digest::parse(&format!("sha256:{text}")),
    });
    let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
    let platform = args.platform.platform();
    let dir = tempfile::Builder::new().prefix("layers-").tempdir_in(".")?;
    args.retry.run(|| {
        remote::block_on(async {
            let source = Source::open(&location, &access).await?;
            Ok(transfer::layers(&source, dir.path(), &platform, &wanted).await?)
        })
    })?;
    let _ = dir.keep();
    Ok(ExitCode::SUCCESS)
}
