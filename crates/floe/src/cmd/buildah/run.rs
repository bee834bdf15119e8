//! `buildah run`: a command in a working container, with this terminal or these pipes.

use std::io::IsTerminal;
use std::process::ExitCode;

use build::working::{Running, Working};
use clap::Parser;
use engine::Engine;
use engine::container::Filesystem;

use crate::attach;
use crate::cmd::build::flags::Commands;
use crate::cmd::run::{env, mounts};
use crate::cmd::start;
use crate::failure::Failure;
use crate::refused::{List, NotOffered, Refused, Takes};

/// Options of `buildah run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say in the image's history what was run [default: $BUILDAH_HISTORY, or else false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    add_history: Option<bool>,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// NAME=VALUE, or NAME for this process's variable: for this command alone
    #[arg(long, short, value_name = "VARIABLE")]
    env: Vec<String>,
    /// Accepted for buildah's sake: commands have containers of floe's own
    #[arg(long, value_name = "KIND", env = "BUILDAH_ISOLATION", value_parser = ["oci", "rootless", "chroot", "default"])]
    isolation: Option<String>,
    /// type=bind,src=PATH,dst=PATH or type=tmpfs,dst=PATH
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// bridge (or private, default), host, none [default: what from was told]
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = ["bridge", "private", "default", "host", "none"])]
    network: Option<String>,
    /// Give it a terminal [default: as standard input]
    #[arg(long, short, visible_alias = "tty", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    terminal: Option<bool>,
    /// USER[:GROUP], instead of the container's
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// SOURCE:TARGET[:OPTIONS], a directory of this machine
    #[arg(long, short, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Directory to start in, instead of the container's
    #[arg(long, value_name = "DIR")]
    workingdir: Option<String>,
    /// Exit codes that are a success
    #[arg(
        long,
        value_name = "CODE",
        value_delimiter = ',',
        default_value = "0",
        hide_default_value = true
    )]
    valid_exit_codes: Vec<u8>,
    /// Accepted for buildah's sake
    #[arg(long)]
    no_pivot: bool,
    #[command(flatten)]
    _refused: NotOffered<NotInRun>,
    /// Name or id of the container, then the command and its arguments
    #[arg(trailing_var_arg = true, value_name = "CONTAINER")]
    words: Vec<String>,
}

/// What buildah's run has besides.
#[derive(Debug)]
pub(crate) struct NotInRun;

const NAMESPACE: &str = "commands have namespaces of their own";
const POD: &str = "commands have the names and hosts of their pod";
const RUNTIME: &str = "commands are run by floe's own runtime";

impl List for NotInRun {
    const OPTIONS: &'static [Refused] = &[
        ("cgroupns", Takes::Value, NAMESPACE),
        ("contextdir", Takes::Value, "write whole paths in --mount"),
        (
            "device",
            Takes::Value,
            "commands get no devices of the node but the usual ones",
        ),
        ("hostname", Takes::Value, POD),
        ("ipc", Takes::Value, NAMESPACE),
        ("no-hostname", Takes::Nothing, POD),
        ("no-hosts", Takes::Nothing, POD),
        ("pid", Takes::Value, NAMESPACE),
        ("runtime", Takes::Value, RUNTIME),
        ("runtime-flag", Takes::Value, RUNTIME),
        ("userns", Takes::Value, "commands have the node's users"),
        ("uts", Takes::Value, NAMESPACE),
    ];
}

/// The options of commands that a container was made with, and those of this one after them.
#[derive(Debug, Parser)]
#[command(args_override_self = true, no_binary_name = true)]
struct Said {
    #[command(flatten)]
    commands: Commands,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let Some((container, words)) = args.words.split_first() else {
        return Err(Failure::new("container ID must be specified"));
    };
    let words = match words.split_first() {
        Some((dashes, rest)) if dashes == "--" => rest,
        _ => words,
    };
    if words.is_empty() {
        return Err(Failure::new("command must be specified"));
    }
    let mut working = super::open(engine, container)?;
    let before = working.record.commands.iter();
    let before = before.filter(|word| !args.takes_back(word));
    let said: Vec<String> = before.cloned().chain(args.commands()).collect();
    let said = Said::try_parse_from(&said).map_err(|error| {
        Failure::new(format!("options that the container was made with: {error}"))
    })?;
    let mut commands = said.commands.of_build()?;
    let (further, filesystems) = mounted(&args.mount)?;
    commands.mounts.extend(further);
    let tty = args
        .terminal
        .unwrap_or_else(|| std::io::stdin().is_terminal());
    let environment = env::given(&[], &args.env)?;
    let running = Running {
        words: words.to_vec(),
        environment: env::pairs("--env", &environment, false)?,
        user: args.user.clone(),
        working_dir: args.workingdir.clone(),
        tty,
        commands: &commands,
        filesystems,
    };
    let code = working.run(engine, running, |id| attend(engine, id, tty))??;
    if args.valid_exit_codes.contains(&code) {
        if super::history(args.add_history) {
            remember(&mut working, words)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!("while running runtime: exit status {code}")).with_code(code.max(1)))
}

impl Args {
    /// Whether the container was made with the opposite: what is said of a capability last holds.
    fn takes_back(&self, word: &str) -> bool {
        let (name, opposite) = match word.split_once('=') {
            Some(("--cap-drop", name)) => (name, &self.cap_add),
            Some(("--cap-add", name)) => (name, &self.cap_drop),
            _ => return false,
        };
        let plain = |name: &str| {
            let name = name.to_ascii_uppercase();
            name.trim_start_matches("CAP_").to_owned()
        };
        let name = plain(name);
        let mut said = opposite.iter().map(|said| plain(said));
        said.any(|said| said == name || said == "ALL")
    }

    /// Its options of commands as they would be said when a container is made.
    fn commands(&self) -> Vec<String> {
        let all = [
            ("--cap-add", &self.cap_add),
            ("--cap-drop", &self.cap_drop),
            ("--volume", &self.volume),
        ];
        let pairs = all
            .into_iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        let network = self.network.iter().map(|network| ("--network", network));
        pairs
            .chain(network)
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }
}

fn mounted(texts: &[String]) -> Result<(Vec<engine::container::Mount>, Vec<Filesystem>), Failure> {
    let wanted = mounts::of_texts(texts)?;
    let of_store =
        |mount: &&engine::container::Mount| mount.volume.is_some() || mount.image.is_some();
    match wanted.0.iter().find(of_store) {
        Some(mount) => Err(Failure::new(format!(
            "--mount for {}: only the types bind and tmpfs are offered",
            mount.container_path.display()
        ))),
        None => Ok(wanted),
    }
}

/// Starts the container and is its terminal or pipes until its end; its exit code.
fn attend(engine: &Engine, id: &str, tty: bool) -> Result<u8, Failure> {
    let session = attach::Session::open(engine, id, true, tty)?;
    engine
        .start_container(id)
        .map_err(|error| start::why(engine, id, error))?;
    match session.run(true)? {
        attach::End::Exited(code) => Ok(code),
        attach::End::Left => Ok(0),
    }
}

fn remember(working: &mut Working, words: &[String]) -> Result<(), Failure> {
    let shell = match working.record.config.shell.is_empty() {
        true => "/bin/sh -c".to_owned(),
        false => working.record.config.shell.join(" "),
    };
    working.remember(format!("{shell} {}", words.join(" ")));
    Ok(working.save()?)
}
