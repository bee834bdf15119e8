//! `floe copy`: an image from one place to another (skopeo copy).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::{Compression, Reference};
use transfer::{
    Access, ArchiveEntry, ArchiveWriter, Document, Instances, Location, Options, Source, Target,
    Watch,
};

use crate::failure::Failure;
use crate::global::Global;
use crate::refused::{self, List, NotOffered, Takes};
use crate::{progress, remote};

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
    /// A further name with a tag for the image in a docker-archive: (may be given more than once)
    #[arg(long, value_name = "NAME:TAG", value_delimiter = ',')]
    additional_tag: Vec<String>,
    /// How many layers are copied at the same time; 0 for the default [default: 6]
    #[arg(long, value_name = "NUMBER")]
    image_parallel_copies: Option<usize>,
    /// Write the digest of the copied manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Print nothing
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    sides: Sides,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
    /// From where: docker://NAME, oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR, floe:IMAGE,
    /// containers-storage:IMAGE
    source: String,
    /// To where: the same, but for containers-storage:
    destination: String,
}

/// What skopeo's copy has besides.
#[derive(Debug)]
pub(crate) struct Refused;

pub(crate) const NO_ENCRYPTION: &str = "floe does not encrypt or decrypt layers";

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[
        ("encryption-key", Takes::Value, NO_ENCRYPTION),
        ("encrypt-layer", Takes::Value, NO_ENCRYPTION),
        ("decryption-key", Takes::Value, NO_ENCRYPTION),
    ];
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
    #[arg(long, value_name = "FORMAT", value_parser = compress_format)]
    dest_compress_format: Option<Compression>,
    /// Level of the compression
    #[arg(long, value_name = "LEVEL")]
    dest_compress_level: Option<i32>,
    /// Accepted for skopeo's sake: --dest-compress-format alone does the same here
    #[arg(long, requires = "dest_compress_format")]
    dest_force_compress_format: bool,
    /// Leave plain layers as they are in a layout (oci:, oci-archive:)
    #[arg(long)]
    dest_oci_accept_uncompressed_layers: bool,
    /// Accepted for skopeo's sake: digests are known before anything is sent anyway
    #[arg(long)]
    dest_precompute_digests: bool,
}

/// Reads a format of compression by skopeo's words.
pub(crate) fn compress_format(text: &str) -> Result<Compression, String> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "zstd:chunked" => {
            Err("not offered: floe writes no tables of contents into layers; write zstd".into())
        }
        "bzip2" | "xz" => {
            Err("not offered: no media type of a layer says it; write gzip or zstd".into())
        }
        _ => Err("write gzip or zstd".into()),
    }
}

impl Compress {
    fn compression(&self) -> Option<Compression> {
        match self.dest_compress_format {
            Some(format) => Some(format),
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
        plain_in_layouts: args.compress.dest_oci_accept_uncompressed_layers,
        ..args.sides.options(&args.shape, &remote)?
    };
    match args.multi_arch.as_deref() {
        Some("all") => options.instances = Instances::All,
        Some("index-only") => options.instances = Instances::IndexOnly,
        _ => {}
    }
    if let Some(parallel) = args.image_parallel_copies.and_then(NonZeroUsize::new) {
        options.parallel = parallel;
    }
    let names = archive_names(&to, &args.additional_tag)?;
    let watch = progress::watch(args.quiet);
    let copied = args.sides.retry().run(|| match (&to, &names) {
        (Location::DockerArchive(file, _), Some(names)) => {
            into_archive((&from, &source), file, names, &options, &watch)
        }
        _ => flags::copy((&from, &source), (&to, &target), &options, &watch),
    })?;
    if let Some(file) = &args.digestfile {
        std::fs::write(file, copied.digest.to_string())
            .map_err(|e| Failure::new(format!("write {}: {e}", file.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All names of the image in the archive that it goes to, when there are further ones.
fn archive_names(to: &Location, further: &[String]) -> Result<Option<Vec<String>>, Failure> {
    if further.is_empty() {
        return Ok(None);
    }
    let Location::DockerArchive(_, entry) = to else {
        return Err(Failure::new(format!(
            "--additional-tag is for docker-archive: only, and not for {to}"
        )));
    };
    let mut names = match entry {
        ArchiveEntry::Named(name) => vec![name.to_string()],
        ArchiveEntry::Only | ArchiveEntry::At(_) => Vec::new(),
    };
    for text in further {
        let name = Reference::parse(text)?;
        if name.tag().is_none() || name.digest().is_some() {
            return Err(Failure::new(format!(
                "additional-tag {text:?} must be a name with a tag"
            )));
        }
        names.push(name.to_string());
    }
    Ok(Some(names))
}

/// The same as [`flags::copy`] for an archive in which the image has several names.
fn into_archive(
    (from, access): (&Location, &Access),
    file: &Path,
    names: &[String],
    options: &Options,
    watch: &Watch,
) -> Result<Document, Failure> {
    remote::block_on(async {
        let source = Source::open(from, access).await?;
        if let Some(policy) = &options.policy {
            source.check(policy)?;
        }
        let writer = ArchiveWriter::create(file)?;
        let target = Target::in_archive(&writer, names.to_vec());
        let copied = transfer::copy(&source, target, options, watch).await?;
        writer.finish()?;
        Ok(copied)
    })
}
