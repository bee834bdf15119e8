//! The program `floe`: the CRI engine (`floe serve`) and the commands for people.
//! Parse, dispatch, and the one place where an error becomes a message and an exit code.

mod attach;
mod cli;
mod cmd;
mod names;
mod output;
mod progress;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// floe itself failed (podman's code for that).
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::from(error.code)
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    if let Command::Serve(args) = cli.command {
        return cmd::serve::run(&cli.global, &args);
    }
    let engine = cli.global.open()?;
    match cli.command {
        Command::Serve(_) => unreachable!("handled above"),
        Command::Pull(args) => cmd::pull::run(&engine, &args),
        Command::Images(args) => cmd::images::run(&engine, &args),
        Command::Rmi(args) => cmd::rmi::run(&engine, &args),
        Command::Run(args) => cmd::run::run(&engine, *args),
        Command::Ps(args) => cmd::ps::run(&engine, &args),
        Command::Logs(args) => cmd::logs::run(&engine, &args),
        Command::Exec(args) => cmd::exec::run(&engine, &args),
        Command::Stop(args) => cmd::stop::run(&engine, &args),
        Command::Rm(args) => cmd::rm::run(&engine, &args),
    }
}

/// Why a command failed, in words, and the exit code that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: FAILED,
        }
    }

    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
