//! `floe build`: an image of a Containerfile. Flags are podman's, and what is printed is buildah's: `STEP …`, `COMMIT …`,
//! the image's id last.

pub(crate) mod around;
pub(crate) mod context;
pub(crate) mod flags;
mod refused;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use build::{Cancel, Error, Request};
use engine::Engine;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::pull::PullFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::names;
use crate::refused::NotOffered;
use flags::{Commands, Image, Inputs, Steps, WithoutEffect};
use watch::Progress;

/// The exit code of a build that a signal ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// Options of `floe build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    image: Image,
    #[command(flatten)]
    steps: Steps,
    #[command(flatten)]
    commands: Commands,
    #[command(flatten)]
    from: PullFlags,
    /// When to pull: missing, always, newer, never; true for always and false for missing
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always", default_value = "missing", value_parser = flags::WHEN)]
    pull: String,
    /// The same as --pull=always
    #[arg(long)]
    pull_always: bool,
    /// The same as --pull=never
    #[arg(long)]
    pull_never: bool,
    /// Print the image's id alone
    #[arg(long, short)]
    quiet: bool,
    /// plain, or json for a document a line; auto is plain
    #[arg(long, value_name = "FORM", default_value = "auto", value_parser = ["auto", "plain", "json"])]
    progress: String,
    /// Write to this file what is printed but the id
    #[arg(long, value_name = "FILE")]
    logfile: Option<PathBuf>,
    #[command(flatten)]
    _without_effect: WithoutEffect,
    #[command(flatten)]
    _refused: NotOffered<refused::NotInBuild>,
    /// Directory with the files that are copied, or - for a Containerfile from standard input
    #[arg(value_name = "CONTEXT")]
    context: Option<String>,
}

impl Args {
    fn pull_policy(&self) -> &str {
        match self.pull.as_str() {
            _ if self.pull_always => "always",
            _ if self.pull_never => "never",
            "true" => "always",
            "false" | "ifmissing" | "notpresent" => "missing",
            "ifnewer" => "newer",
            other => other,
        }
    }
}

pub(crate) fn run(global: &Global, engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let read = context::read(&args.inputs, args.context.as_deref())?;
    let names = args.image.tag.iter().map(|name| names::local(name));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let platform = args.from.platform()?;
    let request = Request {
        file: read.file,
        context: read.directory,
        ignore: read.ignore,
        contexts: args.inputs.contexts()?,
        arguments: args.inputs.arguments()?,
        target: args.inputs.target.clone(),
        platform,
        layers: args.image.layers()?,
        format: args.image.format(),
        names: names.iter().map(ToString::to_string).collect(),
        labels: args.image.labels()?,
        environment: args.image.environment()?,
        unset: args.image.unsetenv.clone(),
        annotations: args.image.annotations()?,
        omit_history: args.image.omit_history,
        no_cache: args.steps.no_cache,
        cache_ttl: args.steps.cache_ttl,
        secrets: args.steps.secrets()?,
        created: args.image.stamps.created()?,
        times: args.image.stamps.times()?,
        commands: args.commands.of_build()?,
    };
    let around = around::Node {
        global,
        engine,
        from: &args.from,
        policy: args.pull_policy(),
        quiet: args.quiet,
    };
    let cancel = Arc::new(Cancel::default());
    follow_signals(engine, &cancel)?;
    let progress = Progress::new(args.quiet, &args.progress, args.logfile.as_deref())?;
    let built = build::build(engine, &request, &around, &progress, &cancel).map_err(failure)?;
    progress.done(&request.names, &built.id)?;
    if let Some(file) = &args.image.iidfile {
        let written = std::fs::write(file, format!("sha256:{}", built.id));
        written.map_err(|e| Failure::new(format!("write {}: {e}", file.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit code is the command's that failed.
fn failure(error: Error) -> Failure {
    let code = match &error {
        Error::Interrupted => Some(INTERRUPTED),
        Error::Step {
            exit: Some(code), ..
        } => u8::try_from(*code).ok().filter(|code| *code > 0),
        _ => None,
    };
    let failure = Failure::new(error.to_string());
    match code {
        Some(code) => failure.with_code(code),
        None => failure,
    }
}

/// A signal that asks for the end stops the build, which then takes back what it has made.
fn follow_signals(engine: &Engine, cancel: &Arc<Cancel>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (engine, cancel) = (engine.clone(), Arc::clone(cancel));
    std::thread::spawn(move || {
        for _ in &mut signals {
            cancel.stop(&engine);
            // A container that was being made is told as well.
            std::thread::sleep(Duration::from_millis(50));
            cancel.stop(&engine);
        }
    });
    Ok(())
}
