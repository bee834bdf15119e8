//! `floe config`: the configuration in force, or the defaults, as a commented file (crio config); whether a
//! file can be used; and a file of an earlier CRI-O in today's words.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use engine::Config;
use engine::config::{Sources, UnusedKey, migrated};

use crate::failure::Failure;
use crate::global::Global;
use crate::output;

/// The exit code of a configuration that cannot be used.
const UNUSABLE: u8 = 1;

/// Options of `floe config`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// The defaults, whatever is configured
    #[arg(long)]
    default: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What else can be done with configurations.
#[derive(Debug, Subcommand)]
enum Command {
    /// Check that a configuration can be used, and name its keys without effect
    ///
    /// Ends with 0 if floe would serve with it, and 1 if not; the message has file and line.
    Validate {
        /// The file [default: the configuration with its drop-ins]
        file: Option<PathBuf>,
    },
    /// Print a configuration with keys of earlier versions in today's words
    Migrate {
        /// The file [default: the main file of the configuration]
        file: Option<PathBuf>,
    },
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        None => print(global, args.default),
        Some(Command::Validate { file }) => validate(global, file.as_deref()),
        Some(Command::Migrate { file }) => migrate(global, file.as_deref()),
    }
}

fn print(global: &Global, default: bool) -> Result<ExitCode, Failure> {
    let config = match default {
        true => Config::default(),
        false => global.config()?,
    };
    let text = config.to_commented_toml(default).map_err(Failure::new)?;
    print!("{}", output::value(&text));
    Ok(ExitCode::SUCCESS)
}

fn validate(global: &Global, file: Option<&Path>) -> Result<ExitCode, Failure> {
    let (what, read) = match file {
        None => (global.sources().main_file().to_owned(), global.configured()),
        Some(file) => {
            let sources = Sources {
                file: Some(file.to_owned()),
                dir: Some(PathBuf::new()),
            };
            let read = Config::load(&sources).map_err(Failure::from);
            (file.to_owned(), read)
        }
    };
    let checked = read.and_then(|(config, unused)| {
        config.check_files()?;
        Ok(unused)
    });
    let unused = checked.map_err(|failure| failure.with_code(UNUSABLE))?;
    for key in unused.iter().filter(|key| key.matters()) {
        warn(key);
    }
    println!("{}: can be used", what.display());
    Ok(ExitCode::SUCCESS)
}

fn warn(key: &UnusedKey) {
    eprintln!("Warning: no effect: {}", output::lines(&key.to_string()));
}

fn migrate(global: &Global, file: Option<&Path>) -> Result<ExitCode, Failure> {
    let sources = global.sources();
    let file = file.unwrap_or(sources.main_file());
    let (text, notes) = migrated(file)?;
    for note in notes {
        eprintln!("{}", output::lines(&note));
    }
    print!("{}", output::value(&text));
    Ok(ExitCode::SUCCESS)
}
