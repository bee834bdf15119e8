//! `floe system`: what is done to the whole. Here are `check`: is the image store sound, and make it so (podman system
//! check); and `convert`: its layers in another form.

mod df;
mod prune;

use std::collections::HashSet;
use std::process::ExitCode;

use clap::Subcommand;
use engine::Engine;
use store::{Check, Finding, Form, Outcome, Report};

use super::info;
use crate::failure::Failure;
use crate::output;

/// The exit code for a store that is whole, with something left over in it.
const LEFTOVERS: u8 = 3;

/// What can be done to the whole.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check the image store, and repair it if that is asked for
    ///
    /// Ends with 0 if all is well, 125 if something is damaged, and 3 if all that is listed is whole and a
    /// command that was killed has left something over.
    Check(CheckArgs),
    /// Show what images, containers and volumes take on disk
    Df(df::Args),
    /// Show what this node is, as containers find it
    Info(info::Args),
    /// Remove what nothing uses: containers that do not run, and images without a name
    Prune(prune::PruneArgs),
    /// Remove all that people made, and all images that kubelet's containers do not use
    Reset(prune::ResetArgs),
    /// Give layers another form: unpacked directories, or archives with an index
    ///
    /// Layers that a container stands on stay as they are, and are named. One that cannot have the form stays, too.
    Convert(ConvertArgs),
}

/// Options of `floe system convert`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConvertArgs {
    /// The form: unpacked or erofs
    #[arg(long, value_name = "FORM")]
    form: Form,
    /// Images whose layers are converted; those of all images without one
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Options of `floe system check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Look at names and sizes only, not at all that blobs and layers hold
    #[arg(long, short)]
    quick: bool,
    /// Make good what can be made good; remove images that cannot, and what nothing belongs to
    #[arg(long, short)]
    repair: bool,
}

pub(crate) fn run(engine: &Engine, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Check(args) => check(engine, args),
        Command::Df(args) => df::run(engine, args),
        Command::Info(args) => info::run(engine, args),
        Command::Prune(args) => prune::prune(engine, args),
        Command::Reset(args) => prune::reset(engine, args),
        Command::Convert(args) => convert(engine, args),
    }
}

fn convert(engine: &Engine, args: &ConvertArgs) -> Result<ExitCode, Failure> {
    let store = engine.store();
    if !store.can_have(args.form) {
        return Err(Failure::new(format!(
            "layers cannot have the form {} here: see the warning",
            args.form
        )));
    }
    let images = match args.images.is_empty() {
        true => engine.images(None)?,
        false => {
            let find = |name: &String| engine.image(name);
            args.images.iter().map(find).collect::<Result<_, _>>()?
        }
    };
    let (mut converted, mut refused, mut seen) = (0, 0, HashSet::new());
    for image in images {
        for layer in store.layers_of(&image)? {
            if !seen.insert(layer.diff_id().clone()) {
                continue;
            }
            match store.convert(&layer, args.form) {
                Ok(true) => converted += 1,
                Ok(false) => {}
                Err(
                    error @ (store::Error::Unsupported { .. } | store::Error::LayerBlobGone { .. }),
                ) => {
                    refused += 1;
                    println!("{}", output::lines(&error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    println!(
        "Converted {converted} of {} layers to the form {}",
        seen.len(),
        args.form
    );
    match refused {
        0 => Ok(ExitCode::SUCCESS),
        _ => Err(Failure::new(format!(
            "{refused} layers stay as they are: see above"
        ))),
    }
}

/// `floe check` as well.
///
/// # Errors
/// Damage, or something that is left over.
pub(crate) fn check(engine: &Engine, args: &CheckArgs) -> Result<ExitCode, Failure> {
    let report = engine.store().check(Check {
        quick: args.quick,
        repair: args.repair,
    })?;
    report.findings.iter().for_each(show);
    println!("{}", summary(&report, args.quick));
    match (report.is_damaged(), args.repair) {
        (false, _) if report.has_leftovers() => Err(Failure::new(
            "all images are whole, but something is left over: floe image prune finishes what was cut off, \
             floe system check --repair removes the rest",
        )
        .with_code(LEFTOVERS)),
        (false, _) => Ok(ExitCode::SUCCESS),
        (true, false) => Err(Failure::new(
            "the store is damaged: floe system check --repair repairs it",
        )),
        (true, true) => Err(Failure::new("damage remains in the store: see above")),
    }
}

fn show(finding: &Finding) {
    let outcome = match &finding.outcome {
        Outcome::Found => String::new(),
        Outcome::Repaired(how) => format!(" - {how}"),
        Outcome::Kept(why) => format!(" - not repaired: {why}"),
    };
    let line = format!("{}: {}{outcome}", finding.subject, finding.flaw);
    println!("{}", output::lines(&line));
}

fn summary(report: &Report, quick: bool) -> String {
    format!(
        "Checked {} images, {} layers and {} blobs{}: {}",
        report.images,
        report.layers,
        report.blobs,
        if quick { " by name and size" } else { "" },
        match report.findings.len() {
            0 => "all is well".to_owned(),
            1 => "1 finding".to_owned(),
            count => format!("{count} findings"),
        }
    )
}
