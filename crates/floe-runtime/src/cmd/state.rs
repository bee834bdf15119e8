//! `state`: runtime.md's state as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::state::{State, Status};

/// Options of `state`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container id
    id: String,
}

/// The state of a container, in runc's order of fields, which some scripts read line by line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document<'a> {
    oci_version: &'a str,
    id: &'a str,
    /// 0 once it has stopped.
    pub(crate) pid: i32,
    pub(crate) status: &'static str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    /// Whose it is; `state` leaves it empty, as runc does.
    pub(crate) owner: String,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let state = State::load(global, &args.id)?;
    let document = document(global, &state, String::new());
    let text = serde_json::to_string_pretty(&document).map_err(|e| Failure::new(e.to_string()))?;
    println!("{text}");
    Ok(0)
}

/// The state as `state` and `list` print it.
pub(crate) fn document<'a>(global: &Global, state: &'a State, owner: String) -> Document<'a> {
    let status = state.status(global);
    Document {
        oci_version: &state.spec.oci_version,
        id: &state.id,
        pid: if status == Status::Stopped {
            0
        } else {
            state.init_process_pid
        },
        status: status.word(),
        bundle: &state.bundle,
        rootfs: &state.rootfs,
        created: &state.created,
        annotations: &state.spec.annotations,
        owner,
    }
}
