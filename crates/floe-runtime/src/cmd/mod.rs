//! One file per verb: its options and what it does.

pub(crate) mod checkpoint;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod events;
mod events_data;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod pause;
pub(crate) mod ps;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod update;

use crate::cli::{Cli, Command};

/// What ends a verb: a sentence for the log.
#[derive(Debug)]
pub(crate) struct Failure(String);

/// The result of a verb: its exit code.
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// For `map_err` on I/O. Without Rust's number, in lower case, as runc says it.
    pub(crate) fn at(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| match error.raw_os_error() {
            Some(number) => Self(format!("{what}: {}", runtime::errno_text(number))),
            None => Self(format!("{what}: {error}")),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<runtime::Error> for Failure {
    /// Engines tell by these words of runc's, and by those of the error itself, what their users are told and
    /// with which exit code: 127 for `executable file not found`, 126 for `permission denied`.
    fn from(error: runtime::Error) -> Self {
        let context = match &error {
            runtime::Error::Exec(_) => "unable to start container process: ",
            runtime::Error::Init(_)
            | runtime::Error::Hook { .. }
            | runtime::Error::Vanished { .. } => {
                "unable to start container process: error during container init: "
            }
            _ => "",
        };
        Self(format!("{context}{error}"))
    }
}

impl From<runtime::cgroup::Error> for Failure {
    fn from(error: runtime::cgroup::Error) -> Self {
        Self(error.to_string())
    }
}

pub(crate) fn dispatch(cli: &Cli) -> Outcome {
    let global = &cli.global;
    match global.rootless.as_str() {
        "true" => runtime::set_optional_cgroups(true),
        "false" => runtime::set_optional_cgroups(false),
        _ => {}
    }
    match &cli.command {
        Command::Create(args) => create::run(global, args),
        Command::Start(args) => start::run(global, args),
        Command::Run(args) => run::run(global, args),
        Command::State(args) => state::run(global, args),
        Command::Kill(args) => kill::run(global, args),
        Command::Delete(args) => delete::run(global, args),
        Command::List(args) => list::run(global, args),
        Command::Spec(args) => spec::run(args),
        Command::Exec(args) => exec::run(global, args),
        Command::Ps(args) => ps::run(global, args),
        Command::Pause(args) => pause::pause(global, args),
        Command::Resume(args) => pause::resume(global, args),
        Command::Features(_) => features::run(),
        Command::Checkpoint(args) => checkpoint::run(global, args),
        Command::Restore(args) => restore::run(global, args),
        Command::Events(args) => events::run(global, args),
        Command::Update(args) => update::run(global, args),
    }
}
