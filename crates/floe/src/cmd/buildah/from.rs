//! `buildah from`: a working container of an image.

use std::path::PathBuf;
use std::process::ExitCode;

use build::Surroundings;
use build::working::{self, Beginning, SCRATCH};
use engine::Engine;

use crate::cmd::build::around::Node;
use crate::cmd::build::flags::{Commands, WHEN};
use crate::cmd::pull::PullFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::names;
use crate::refused::{List, NotOffered, Refused, Takes};

/// Options of `buildah from`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the working container [default: IMAGE-working-container]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// The form of its images: oci or docker
    #[arg(long, short, value_name = "FORMAT", env = "BUILDAH_FORMAT", default_value = "oci", value_parser = ["oci", "docker"])]
    format: String,
    /// When to pull: missing, always, newer, never; true for always and false for never
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always", default_value = "missing", value_parser = WHEN)]
    pull: String,
    /// The same as --pull=always
    #[arg(long)]
    pull_always: bool,
    /// The same as --pull=never
    #[arg(long)]
    pull_never: bool,
    /// Print nothing of the pull
    #[arg(long, short)]
    quiet: bool,
    /// Accepted for buildah's sake: commands have containers of floe's own
    #[arg(long, value_name = "KIND", env = "BUILDAH_ISOLATION", value_parser = ["oci", "rootless", "chroot", "default"])]
    isolation: Option<String>,
    #[command(flatten)]
    commands: Commands,
    #[command(flatten)]
    from: PullFlags,
    #[command(flatten)]
    _refused: NotOffered<NotInFrom>,
    /// Name or id, TRANSPORT:PLACE, or scratch
    #[arg(default_value = "", hide_default_value = true)]
    image: String,
}

/// What buildah's from has besides.
#[derive(Debug)]
pub(crate) struct NotInFrom;

const NAMESPACE: &str = "commands have namespaces of their own";
const RESOLVER: &str = "commands have the node's resolver";
const USERS: &str = "commands have the node's users";

impl List for NotInFrom {
    const OPTIONS: &'static [Refused] = &[
        ("cgroupns", Takes::Value, NAMESPACE),
        (
            "decryption-key",
            Takes::Value,
            "floe does not encrypt or decrypt layers",
        ),
        (
            "device",
            Takes::Value,
            "commands get no devices of the node but the usual ones",
        ),
        ("dns", Takes::Value, RESOLVER),
        ("dns-option", Takes::Value, RESOLVER),
        ("dns-search", Takes::Value, RESOLVER),
        ("ipc", Takes::Value, NAMESPACE),
        ("pid", Takes::Value, NAMESPACE),
        ("userns", Takes::Value, USERS),
        ("userns-gid-map", Takes::Value, USERS),
        ("userns-gid-map-group", Takes::Value, USERS),
        ("userns-uid-map", Takes::Value, USERS),
        ("userns-uid-map-user", Takes::Value, USERS),
        ("uts", Takes::Value, NAMESPACE),
    ];
}

pub(crate) fn run(global: &Global, engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    if args.image.is_empty() {
        return Err(Failure::new(
            "an image name (or \"scratch\") must be specified",
        ));
    }
    if let Some(name) = &args.name {
        names::check(name)?;
    }
    // What a command would be told later is told now.
    args.commands.of_build()?;
    let platform = args.from.platform()?;
    let around = Node {
        global,
        engine,
        from: &args.from,
        policy: match args.pull.as_str() {
            _ if args.pull_always => "always",
            _ if args.pull_never => "never",
            "true" => "always",
            "false" => "never",
            "ifmissing" | "notpresent" => "missing",
            "ifnewer" => "newer",
            other => other,
        },
        quiet: args.quiet,
    };
    let wanted = super::in_store(&args.image);
    let image = match wanted {
        SCRATCH => None,
        name => Some(around.image(name, Some(&platform)).map_err(Failure::new)?),
    };
    if image.as_ref().is_some_and(|image| image.is_artifact()) {
        return Err(Failure::new(format!(
            "{} is no image of a container but an artifact",
            args.image
        )));
    }
    let made = working::make(
        engine,
        &Beginning {
            image: image.as_ref().map(|image| (wanted, image)),
            name: args.name.as_deref(),
            platform,
            format: &args.format,
            commands: args.commands.words(),
        },
    )?;
    if let Some(file) = &args.cidfile {
        let written = std::fs::write(file, &made.id);
        written.map_err(|e| Failure::new(format!("write {}: {e}", file.display())))?;
    }
    println!("{}", made.name);
    Ok(ExitCode::SUCCESS)
}
