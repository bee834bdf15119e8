//! `state`: runtime.md's state as JSON.

use serde_json::{Value, json};

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::state::{State, Status};

/// Options of `state`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container id
    id: String,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let state = State::load(global, &args.id)?;
    print(&document(global, &state))?;
    Ok(0)
}

/// The state as `state` and `list` print it.
pub(crate) fn document(global: &Global, state: &State) -> Value {
    let status = state.status(global);
    json!({
        "ociVersion": state.spec.oci_version,
        "id": state.id,
        "pid": if status == Status::Stopped { 0 } else { state.init_process_pid },
        "status": status.word(),
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": state.created,
        "annotations": state.spec.annotations,
        "owner": "",
    })
}

pub(crate) fn print(value: &Value) -> Result<(), Failure> {
    println!(
        "{}",
        serde_json::to_string_pretty(value).map_err(|e| Failure::new(e.to_string()))?
    );
    Ok(())
}
