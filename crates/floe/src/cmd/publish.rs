//! `floe --address SOCKET publish --topic TOPIC --namespace NAMESPACE`: what a shim without a client of its own
//! executes to tell an event, which is on its stdin (containerd's shim v2, `-publish-binary`). For shims and not
//! for people, so that it is in no help; its command line is containerd's.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;

/// An event has an id and some numbers.
const MAX_EVENT: u64 = 64 << 10;

/// The command line of whoever publishes an event.
#[derive(Debug, Parser)]
#[command(name = "floe", disable_help_subcommand = true)]
pub(crate) struct Publish {
    /// The socket that takes the pod's events.
    #[arg(long, value_name = "SOCKET")]
    address: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Publish(Event),
}

#[derive(Debug, Args)]
struct Event {
    /// What kind of event it is, such as /tasks/oom.
    #[arg(long)]
    topic: String,
    /// The namespace of the containers' ids.
    #[arg(long)]
    namespace: String,
}

/// Is that what this program was executed for? No other command line begins so.
pub(crate) fn is_meant() -> bool {
    let mut args = std::env::args_os().skip(1).take(3);
    let begins = |arg: &OsString| {
        let arg = arg.as_encoded_bytes();
        arg == b"--address" || arg.starts_with(b"--address=")
    };
    args.next().as_ref().is_some_and(begins) && args.any(|arg| arg == "publish")
}

pub(crate) fn run(cli: Publish) -> Result<ExitCode, Failure> {
    let Verb::Publish(event) = cli.verb;
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(MAX_EVENT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(format!("read the event: {error}")))?;
    if bytes.len() as u64 > MAX_EVENT {
        let reason = format!("the event is longer than {MAX_EVENT} bytes");
        return Err(Failure::new(reason));
    }
    shim::events::publish(&cli.address, &event.namespace, &event.topic, &bytes)
        .map_err(|error| Failure::new(error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}
