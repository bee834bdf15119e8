//! `floe attach`: a person's terminal or pipes joined to a container that runs.

use std::process::ExitCode;

use clap::ArgAction;
use engine::Engine;

use super::{ps, stop};
use crate::detach::Keys;
use crate::failure::Failure;
use crate::{attach, names};

/// Options of `floe attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not join its standard input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the command [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, hide_default_value = true, default_missing_value = "true", action = ArgAction::Set)]
    sig_proxy: bool,
    /// Keys that leave the container, such as ctrl-p,ctrl-q; '' for none
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// The newest container
    #[arg(long, short)]
    latest: bool,
    /// Name or id
    #[arg(required_unless_present = "latest", conflicts_with = "latest")]
    container: Option<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let keys = Keys::parse(args.detach_keys.as_deref())?;
    let mut named: Vec<String> = args.container.iter().cloned().collect();
    named.extend(ps::selected(engine, &[], args.latest)?);
    let name = named
        .first()
        .ok_or_else(|| Failure::missing("there is no container"))?;
    let container = names::find(engine, name)?;
    if !container.runs() {
        return Err(Failure::new(
            "you can only attach to running containers: container state improper",
        ));
    }
    let interactive = !args.no_stdin && container.spec.stdin;
    let session = attach::Session::open(engine, &container.id, interactive, container.spec.tty)?;
    match session.leave_by(keys).run(args.sig_proxy)? {
        attach::End::Left => Ok(ExitCode::SUCCESS),
        attach::End::Exited(code) => {
            stop::finish_seen(engine, &container)?;
            Ok(ExitCode::from(code))
        }
    }
}
