//! `floe completion` and `floe man`: what shells and manual readers want of the command line, made of the
//! command line itself. Nothing here knows a command.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, ValueEnum};

use crate::cli::Cli;
use crate::failure::Failure;

/// Options of `floe completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Shells that packages bring completions for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Options of `floe man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to write the pages; it is made if need be
    directory: PathBuf,
}

/// Prints what makes a shell complete floe's commands and options.
pub(crate) fn completion(args: &CompletionArgs) -> Result<ExitCode, Failure> {
    complete(&mut Cli::command(), "floe", args)
}

/// The same for the program `name` with this command line.
pub(crate) fn complete(
    command: &mut clap::Command,
    name: &str,
    args: &CompletionArgs,
) -> Result<ExitCode, Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, command, name, &mut text);
    match &args.file {
        Some(file) => std::fs::write(file, text).map_err(|error| failed("write", file, &error))?,
        // Nobody is left to be told that standard output is closed.
        None => drop(std::io::stdout().write_all(&text)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes `floe.1`, and `floe-COMMAND.1` for each command below it.
pub(crate) fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let dir = &args.directory;
    std::fs::create_dir_all(dir).map_err(|error| failed("make", dir, &error))?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), dir)
        .map_err(|error| failed("write manual pages to", dir, &error))?;
    Ok(ExitCode::SUCCESS)
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{verb} {}: {error}", path.display()))
}
