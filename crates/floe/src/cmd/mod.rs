//! One file per command: its options and what it does.

pub(crate) mod artifact;
pub(crate) mod build;
pub(crate) mod buildah;
pub(crate) mod commit;
pub(crate) mod config;
pub(crate) mod container;
pub(crate) mod copy;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod diff;
pub(crate) mod documents;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod healthcheck;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod join;
pub(crate) mod kill;
pub(crate) mod layers;
pub(crate) mod list_tags;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod manifest;
pub(crate) mod manifest_digest;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod pod;
pub(crate) mod port;
pub(crate) mod ps;
pub(crate) mod publish;
pub(crate) mod pull;
pub(crate) mod pulls;
pub(crate) mod registry;
pub(crate) mod rename;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod serve;
pub(crate) mod sign;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod stored;
pub(crate) mod sync;
pub(crate) mod system;
pub(crate) mod top;
pub(crate) mod untag;
pub(crate) mod update;
pub(crate) mod version;
pub(crate) mod volume;
pub(crate) mod wait;
pub(crate) mod which;
pub(crate) mod wipe;

use std::process::ExitCode;

use crate::failure::Failure;

/// Does `act` for each name, goes on past failures, reports each, and fails if one did.
pub(crate) fn for_each(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let mut failed = None;
    for name in names {
        if let Err(error) = act(name)
            && let Some(earlier) = failed.replace(error)
        {
            eprintln!("Error: {earlier}");
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}
