//! crictl's command line: a client of the CRI, for whoever debugs a node. It works against floe's socket,
//! containerd's and CRI-O's, and knows nothing of any engine: all it has is the schema (`cri`) and the client's
//! side of Kubernetes' streams (`streaming`).
//!
//! | file | what |
//! | --- | --- |
//! | `settings.rs`, `file.rs` | options of all verbs, and crictl.yaml |
//! | `connection.rs` | sockets, and limits of calls |
//! | `verb/` | a file for each noun of the CRI |
//! | `filter.rs` | which pods and containers |
//! | `output.rs`, `json.rs`, `yaml.rs`, `table.rs` | how it is printed |
//! | `config.rs`, `schema.rs` | configurations of pods and containers |
//! | `log/` | logs |
//! | `bench/` | how long a runtime's calls take |
//! | `fixture/` | pods of our own on a node, and their removal: for `validate` and `bench` |
//! | `validate/` | a check of what a runtime promises; a file for each group of checks |
//! | `terminal.rs`, `say.rs`, `clock.rs` | the person's side |
//!
//! Behaviour, words and exit codes are those of crictl 1.36 and its main; docs/commands.md lists what differs.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod bench;
mod clock;
mod config;
mod connection;
mod failure;
mod file;
mod filter;
mod fixture;
#[cfg(test)]
mod hostile;
mod json;
mod log;
#[cfg(test)]
#[path = "../../image/tests/support/fuzz.rs"]
mod mutator;
mod output;
mod refused;
mod say;
mod schema;
mod settings;
mod table;
mod terminal;
mod validate;
mod verb;
mod words;
mod xml;
mod yaml;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{
    ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};
use tokio::signal::unix::{SignalKind, signal};

use failure::{Failure, Outcome};
use refused::{Never, Refused};
use settings::{Flags, Settings};
use verb::World;

/// What a Go template makes of a value; fields that are not there are an error.
pub type Render = fn(&str, &serde_json::Value) -> Result<String, String>;

/// The exit code of a verb that is none.
const NO_VERB: u8 = 3;

const VERSION: &str = concat!("version v1.36.0 (floe ", env!("CARGO_PKG_VERSION"), ")");

const TRACES: Refused = Refused("floe's client sends no traces");
const PROFILES: Refused = Refused("there is no profiler in this program");

/// A client of the CRI: crictl's command line, by floe.
#[derive(Debug, Parser)]
#[command(
    name = "crictl",
    version = VERSION,
    disable_version_flag = true,
    max_term_width = 100,
    args_override_self = true,
    subcommand_required = true
)]
pub struct Crictl {
    #[command(flatten)]
    flags: Flags,
    /// Print the version of crictl whose command line this is, and of floe
    #[arg(long, short = 'v', action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = TRACES)]
    enable_tracing: Option<Never>,
    #[arg(long, hide = true, allow_hyphen_values = true, value_parser = TRACES)]
    tracing_endpoint: Option<Never>,
    #[arg(long, hide = true, allow_hyphen_values = true, value_parser = TRACES)]
    tracing_sampling_rate_per_million: Option<Never>,
    #[arg(long, hide = true, value_parser = PROFILES)]
    profile_cpu: Option<Never>,
    #[arg(long, hide = true, value_parser = PROFILES)]
    profile_mem: Option<Never>,
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Join a container that runs
    Attach(verb::exec::AttachArgs),
    /// Measure how long a runtime takes for pods and containers
    Bench(Box<bench::BenchArgs>),
    /// Write running containers to an archive
    Checkpoint(verb::checkpoints::CheckpointArgs),
    /// Write a running pod into a directory
    Checkpointp(verb::checkpoints::CheckpointpArgs),
    /// Print what makes a shell complete verbs and options
    Completion(CompletionArgs),
    /// Show and change crictl.yaml
    Config(verb::config::ConfigArgs),
    /// Make a container in a pod
    Create(verb::create::CreateArgs),
    /// Show what happens to containers, as it happens
    #[command(visible_alias = "event")]
    Events(verb::events::EventsArgs),
    /// Run a command in containers
    Exec(Box<verb::exec::ExecArgs>),
    /// Show the room that images take
    Imagefsinfo(verb::images::ImageFsInfoArgs),
    /// List images
    #[command(visible_aliases = ["image", "img"])]
    Images(verb::images::ImagesArgs),
    /// Show what the runtime says of itself
    Info(verb::node::InfoArgs),
    /// Show what is known of containers
    Inspect(Box<verb::inspect::InspectArgs>),
    /// Show what is known of images
    Inspecti(verb::inspect::InspectiArgs),
    /// Show what is known of pods
    Inspectp(verb::inspect::InspectpArgs),
    /// Show what a container has written
    Logs(verb::logs::LogsArgs),
    /// List the metrics that there are
    Metricdescs(verb::stats::MetricdescsArgs),
    /// List the metrics of pods
    Metricsp(verb::stats::MetricspArgs),
    /// List pods
    Pods(verb::pods::PodsArgs),
    /// Have local ports lead to those of a pod
    PortForward(verb::ports::PortForwardArgs),
    /// List containers
    Ps(Box<verb::containers::PsArgs>),
    /// Pull an image
    Pull(verb::pull::PullArgs),
    /// Make a pod from a checkpoint
    Restorep(verb::checkpoints::RestorepArgs),
    /// Remove containers
    Rm(verb::containers::RmArgs),
    /// Remove images
    Rmi(verb::images::RmiArgs),
    /// Remove pods
    Rmp(verb::pods::RmpArgs),
    /// Make a pod and a container in it, and start that
    Run(verb::create::RunArgs),
    /// Make a pod
    Runp(verb::pods::RunpArgs),
    /// Show what the runtime is configured with
    RuntimeConfig(verb::node::NoArgs),
    /// Start containers
    Start(verb::containers::StartArgs),
    /// Show what containers use
    Stats(verb::stats::StatsArgs),
    /// Show what pods use
    Statsp(verb::stats::StatspArgs),
    /// Stop containers
    Stop(verb::containers::StopArgs),
    /// Stop pods
    Stopp(verb::pods::StoppArgs),
    /// Give containers other limits
    Update(verb::update::UpdateArgs),
    /// Give the runtime another configuration
    UpdateRuntimeConfig(verb::node::UpdateRuntimeConfigArgs),
    /// Check that a runtime does what kubelet relies on
    Validate(Box<validate::ValidateArgs>),
    /// Show the versions of the runtime
    Version(verb::node::NoArgs),
}

/// Options of `completion`.
#[derive(Debug, Args)]
struct CompletionArgs {
    /// The shell
    #[arg(value_enum, default_value = "bash")]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// `floe cri`: the same as a command of another program, which is put together only when it is asked for.
#[derive(Debug)]
pub struct Cri(Box<Crictl>);

impl Args for Cri {
    fn augment_args(command: Command) -> Command {
        command.defer(Crictl::augment_args)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Cri {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Crictl::from_arg_matches(matches).map(|read| Self(Box::new(read)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Cri {
    /// Does what was asked for; gives the program's exit code.
    #[must_use]
    pub fn run(self, render: Render) -> ExitCode {
        run(*self.0, "floe cri", render)
    }
}

/// Whether the program goes by the name `crictl`.
#[must_use]
pub fn is_meant() -> bool {
    let name = std::env::args_os().next();
    name.is_some_and(|name| {
        Path::new(&name)
            .file_name()
            .is_some_and(|name| name == "crictl")
    })
}

/// The whole program under that name.
#[must_use]
pub fn main(render: Render) -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    match Crictl::try_parse_from(words::as_clap_has_them(words)) {
        Ok(read) => run(read, "crictl", render),
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::InvalidSubcommand => NO_VERB,
                _ if error.use_stderr() => 1,
                _ => 0,
            };
            // Nobody is left to be told that standard output is closed.
            match error.get(ContextKind::InvalidSubcommand) {
                Some(verb) => {
                    let verb = verb.to_string();
                    eprintln!("No help topic for '{}'", say::lines(&verb));
                }
                None => drop(error.print()),
            }
            ExitCode::from(code)
        }
    }
}

fn run(read: Crictl, program: &str, render: Render) -> ExitCode {
    let name = read.verb.name();
    let failure = match done(read, render) {
        Ok(()) | Err(Failure::Over) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    match failure {
        Failure::Said(words) => say::error(&words),
        Failure::Coded(code, words) => {
            say::error(&words);
            return ExitCode::from(code);
        }
        Failure::Plain(words) => eprintln!("{}", say::lines(&words)),
        Failure::Over => {}
        Failure::Help => {
            show_help(program, name);
            return ExitCode::SUCCESS;
        }
    }
    ExitCode::FAILURE
}

/// The help of a verb, as crictl shows it instead of an error.
fn show_help(program: &str, verb: &str) {
    let mut command = Crictl::command().bin_name(program);
    // The names of verbs are the program's and their own from then on.
    command.build();
    if let Some(verb) = command.find_subcommand_mut(verb) {
        // Nobody is left to be told that standard output is closed.
        let _ = verb.print_help();
    }
}

/// Does it, with an async runtime of its own, until it is done or the person interrupts it.
fn done(read: Crictl, render: Render) -> Outcome {
    let is_config = matches!(read.verb, Verb::Config(_));
    let world = World {
        settings: Settings::new(&read.flags, is_config)?,
        render,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        if read.verb.clears_up() {
            return read.verb.run(&world).await;
        }
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut ends = signal(SignalKind::terminate())?;
        let lasts = read.verb.lasts();
        tokio::select! {
            outcome = read.verb.run(&world) => outcome,
            _ = interrupts.recv() => Err(interrupted(lasts)),
            _ = ends.recv() => Err(interrupted(lasts)),
        }
    });
    // A thread that still reads standard input is not waited for.
    runtime.shutdown_background();
    outcome
}

fn interrupted(lasts: bool) -> Failure {
    match lasts {
        true => Failure::Over,
        false => Failure::new("interrupted: context canceled"),
    }
}

impl Verb {
    /// Whether it goes on until the person has enough.
    fn lasts(&self) -> bool {
        matches!(
            self,
            Self::Logs(_)
                | Self::PortForward(_)
                | Self::Stats(_)
                | Self::Statsp(_)
                | Self::Metricsp(_)
        )
    }

    /// Whether it makes things that it removes in any case: it hears itself that it is interrupted.
    fn clears_up(&self) -> bool {
        matches!(self, Self::Bench(_) | Self::Validate(_))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Attach(_) => "attach",
            Self::Bench(_) => "bench",
            Self::Checkpoint(_) => "checkpoint",
            Self::Checkpointp(_) => "checkpointp",
            Self::Completion(_) => "completion",
            Self::Config(_) => "config",
            Self::Create(_) => "create",
            Self::Events(_) => "events",
            Self::Exec(_) => "exec",
            Self::Imagefsinfo(_) => "imagefsinfo",
            Self::Images(_) => "images",
            Self::Info(_) => "info",
            Self::Inspect(_) => "inspect",
            Self::Inspecti(_) => "inspecti",
            Self::Inspectp(_) => "inspectp",
            Self::Logs(_) => "logs",
            Self::Metricdescs(_) => "metricdescs",
            Self::Metricsp(_) => "metricsp",
            Self::Pods(_) => "pods",
            Self::PortForward(_) => "port-forward",
            Self::Ps(_) => "ps",
            Self::Pull(_) => "pull",
            Self::Restorep(_) => "restorep",
            Self::Rm(_) => "rm",
            Self::Rmi(_) => "rmi",
            Self::Rmp(_) => "rmp",
            Self::Run(_) => "run",
            Self::Runp(_) => "runp",
            Self::RuntimeConfig(_) => "runtime-config",
            Self::Start(_) => "start",
            Self::Stats(_) => "stats",
            Self::Statsp(_) => "statsp",
            Self::Stop(_) => "stop",
            Self::Stopp(_) => "stopp",
            Self::Update(_) => "update",
            Self::UpdateRuntimeConfig(_) => "update-runtime-config",
            Self::Validate(_) => "validate",
            Self::Version(_) => "version",
        }
    }

    async fn run(self, world: &World) -> Outcome {
        match self {
            Self::Attach(args) => verb::exec::attach(world, &args).await,
            Self::Bench(args) => bench::bench(world, *args).await,
            Self::Checkpoint(args) => verb::checkpoints::checkpoint(world, &args).await,
            Self::Checkpointp(args) => verb::checkpoints::checkpointp(world, &args).await,
            Self::Completion(args) => complete(&args),
            Self::Config(args) => verb::config::config(world, &args),
            Self::Create(args) => verb::create::create(world, &args).await,
            Self::Events(args) => verb::events::events(world, &args).await,
            Self::Exec(args) => verb::exec::exec(world, &args).await,
            Self::Imagefsinfo(args) => verb::images::imagefsinfo(world, &args).await,
            Self::Images(args) => verb::images::images(world, &args).await,
            Self::Info(args) => verb::node::info(world, &args).await,
            Self::Inspect(args) => verb::inspect::inspect(world, &args).await,
            Self::Inspecti(args) => verb::inspect::inspecti(world, &args).await,
            Self::Inspectp(args) => verb::inspect::inspectp(world, &args).await,
            Self::Logs(args) => verb::logs::logs(world, &args).await,
            Self::Metricdescs(args) => verb::stats::metricdescs(world, &args).await,
            Self::Metricsp(args) => verb::stats::metricsp(world, &args).await,
            Self::Pods(args) => verb::pods::pods(world, &args).await,
            Self::PortForward(args) => verb::ports::port_forward(world, &args).await,
            Self::Ps(args) => verb::containers::ps(world, &args).await,
            Self::Pull(args) => verb::pull::pull(world, &args).await,
            Self::Restorep(args) => verb::checkpoints::restorep(world, &args).await,
            Self::Rm(args) => verb::containers::rm(world, &args).await,
            Self::Rmi(args) => verb::images::rmi(world, &args).await,
            Self::Rmp(args) => verb::pods::rmp(world, &args).await,
            Self::Run(args) => verb::create::run(world, &args).await,
            Self::Runp(args) => verb::pods::runp(world, &args).await,
            Self::RuntimeConfig(args) => verb::node::runtime_config(world, &args).await,
            Self::Start(args) => verb::containers::start(world, &args).await,
            Self::Stats(args) => verb::stats::stats(world, &args).await,
            Self::Statsp(args) => verb::stats::statsp(world, &args).await,
            Self::Stop(args) => verb::containers::stop(world, &args).await,
            Self::Stopp(args) => verb::pods::stopp(world, &args).await,
            Self::Update(args) => verb::update::update(world, &args).await,
            Self::UpdateRuntimeConfig(args) => {
                verb::node::update_runtime_config(world, &args).await
            }
            Self::Validate(args) => validate::validate(world, *args).await,
            Self::Version(args) => verb::node::version(world, &args).await,
        }
    }
}

/// Prints what makes a shell complete verbs and options under the name `crictl`.
fn complete(args: &CompletionArgs) -> Outcome {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Crictl::command(), "crictl", &mut text);
    say::print_bytes(&text);
    Ok(())
}
