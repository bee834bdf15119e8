//! `floe version`: what this program is, in the words of `crio version`.

use std::process::ExitCode;

use image::Platform;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::template;

/// Options of `floe version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long, short)]
    json: bool,
    /// json, or a Go template such as '{{.Client.Version}}'
    #[arg(
        long,
        short,
        value_name = "FORMAT",
        allow_hyphen_values = true,
        conflicts_with = "json"
    )]
    format: Option<String>,
    /// Also print the versions of what it speaks
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Some(format) = &args.format {
        let value = for_templates();
        match format.as_str() {
            "json" => println!("{value:#}"),
            format => println!("{}", template::render(format, &value)?),
        }
        return Ok(ExitCode::SUCCESS);
    }
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

/// podman's names: nothing here is remote, so that client and server are one.
fn for_templates() -> Value {
    let platform = Platform::host();
    let one = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "APIVersion": env!("CARGO_PKG_VERSION"),
        "Os": platform.os,
        "OsArch": format!("{}/{}", platform.os, platform.architecture),
    });
    json!({ "Client": one, "Server": one })
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
