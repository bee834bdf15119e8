//! `floe diff`: what a container has changed of its image's files.

use std::process::ExitCode;

use engine::Engine;
use serde_json::json;
use store::Change;

use crate::failure::Failure;
use crate::refused::{List, NotOffered, Refused, Takes};
use crate::{names, output};

/// Options of `floe diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// json
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    #[command(flatten)]
    _refused: NotOffered<NotInDiff>,
    /// Name or id
    container: String,
}

/// What podman's diff has besides.
#[derive(Debug)]
pub(crate) struct NotInDiff;

impl List for NotInDiff {
    const OPTIONS: &'static [Refused] =
        &[("latest", Takes::Nothing, "write the name of the container")];
}

/// What containers are mounted on: not theirs, as podman has it.
const MOUNTED: [&str; 10] = [
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "run",
    "run/.containerenv",
    "run/notify",
    "run/secrets",
    "sys",
];

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let container = names::find(engine, &args.container)?;
    let root = engine.store().container_root(&container.id);
    let root = root.map_err(|e| Failure::new(e.to_string()))?;
    let root =
        root.ok_or_else(|| Failure::new("the container has nothing that it could write to"))?;
    let changes = root.changes().map_err(|e| Failure::new(e.to_string()))?;
    let changes = changes.into_iter().map(|(path, change)| {
        let path = String::from_utf8_lossy(&path).into_owned();
        (path, change)
    });
    let changes: Vec<(String, Change)> = changes
        .filter(|(path, _)| !MOUNTED.contains(&path.as_str()))
        .collect();
    let of = |wanted: Change| -> Vec<String> {
        let fitting = changes.iter().filter(|(_, change)| *change == wanted);
        fitting.map(|(path, _)| format!("/{path}")).collect()
    };
    if args.format.is_some() {
        let mut all = serde_json::Map::new();
        for (name, change) in [
            ("added", Change::Added),
            ("changed", Change::Changed),
            ("deleted", Change::Removed),
        ] {
            let paths = of(change);
            if !paths.is_empty() {
                all.insert(name.to_owned(), json!(paths));
            }
        }
        println!(
            "{}",
            output::json(&serde_json::Value::Object(all).to_string())
        );
        return Ok(ExitCode::SUCCESS);
    }
    for (path, change) in &changes {
        let letter = match change {
            Change::Added => 'A',
            Change::Changed => 'C',
            Change::Removed => 'D',
        };
        println!("{letter} /{}", output::value(path));
    }
    Ok(ExitCode::SUCCESS)
}
