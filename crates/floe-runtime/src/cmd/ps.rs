//! `ps`: the processes of a container, as ps(1) shows them, or as JSON numbers.

use std::process::Command;

use runtime::cgroup::Cgroup;

use super::{Failure, Outcome};
use crate::cli::Global;
use crate::state::State;

/// Options of `ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// table or json
    #[arg(long, short, default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Container id
    id: String,
    /// Options of ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let state = State::load(global, &args.id)?;
    if state.cgroup.is_empty() {
        return Err(Failure::new(
            "the container has no cgroup that would tell its processes",
        ));
    }
    let mut pids = Cgroup::open(&state.cgroup)?.processes()?;
    pids.sort_unstable();
    if args.format == "json" {
        println!("{}", serde_json::Value::from(pids));
        return Ok(0);
    }
    let options = if args.options.is_empty() {
        vec!["-ef".to_owned()]
    } else {
        args.options.clone()
    };
    let output = Command::new("ps")
        .args(&options)
        .output()
        .map_err(Failure::at("ps"))?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "ps: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_whitespace()
        .position(|title| title == "PID")
        .ok_or_else(|| Failure::new("couldn't find PID field in ps output"))?;
    println!("{header}");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            println!("{line}");
        }
    }
    Ok(0)
}
