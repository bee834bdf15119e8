//! `floe copy`: an image from one place to another (skopeo copy).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use image::{Compression, Platform};
use transfer::{Event, Format, Instances, Location, Options, Source, Target, Watch};

use super::sign::SignFlags;
use crate::Failure;
use crate::cli::Global;
use crate::remote::{self, Flags, PolicyFlags, Remote, SourceFlags, TargetFlags};

/// Options of `floe copy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Copy all images of an index, and the index
    #[arg(long, short, conflicts_with = "multi_arch")]
    all: bool,
    /// Which images of an index: system, all, index-only
    #[arg(long, value_name = "WHICH", value_parser = ["system", "all", "index-only"])]
    multi_arch: Option<String>,
    /// Type of the manifest to write: oci or v2s2 [default: as it is]
    #[arg(long, short, value_parser = ["oci", "v2s2"])]
    format: Option<String>,
    #[command(flatten)]
    compress: Compress,
    /// Fail rather than change a digest
    #[arg(long)]
    preserve_digests: bool,
    /// Write the digest of the copied manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Print nothing
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    sign: SignFlags,
    #[command(flatten)]
    platform: PlatformFlags,
    #[command(flatten)]
    both: Flags,
    #[command(flatten)]
    from: SourceFlags,
    #[command(flatten)]
    to: TargetFlags,
    #[command(flatten)]
    policy: PolicyFlags,
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
    /// gzip or zstd
    #[arg(long, value_name = "FORMAT", value_parser = ["gzip", "zstd"])]
    dest_compress_format: Option<String>,
    /// Level of the compression
    #[arg(long, value_name = "LEVEL")]
    dest_compress_level: Option<i32>,
    /// Compress again what is compressed in another way
    #[arg(long, requires = "dest_compress_format")]
    dest_force_compress_format: bool,
}

/// Which image of an index.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PlatformFlags {
    /// Choose images for this architecture instead of the machine's
    #[arg(long, global = true, value_name = "ARCH")]
    override_arch: Option<String>,
    /// Choose images for this operating system
    #[arg(long, global = true, value_name = "OS")]
    override_os: Option<String>,
    /// Choose images for this variant of the architecture
    #[arg(long, global = true, value_name = "VARIANT")]
    override_variant: Option<String>,
}

impl PlatformFlags {
    pub(crate) fn platform(&self) -> Platform {
        let mut platform = Platform::host();
        if let Some(architecture) = &self.override_arch {
            platform = Platform::new(&platform.os, architecture);
        }
        if let Some(os) = &self.override_os {
            platform.os.clone_from(os);
        }
        if self.override_variant.is_some() {
            platform.variant.clone_from(&self.override_variant);
        }
        platform
    }
}

impl Args {
    fn options(&self) -> Options {
        let compression = match self.compress.dest_compress_format.as_deref() {
            Some("zstd") => Some(Compression::Zstd),
            Some(_) => Some(Compression::Gzip),
            None if self.compress.dest_decompress => Some(Compression::None),
            None if self.compress.dest_compress => Some(Compression::Gzip),
            None => None,
        };
        let instances = match self.multi_arch.as_deref() {
            Some("all") => Instances::All,
            Some("index-only") => Instances::IndexOnly,
            _ if self.all => Instances::All,
            _ => Instances::One(self.platform.platform()),
        };
        Options {
            instances,
            format: self.format.as_deref().map(|format| match format {
                "oci" => Format::Oci,
                _ => Format::Docker,
            }),
            compression,
            level: self.compress.dest_compress_level,
            force_compression: self.compress.dest_force_compress_format,
            preserve_digests: self.preserve_digests,
            ..Options::default()
        }
    }
}

pub(crate) fn run(global: &Global, args: Args) -> Result<ExitCode, Failure> {
    let remote = Remote::with(global, &args.policy)?;
    let (from, to) = (
        Location::parse(&args.source)?,
        Location::parse(&args.destination)?,
    );
    let source_access = args.from.clone().with(&args.both).access(&remote, &from)?;
    let target_access = args.to.clone().with(&args.both).access(&remote, &to)?;
    let options = Options {
        policy: remote.policy(&args.policy)?,
        signing: args.sign.signing()?,
        ..args.options()
    };
    let watch = watch(args.quiet);
    let copied = remote::block_on(async {
        let source = Source::open(&from, &source_access).await?;
        // A target is made ready for what comes, so that what can never come is refused before.
        if let Some(policy) = &options.policy {
            source.check(policy)?;
        }
        let target = Target::open(&to, &target_access).await?;
        Ok(transfer::copy(&source, target, &options, &watch).await?)
    })?;
    if let Some(file) = &args.digestfile {
        std::fs::write(file, copied.digest.to_string())
            .map_err(|e| Failure::new(format!("write {}: {e}", file.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells what happens, in skopeo's words.
pub(crate) fn watch(quiet: bool) -> Watch {
    Arc::new(move |event| {
        if quiet {
            return;
        }
        match event {
            Event::Layer(layer) => println!("Copying blob {}", layer.digest),
            Event::Skipped(layer) => {
                println!("Copying blob {} skipped: already exists", layer.digest)
            }
            Event::Config(config) => println!("Copying config {}", config.digest),
            Event::Instance(digest, number, count) => {
                println!("Copying image {digest} ({number}/{count})");
            }
            Event::Manifest => println!("Writing manifest to image destination"),
        }
    })
}
