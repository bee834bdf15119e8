//! `buildah commit`: an image of a working container, in the store or at another place.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use build::Format;
use build::working::{Committing, Working};
use engine::Engine;
use image::Compression;
use store::{ImageRecord, Times};
use transfer::{Location, Options};

use crate::cmd::build::flags::Stamps;
use crate::cmd::copy::compress_format;
use crate::cmd::import::change;
use crate::cmd::run::env;
use crate::cmd::sign::SignFlags;
use crate::cmd::{manifest, stored};
use crate::failure::Failure;
use crate::global::Global;
use crate::names;
use crate::refused::{List, NotOffered, Refused, Takes};
use crate::remote::Flags;

/// Options of `buildah commit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// KEY=VALUE, an annotation of the manifest
    #[arg(long, value_name = "ANNOTATION")]
    annotation: Vec<String>,
    /// An instruction of a Containerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL,
    /// USER, VOLUME or WORKDIR
    #[arg(long, short, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// gzip or zstd, for layers that are not compressed, at another place
    #[arg(long, value_name = "FORMAT", value_parser = compress_format)]
    compression_format: Option<Compression>,
    /// Level of the compression
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<i32>,
    /// Compress layers again that are compressed in another way
    #[arg(long)]
    force_compression: bool,
    /// Accepted for buildah's sake: layers are compressed
    #[arg(long, short = 'D', value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_compression: Option<bool>,
    /// oci or docker [default: the container's]
    #[arg(long, short, value_name = "FORMAT", value_parser = ["oci", "docker"])]
    format: Option<String>,
    /// Accepted for buildah's sake: no label says what built an image
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    identity_label: Option<bool>,
    /// Write the image's id to this file, instead of printing it
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Add the image to this list of manifests, which is made if need be
    #[arg(long, value_name = "LIST")]
    manifest: Option<String>,
    /// Make an image without its history
    #[arg(long)]
    omit_history: bool,
    /// The same as --timestamp 0
    #[arg(long, conflicts_with_all = ["timestamp", "source_date_epoch", "reference_time"])]
    omit_timestamp: bool,
    /// The image and all its new files are made when this file was changed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["timestamp", "source_date_epoch"])]
    reference_time: Option<PathBuf>,
    #[command(flatten)]
    stamps: Stamps,
    /// Print nothing but the id
    #[arg(long, short)]
    quiet: bool,
    /// Remove the container afterwards
    #[arg(long)]
    rm: bool,
    /// One layer, with what is in the image
    #[arg(long)]
    squash: bool,
    /// A variable that the image is not to have
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    unsetenv: Vec<String>,
    #[command(flatten)]
    sign: SignFlags,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    _refused: NotOffered<NotInCommit>,
    /// Name or id
    #[arg(default_value = "", hide_default_value = true)]
    container: String,
    /// Name to give the image, or TRANSPORT:PLACE
    image: Option<String>,
}

/// What buildah's commit has besides.
#[derive(Debug)]
pub(crate) struct NotInCommit;

const ENCRYPTION: &str = "floe does not encrypt or decrypt layers";
const SBOM: &str = "floe makes no list of an image's parts";

use Takes::{Nothing, Value};

impl List for NotInCommit {
    const OPTIONS: &'static [Refused] = &[
        ("add-file", Value, "use copy before commit"),
        ("blob-cache", Value, "images are in floe's store"),
        (
            "config",
            Value,
            "write single instructions with --change, or use config",
        ),
        (
            "created-annotation",
            Value,
            "the time is in the image's configuration: use --annotation",
        ),
        (
            "cw",
            Value,
            "floe makes no images of confidential workloads",
        ),
        ("encrypt-layer", Value, ENCRYPTION),
        ("encryption-key", Value, ENCRYPTION),
        (
            "metadata-file",
            Value,
            "use --iidfile, and inspect for the rest",
        ),
        ("pull", Value, SBOM),
        ("pull-always", Nothing, SBOM),
        ("pull-never", Nothing, SBOM),
        ("sbom", Value, SBOM),
        ("sbom-image-output", Value, SBOM),
        ("sbom-image-purl-output", Value, SBOM),
        ("sbom-merge-strategy", Value, SBOM),
        ("sbom-output", Value, SBOM),
        ("sbom-purl-output", Value, SBOM),
        ("sbom-scanner-command", Value, SBOM),
        ("sbom-scanner-image", Value, SBOM),
        (
            "unsetannotation",
            Value,
            "use config --unsetannotation before",
        ),
    ];
}

pub(crate) fn run(global: &Global, engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let to = args.image.as_deref().map(destination).transpose()?;
    let names = match &to {
        Some(Location::Store(name)) => vec![name.clone()],
        _ => Vec::new(),
    };
    let committing = args.committing(names)?;
    let mut working = super::open(engine, &args.container)?;
    for instruction in &args.change {
        change::apply(&mut working.record.config, instruction)?;
    }
    let lease = engine.store().lease().map_err(engine::Error::from)?;
    let elsewhere = to.filter(|to| !matches!(to, Location::Store(_)));
    let image = match elsewhere {
        None => {
            let image = working.commit(engine, &lease, &committing)?;
            if args.iidfile.is_none() {
                println!("{}", image.id);
            }
            image
        }
        Some(to) => args.send(global, engine, (&working, &lease), &committing, to)?,
    };
    if let Some(list) = &args.manifest {
        manifest::put_image(global, engine, list, &image.id)?;
    }
    if let Some(file) = &args.iidfile {
        let written = std::fs::write(file, format!("sha256:{}", image.id));
        written.map_err(|e| Failure::new(format!("write {}: {e}", file.display())))?;
    }
    if args.rm {
        working.remove()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A place that is written as one, or a name in the store.
fn destination(text: &str) -> Result<Location, Failure> {
    let text = super::in_store(text);
    match text.contains("://") || Location::parse(text).is_ok() {
        true => Ok(Location::parse(text)?),
        false => {
            let name = names::local(text).map_err(|error| {
                Failure::new(format!("parsing target image name {text:?}: {error}"))
            })?;
            Ok(Location::Store(name.to_string()))
        }
    }
}

impl Args {
    fn committing(&self, names: Vec<String>) -> Result<Committing, Failure> {
        let reference = match &self.reference_time {
            Some(file) => Some(modified(file)?),
            None => self.omit_timestamp.then_some(0),
        };
        let (created, times) = match reference {
            Some(time) => (Some(time), Times::All(time)),
            None => (self.stamps.created()?, self.stamps.times()?),
        };
        let annotations = env::pairs("--annotation", &self.annotation, false)?;
        Ok(Committing {
            names,
            format: self.format.as_deref().map(|format| match format {
                "docker" => Format::Docker,
                _ => Format::Oci,
            }),
            squash: self.squash,
            created,
            times,
            omit_history: self.omit_history,
            annotations: annotations.into_iter().collect(),
            unset: self.unsetenv.clone(),
        })
    }

    /// Makes the image, sends it to a place that is not the store, and leaves none here that was not there before.
    fn send(
        &self,
        global: &Global,
        engine: &Engine,
        (working, lease): (&Working, &store::Lease),
        committing: &Committing,
        to: Location,
    ) -> Result<ImageRecord, Failure> {
        let options = Options {
            signing: self.sign.signing()?,
            compression: self.compression_format,
            level: self.compression_level,
            force_compression: self.force_compression,
            ..Options::default()
        };
        let image = working.commit(engine, lease, committing)?;
        let places = (Location::Store(image.id.clone()), to);
        let sent = stored::move_image(global, &self.flags, places, &options, self.quiet);
        // One that had a name before has it still.
        let is_named = engine
            .find_image(&image.id)?
            .is_some_and(|found| !found.names.is_empty());
        if !is_named && self.manifest.is_none() {
            engine.remove_image(&image.id)?;
        }
        sent.map(|_| image)
    }
}

fn modified(file: &Path) -> Result<i64, Failure> {
    let failed = |why: String| {
        Failure::new(format!(
            "reading timestamp of file {:?}: {why}",
            file.display()
        ))
    };
    let modified = std::fs::metadata(file).and_then(|found| found.modified());
    let modified = modified.map_err(|e| failed(e.to_string()))?;
    let since = modified.duration_since(std::time::UNIX_EPOCH);
    let since = since.map_err(|_| failed("it is before 1970".to_owned()))?;
    i64::try_from(since.as_secs()).map_err(|e| failed(e.to_string()))
}
