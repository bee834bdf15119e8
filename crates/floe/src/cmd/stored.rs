//! `floe push`, `save`, `load` and `tag`: podman's words for moving what is in the store.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use engine::Engine;
use image::{AnyManifest, Compression, Reference};
use transfer::{ArchiveWriter, Format, Location, Options, PrivateDir, Source, Target};

use super::copy::flags::format;
use super::copy::{NO_ENCRYPTION, compress_format};
use super::sign::SignFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::names;
use crate::progress::watch;
use crate::refused::{self, List, NotOffered, Takes};
use crate::remote::{self, Flags, PolicyFlags, Remote, RetryFlags};
use crate::{clock, output};

/// Options of `floe push`.
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// Print nothing
    #[arg(long, short)]
    quiet: bool,
    /// Type of the manifest to write: oci or v2s2 [default: as it is]
    #[arg(long, short, value_parser = format())]
    format: Option<Format>,
    /// gzip or zstd, for layers that are not compressed
    #[arg(long, value_name = "FORMAT", value_parser = compress_format)]
    compression_format: Option<Compression>,
    /// Level of the compression
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<i32>,
    /// Compress layers again that are compressed in another way
    #[arg(long)]
    force_compression: bool,
    /// Compress the layers in a directory (dir:)
    #[arg(long)]
    compress: bool,
    /// Write the digest of the manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// How many times to begin again after a registry that was away or failed
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 3,
        hide_default_value = true
    )]
    retry: u32,
    /// How long to wait before that
    #[arg(long, value_name = "DURATION", value_parser = clock::duration)]
    retry_delay: Option<Duration>,
    /// Accepted for docker's sake: --sign-by and its like sign
    #[arg(long)]
    disable_content_trust: bool,
    #[command(flatten)]
    sign: SignFlags,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
    /// Name or id
    image: String,
    /// Where to, with or without docker:// [default: the image's name]
    destination: Option<String>,
}

/// What podman's push has besides.
#[derive(Debug)]
pub(crate) struct Refused;

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[
        ("encryption-key", Takes::Value, NO_ENCRYPTION),
        ("encrypt-layer", Takes::Value, NO_ENCRYPTION),
    ];
}

/// Options of `floe save`.
#[derive(Debug, clap::Args)]
pub(crate) struct SaveArgs {
    /// File or directory to make [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// docker-archive, oci-archive, oci-dir or docker-dir
    #[arg(long, default_value = "docker-archive", value_parser = ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])]
    format: String,
    /// Print nothing
    #[arg(long, short)]
    quiet: bool,
    /// Compress the layers in a directory (docker-dir)
    #[arg(long)]
    compress: bool,
    /// Leave layers without compression in oci-archive and oci-dir
    #[arg(long)]
    uncompressed: bool,
    /// Take all arguments for images, and write them into one docker-archive
    #[arg(long, short)]
    multi_image_archive: bool,
    /// Name or id; what follows are further names for the image in the archive, or further images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Options of `floe load`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Archive or directory to read [default: standard input]
    #[arg(long, short, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print only what was loaded
    #[arg(long, short)]
    quiet: bool,
}

/// Options of `floe tag`.
#[derive(Debug, clap::Args)]
pub(crate) struct TagArgs {
    /// Name or id
    image: String,
    /// Further names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) fn push(global: &Global, engine: &Engine, args: &PushArgs) -> Result<ExitCode, Failure> {
    let image = engine.image(&args.image)?;
    let destination = match &args.destination {
        Some(text) if text.contains("://") || Location::parse(text).is_ok() => text.clone(),
        Some(text) => format!("docker://{text}"),
        None => {
            let name = engine
                .tag_meant(&image, &args.image)
                .ok_or_else(|| Failure::new(format!("{}: say where to push it", args.image)))?;
            format!("docker://{name}")
        }
    };
    let to = Location::parse(&destination)?;
    let compressed = args.compress && matches!(to, Location::Dir(_));
    let options = Options {
        format: args.format,
        signing: args.sign.signing()?,
        compression: args
            .compression_format
            .or(compressed.then_some(Compression::Gzip)),
        level: args.compression_level,
        force_compression: args.force_compression,
        ..Options::default()
    };
    let places = (Location::Store(image.id), to);
    let retry = RetryFlags::of(args.retry, args.retry_delay);
    let pushed =
        retry.run(|| move_image(global, &args.flags, places.clone(), &options, args.quiet))?;
    if let Some(file) = &args.digestfile {
        std::fs::write(file, pushed.digest.to_string())
            .map_err(|e| Failure::new(format!("write {}: {e}", file.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn save(global: &Global, engine: &Engine, args: &SaveArgs) -> Result<ExitCode, Failure> {
    let archive = args.format == "docker-archive";
    if args.images.len() > 1 && !archive {
        return Err(Failure::new(format!(
            "{} holds one image under one name: only docker-archive holds more",
            args.format
        )));
    }
    let spool = match &args.output {
        Some(_) => None,
        None if args.format.ends_with("-dir") => {
            return Err(Failure::new("a directory needs a place: give --output"));
        }
        None => Some(PrivateDir::new()?),
    };
    let path = match (&args.output, &spool) {
        (Some(path), _) => path.clone(),
        (None, Some(spool)) => spool.path().join("image.tar"),
        (None, None) => return Err(Failure::new("there is no place for the archive")),
    };
    let quiet = args.quiet || spool.is_some();
    match archive {
        true => save_archive(global, engine, args, &path, quiet)?,
        false => save_one(global, engine, args, &path, quiet)?,
    }
    if spool.is_some() {
        io::copy(&mut std::fs::File::open(path)?, &mut io::stdout())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn save_one(
    global: &Global,
    engine: &Engine,
    args: &SaveArgs,
    path: &Path,
    quiet: bool,
) -> Result<(), Failure> {
    let asked = args.images.first().map_or("", String::as_str);
    let image = engine.image(asked)?;
    let name = engine.tag_meant(&image, asked);
    let to = match args.format.as_str() {
        "oci-archive" => Location::LayoutArchive(path.to_owned(), name),
        "oci-dir" => Location::Layout(path.to_owned(), name),
        _ => Location::Dir(path.to_owned()),
    };
    let compression = match args.format.as_str() {
        "docker-dir" => args.compress.then_some(Compression::Gzip),
        _ => args.uncompressed.then_some(Compression::None),
    };
    let options = Options {
        compression,
        plain_in_layouts: args.uncompressed,
        ..Options::default()
    };
    let flags = Flags::default();
    move_image(
        global,
        &flags,
        (Location::Store(image.id), to),
        &options,
        quiet,
    )?;
    Ok(())
}

/// Images and their names in one archive: as many images as arguments, or one with many names.
fn save_archive(
    global: &Global,
    engine: &Engine,
    args: &SaveArgs,
    path: &Path,
    quiet: bool,
) -> Result<(), Failure> {
    let images = match args.multi_image_archive {
        true => args.images.as_slice(),
        false => &args.images[..1],
    };
    let mut wanted = Vec::new();
    for asked in images {
        let image = engine.image(asked)?;
        let name = engine.tag_meant(&image, asked);
        wanted.push((image, Vec::from_iter(name)));
    }
    if !args.multi_image_archive {
        for name in &args.images[1..] {
            let name = Reference::parse(name)?.or_latest();
            wanted
                .iter_mut()
                .for_each(|(_, names)| names.push(name.to_string()));
        }
    }
    let remote = Remote::new(global)?;
    let writer = ArchiveWriter::create(path)?;
    for (image, names) in wanted {
        let from = Location::Store(image.id);
        let access = Flags::default().access(&remote, &from)?;
        remote::block_on(async {
            let source = Source::open(&from, &access).await?;
            let target = Target::in_archive(&writer, names);
            Ok(transfer::copy(&source, target, &Options::default(), &watch(quiet)).await?)
        })?;
    }
    Ok(writer.finish()?)
}

pub(crate) fn load(global: &Global, engine: &Engine, args: &LoadArgs) -> Result<ExitCode, Failure> {
    let (path, _spool) = match &args.input {
        Some(path) => (path.clone(), None),
        None => {
            let spool = PrivateDir::new()?;
            let path = spool.path().join("stdin");
            io::copy(&mut io::stdin(), &mut std::fs::File::create_new(&path)?)?;
            (path, Some(spool))
        }
    };
    let policy = Remote::new(global)?.policy(&PolicyFlags::default())?;
    let mut loaded = Vec::new();
    let contents = transfer::contents(&path).map_err(|error| {
        Failure::new(format!(
            "payload does not match any of the supported image formats:\n * {error}"
        ))
    })?;
    for content in contents {
        let first = content.names.first().cloned().unwrap_or_default();
        let places = (content.location, Location::Store(first));
        let options = Options {
            policy: policy.clone(),
            ..Options::default()
        };
        let copied = move_image(global, &Flags::default(), places, &options, args.quiet)?;
        let AnyManifest::Manifest(manifest) = copied.parse()? else {
            return Err(Failure::new("what was loaded is not one image"));
        };
        let id = manifest.id(&copied.digest);
        for name in content.names.iter().skip(1) {
            let name = Reference::parse(name)?.or_latest();
            engine.tag_image(id, &name.to_string())?;
        }
        if content.names.is_empty() {
            loaded.push(format!("sha256:{id}"));
        }
        loaded.extend(content.names);
    }
    for name in loaded {
        println!("Loaded image: {}", output::shown(&name));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn tag(engine: &Engine, args: &TagArgs) -> Result<ExitCode, Failure> {
    for name in &args.names {
        let reference = names::local(name)?;
        engine.tag_image(&args.image, &reference.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Copies an image from one place to another.
pub(crate) fn move_image(
    global: &Global,
    flags: &Flags,
    (from, to): (Location, Location),
    options: &Options,
    quiet: bool,
) -> Result<transfer::Document, Failure> {
    let remote = Remote::new(global)?;
    let (source_access, target_access) =
        (flags.access(&remote, &from)?, flags.access(&remote, &to)?);
    remote::block_on(async {
        let source = Source::open(&from, &source_access).await?;
        let target = Target::open(&to, &target_access).await?;
        Ok(transfer::copy(&source, target, options, &watch(quiet)).await?)
    })
}
