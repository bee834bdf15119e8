//! The program `floe-runtime`: an OCI runtime with runc's command line, and the pod supervisor
//! (`supervise`). Parse, dispatch, and the one place where an error becomes a log line and an
//! exit code. Single-threaded: the runtime library clones processes.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the help of commands has brackets around what is optional"
)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod activation;
mod cli;
mod cmd;
#[cfg(begins_first)]
mod first;
mod hold;
mod log;
mod memory;
mod notify;
mod resolve;
mod signals;
mod spec_template;
mod state;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Executed by descriptor, it would be named after that. A name that is not set is no harm.
    let _ = rustix::thread::set_name(c"floe-runtime");
    let mut arguments = std::env::args_os();
    let word = arguments.nth(1);
    // A supervisor starts once for every pod: it does not go through the parser.
    if word.as_ref().is_some_and(|word| word == "supervise") {
        return supervisor::supervise(arguments);
    }
    if word.as_ref().is_some_and(|word| word == "hold") {
        return hold::hold();
    }
    if word.as_ref().is_some_and(|word| word == "resolve") {
        return resolve::resolve(arguments);
    }
    memory::begin();
    // Also where the word is not the verb: that costs a little and decides nothing.
    if std::env::args_os().any(|word| word == "create" || word == "run" || word == "exec")
        && let Err(error) = runtime::protect_own_program()
    {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => {
            cli::print(&error);
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if let Err(reason) = log::check(&cli.global) {
        eprintln!("{reason}");
        return ExitCode::FAILURE;
    }
    // The words as they came: printing the parsed ones would take some kilobytes for every option.
    let words: Vec<_> = std::env::args_os().collect();
    log::debug(&cli.global, &format!("{words:?}"));
    match cmd::dispatch(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // In runc's words, as the users of engines know them.
            let (code, what) = match &cli.command {
                cli::Command::Exec(_) => (255, "exec failed: ".to_owned()),
                cli::Command::Create(_) => (1, format!("{} create failed: ", cli::name())),
                cli::Command::Run(_) => (1, format!("{} run failed: ", cli::name())),
                _ => (1, String::new()),
            };
            log::fatal(&cli.global, &format!("{what}{error}"));
            ExitCode::from(code)
        }
    }
}
