//! `floe copy`: an image from one place to another (skopeo copy).

use std::path::PathBuf;
use std::process::ExitCode;

use image::Compression;
use transfer::{Instances, Location, Options};

use crate::failure::Failure;
use crate::global::Global;
use crate::progress;

pub(crate) mod flags;

use flags::{Shape, Sides};

/// Options of `floe copy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Which images of an index: system, all, index-only
    #[arg(long, value_name = "WHICH", value_parser = ["system", "all", "index-only"], conflicts_with = "all")]
    multi_arch: Option<String>,
    #[command(flatten)]
    compress: Compress,
    /// Write the digest of the copied manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Print nothing
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    sides: Sides,
    /// From where: docker://NAME, oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR, floe:IMAGE,
    /// containers-storage:IMAGE
    source: String,
    /// To where: the same, but for containers-storage:
    destination: String,
}

/// How layers are to be compressed.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Compress {
    /// Compress plain layers
    #[arg(long, conflicts_with = "dest_decompress")]
    dest_compress: bool,
    /// Decompress layers
    #[arg(long)]
    dest_decompress: bool,
    /// gzip or zstd: layers that are compressed in another way are compressed again
    #[arg(long, value_name = "FORMAT", value_parser = ["gzip", "zstd"])]
    dest_compress_format: Option<String>,
    /// Level of the compression
    #[arg(long, value_name = "LEVEL")]
    dest_compress_level: Option<i32>,
    /// Accepted for skopeo's sake: --dest-compress-format alone does the same here
    #[arg(long, requires = "dest_compress_format")]
    dest_force_compress_format: bool,
}

impl Compress {
    fn compression(&self) -> Option<Compression> {
        match self.dest_compress_format.as_deref() {
            Some("zstd") => Some(Compression::Zstd),
            Some(_) => Some(Compression::Gzip),
            None if self.dest_decompress => Some(Compression::None),
            None if self.dest_compress => Some(Compression::Gzip),
            None => None,
        }
    }
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let remote = args.sides.remote(global)?;
    let (from, to) = (
        Location::parse(&args.source)?,
        Location::parse(&args.destination)?,
    );
    let source = args.sides.source().access(&remote, &from)?;
    let target = args.sides.target().access(&remote, &to)?;
    let mut options = Options {
        compression: args.compress.compression(),
        level: args.compress.dest_compress_level,
        force_compression: args.compress.dest_compress_format.is_some(),
        ..args.sides.options(&args.shape, &remote)?
    };
    match args.multi_arch.as_deref() {
        Some("all") => options.instances = Instances::All,
        Some("index-only") => options.instances = Instances::IndexOnly,
        _ => {}
    }
    let watch = progress::watch(args.quiet);
    let copy = || flags::copy((&from, &source), (&to, &target), &options, &watch);
    let copied = args.sides.retry().run(copy)?;
    if let Some(file) = &args.digestfile {
        std::fs::write(file, copied.digest.to_string())
            .map_err(|e| Failure::new(format!("write {}: {e}", file.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}
