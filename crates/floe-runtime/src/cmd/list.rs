//! `list`: the containers below `--root`.

use super::{Outcome, state};
use crate::cli::Global;
use crate::state::State;

/// Options of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// table or json
    #[arg(long, short, default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Only ids
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let all = State::all(global)?;
    if args.quiet {
        all.iter()
            .for_each(|container| println!("{}", container.id));
    } else if args.format == "json" {
        let documents = all
            .iter()
            .map(|container| state::document(global, container))
            .collect();
        state::print(&serde_json::Value::Array(documents))?;
    } else {
        table(global, &all);
    }
    Ok(0)
}

fn table(global: &Global, all: &[State]) {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let rows = all.iter().map(|container| {
        let status = container.status(global);
        let pid = if status == crate::state::Status::Stopped {
            0
        } else {
            container.init_process_pid
        };
        let bundle = container.bundle.display().to_string();
        [
            container.id.clone(),
            pid.to_string(),
            status.word().into(),
            bundle,
            container.created.clone(),
            "root".into(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    for row in &rows {
        let line: String = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<width$}", width = width(column) + 5))
            .collect();
        println!("{}", line.trim_end());
    }
}
