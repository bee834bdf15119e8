//! `floe version`: what this program is, in the words of `crio version`.

use std::process::ExitCode;

use image::Platform;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// Options of `floe version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long, short)]
    json: bool,
    /// Also print the versions of what it speaks
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let all = facts(args.verbose);
    if args.json {
        let all: Map<String, Value> = all
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let text = serde_json::to_string_pretty(&all);
        println!("{}", text.map_err(|e| Failure::new(e.to_string()))?);
        return Ok(ExitCode::SUCCESS);
    }
    for (key, value) in &all {
        let mut letters = key.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        let key: String = first.into_iter().chain(letters).collect();
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        println!("{:<17}{value}", format!("{key}:"));
    }
    Ok(ExitCode::SUCCESS)
}

fn facts(verbose: bool) -> Vec<(&'static str, Value)> {
    let platform = Platform::host();
    let linkmode = match cfg!(target_feature = "crt-static") {
        true => "static",
        false => "dynamic",
    };
    let mut all = Vec::new();
    let mut add = |key: &'static str, value: Value| all.push((key, value));
    add("version", json!(env!("CARGO_PKG_VERSION")));
    add(
        "platform",
        json!(format!("{}/{}", platform.os, platform.architecture)),
    );
    add("linkmode", json!(linkmode));
    add("seccompEnabled", json!(true));
    add("appArmorEnabled", json!(engine::has_apparmor()));
    if verbose {
        add("criVersion", json!(server::CRI_VERSION));
    }
    all
}
