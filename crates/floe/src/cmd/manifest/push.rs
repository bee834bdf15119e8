//! `floe manifest push`: the list, and with it the images that it points at.

use std::path::PathBuf;
use std::process::ExitCode;

use engine::Engine;
use transfer::{Format, Instances, Location, Options, Source, Target};

use super::{open, swap};
use crate::cmd::copy::flags::format;
use crate::cmd::sign::SignFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::progress::watch;
use crate::remote::{self, Flags, PolicyFlags, Remote};

/// Options of `floe manifest push`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Push the images, too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    all: bool,
    /// Remove the list when it is pushed
    #[arg(long, visible_alias = "purge", short_alias = 'p')]
    rm: bool,
    /// Type of the manifests to write: oci or v2s2 [default: as they are]
    #[arg(long, short, value_parser = format())]
    format: Option<Format>,
    /// Write the digest of the pushed list to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Print nothing
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    sign: SignFlags,
    #[command(flatten)]
    flags: Flags,
    /// Name of the list
    list: String,
    /// Where to, with or without docker:// [default: the list's name]
    destination: Option<String>,
}

pub(super) fn run(global: &Global, engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let (name, old, list) = open(engine.store(), &args.list)?;
    let destination = args.destination.as_deref().unwrap_or(&name);
    let to = match destination.contains("://") || Location::parse(destination).is_ok() {
        true => Location::parse(destination)?,
        false => Location::parse(&format!("docker://{destination}"))?,
    };
    let remote = Remote::new(global)?;
    let mut places = Vec::new();
    for (_, place) in list.places()? {
        // The user and password are the destination's.
        let access = args.flags.without_creds().access(&remote, &place)?;
        places.push((place, access));
    }
    let target_access = args.flags.access(&remote, &to)?;
    let options = Options {
        instances: match args.all {
            true => Instances::All,
            false => Instances::IndexOnly,
        },
        format: args.format,
        policy: remote.policy(&PolicyFlags::default())?,
        signing: args.sign.signing()?,
        ..Options::default()
    };
    let pushed = remote::block_on(async {
        let mut images = Vec::new();
        for (place, access) in &places {
            let source = Source::open(place, access).await?;
            if let Some(policy) = &options.policy {
                source.check(policy)?;
            }
            images.push(source);
        }
        let source = list.source(&name, images)?;
        let target = Target::open(&to, &target_access).await?;
        Ok(transfer::copy(&source, target, &options, &watch(args.quiet)).await?)
    })?;
    if let Some(file) = &args.digestfile {
        std::fs::write(file, pushed.digest.to_string())
            .map_err(|e| Failure::new(format!("write {}: {e}", file.display())))?;
    }
    if args.rm {
        swap(engine.store(), &name, Some(&old), None)?;
    }
    Ok(ExitCode::SUCCESS)
}
