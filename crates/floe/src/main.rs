//! The program `floe`: the CRI engine (`floe serve`) and the commands for people.
//! Parse, dispatch, and the one place where an error becomes a message and an exit code.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the help of commands has brackets around what is optional"
)]

mod attach;
mod cli;
mod clock;
mod cmd;
mod names;
mod output;
mod progress;
mod remote;
mod skopeo;
mod template;
mod terminal;
mod warnings;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command, Global, MoveCommand, NodeCommand};

/// floe itself failed (podman's code for that).
const FAILED: u8 = 125;

fn main() -> ExitCode {
    if skopeo::is_meant() {
        return parsed::<skopeo::Skopeo>(skopeo::FAILED, |cli| {
            skopeo::run(cli).map_err(|failure| {
                let code = match failure.nature() {
                    Nature::Missing => skopeo::MISSING,
                    Nature::Passing | Nature::Lasting => skopeo::FAILED,
                };
                failure.with_code(code)
            })
        });
    }
    if cmd::publish::is_meant() {
        return parsed(FAILED, cmd::publish::run);
    }
    parsed(FAILED, dispatch)
}

/// Parses the command line and does what it says; what cannot be parsed ends with `failed`.
fn parsed<C: Parser>(failed: u8, run: impl FnOnce(C) -> Result<ExitCode, Failure>) -> ExitCode {
    let outcome = match C::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => {
            let code = if error.use_stderr() { failed } else { 0 };
            // Nobody is left to be told that standard output is closed.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // Line by line: names in a message may be an image's.
            let lines = error.message.lines().map(image::printable);
            eprintln!("Error: {}", lines.collect::<Vec<_>>().join("\n"));
            ExitCode::from(error.code)
        }
    }
}

fn dispatch(mut cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Serve(mut args) => {
            cli.global.config = args.config.take().or(cli.global.config);
            cli.global.config_dir = args.config_dir.take().or(cli.global.config_dir);
            cmd::serve::run(&cli.global, &args)
        }
        Command::Registry(args) => cmd::registry::run(&cli.global, args),
        Command::Node(command) => {
            show_warnings();
            on_node(&cli.global, command)
        }
        Command::Move(command) => {
            show_warnings();
            move_images(&cli.global, command)
        }
    }
}

/// What registries warn of, people are told of.
fn show_warnings() {
    warnings::of_the_store();
    distribution::show_warnings(|registry, words| {
        progress::note(&format!("Warning: {registry}: {words}"));
    });
}

fn on_node(global: &Global, command: NodeCommand) -> Result<ExitCode, Failure> {
    let engine = global.open()?;
    match command {
        NodeCommand::Pull(args) => cmd::pull::run(&engine, &args),
        NodeCommand::Images(args) => cmd::images::run(&engine, &args),
        NodeCommand::Rmi(args) => cmd::rmi::run(&engine, &args),
        NodeCommand::Run(args) => cmd::run::run(&engine, *args),
        NodeCommand::Ps(args) => cmd::ps::run(&engine, &args),
        NodeCommand::Logs(args) => cmd::logs::run(&engine, &args),
        NodeCommand::Exec(args) => cmd::exec::run(&engine, &args),
        NodeCommand::Stop(args) => cmd::stop::run(&engine, &args),
        NodeCommand::Rm(args) => cmd::rm::run(&engine, &args),
        NodeCommand::Tag(args) => cmd::stored::tag(&engine, &args),
        NodeCommand::Push(args) => cmd::stored::push(global, &engine, &args),
        NodeCommand::Save(args) => cmd::stored::save(global, &engine, &args),
        NodeCommand::History(args) => cmd::history::run(&engine, &args),
        NodeCommand::Import(args) => cmd::import::run(global, &engine, &args),
        NodeCommand::Image(command) => cmd::image::run(global, &engine, command),
        NodeCommand::Manifest(command) => cmd::manifest::run(global, &engine, command),
        NodeCommand::System(command) => cmd::system::run(&engine, &command),
        NodeCommand::Load(args) => cmd::stored::load(global, &engine, &args),
    }
}

fn move_images(global: &Global, command: MoveCommand) -> Result<ExitCode, Failure> {
    match command {
        MoveCommand::Copy(args) => cmd::copy::run(global, &args),
        MoveCommand::Artifact(command) => cmd::artifact::run(global, &command),
        MoveCommand::Sync(args) => cmd::sync::run(global, &args),
        MoveCommand::Inspect(args) => cmd::inspect::run(global, &args),
        MoveCommand::ListTags(args) => cmd::list_tags::run(global, &args),
        MoveCommand::Delete(args) => cmd::delete::run(global, &args),
        MoveCommand::ManifestDigest(args) => cmd::manifest_digest::run(&args),
        MoveCommand::StandaloneSign(args) => cmd::sign::standalone_sign(&args),
        MoveCommand::StandaloneVerify(args) => cmd::sign::standalone_verify(&args),
        MoveCommand::GenerateSigstoreKey(args) => cmd::sign::generate(&args),
        MoveCommand::Login(args) => cmd::login::login(global, &args),
        MoveCommand::Logout(args) => cmd::login::logout(global, &args),
    }
}

/// Why a command failed, in words, and the exit code that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
    nature: Nature,
}

/// What may be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// The image that was asked for is not there.
    Missing,
    /// Another try may help.
    Passing,
    /// Anything else.
    Lasting,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: FAILED,
            nature: Nature::Lasting,
        }
    }

    pub(crate) fn nature(&self) -> Nature {
        self.nature
    }

    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Errors quote what registries and archives say.
        f.write_str(&output::lines(&self.message))
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<image::Error> for Failure {
    fn from(error: image::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<trust::Error> for Failure {
    fn from(error: trust::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<distribution::Error> for Failure {
    fn from(error: distribution::Error) -> Self {
        let nature = nature(&error);
        Self {
            nature,
            ..Self::new(error.to_string())
        }
    }
}

/// What a registry's failure is, where it is the one that decides.
fn nature(error: &distribution::Error) -> Nature {
    use distribution::Error as E;
    match error.deciding() {
        E::NotFound { at, .. } if at.subject.starts_with("manifest ") => Nature::Missing,
        E::Unreachable { .. }
        | E::ServerError { .. }
        | E::RateLimited { .. }
        | E::Truncated { .. } => Nature::Passing,
        _ => Nature::Lasting,
    }
}

impl From<trust::SignatureFlaw> for Failure {
    fn from(flaw: trust::SignatureFlaw) -> Self {
        Self::new(flaw.to_string())
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<transfer::Error> for Failure {
    fn from(error: transfer::Error) -> Self {
        let nature = match &error {
            transfer::Error::Registry(error) => nature(error),
            transfer::Error::Missing { .. } => Nature::Missing,
            _ => Nature::Lasting,
        };
        Self {
            nature,
            ..Self::new(error.to_string())
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
