//! `list`: the containers below `--root`.

use super::state::{self, Document};
use super::{Failure, Outcome};
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
    let documents: Vec<Document<'_>> = all
        .iter()
        .map(|container| state::document(global, container, container.owner(global)))
        .collect();
    if args.quiet {
        all.iter()
            .for_each(|container| println!("{}", container.id));
    } else if args.format == "json" {
        // An empty list is null, as Go writes it.
        let some = (!documents.is_empty()).then_some(&documents);
        let text = serde_json::to_string(&some).map_err(|e| Failure::new(e.to_string()))?;
        println!("{text}");
    } else {
        table(&all, &documents);
    }
    Ok(0)
}

/// Columns are at least 12 wide, with three spaces between them.
fn table(all: &[State], documents: &[Document<'_>]) {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let rows = all.iter().zip(documents).map(|(container, document)| {
        [
            container.id.clone(),
            document.pid.to_string(),
            document.status.to_owned(),
            container.bundle.display().to_string(),
            container.created.clone(),
            document.owner.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max();
        (longest.unwrap_or(0) + 3).max(12)
    };
    for row in &rows {
        let line: String = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<width$}", width = width(column)))
            .collect();
        println!("{}", line.trim_end());
    }
}
