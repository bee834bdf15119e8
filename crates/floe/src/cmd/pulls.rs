//! `floe pulls`: how the pulls of a running engine stand.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::status::{get, parsed, shown};
use crate::failure::Failure;
use crate::global::Global;
use crate::output;

/// Options of `floe pulls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Path of the engine's socket [default: the configuration's]
    #[arg(long, short, value_name = "SOCKET")]
    socket: Option<PathBuf>,
    /// As the engine says it, in JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let socket = match &args.socket {
        Some(socket) => socket.clone(),
        None => global.config()?.api.listen,
    };
    let answer = get(&socket, "/pulls")?;
    if args.json {
        println!("{}", output::value(&answer));
        return Ok(ExitCode::SUCCESS);
    }
    let pulls = parsed(&answer)?;
    println!(
        "{:>8}  {:>9}  {:>21}  {:>7}  IMAGE  PODS",
        "SECONDS", "LAYERS", "MB", "MB/S"
    );
    for pull in pulls.as_array().into_iter().flatten() {
        println!("{}", line(pull));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(pull: &Value) -> String {
    let number = |key: &str| pull[key].as_f64().unwrap_or_default();
    let (seconds, mb) = (number("seconds"), number("bytes") / 1e6);
    let rate = if seconds > 0.0 { mb / seconds } else { 0.0 };
    let layers = format!("{}/{}", number("layers_done"), number("layers"));
    let amount = format!("{mb:.1}/{:.1}", number("total_bytes") / 1e6);
    let pods = pull["pods"].as_array().into_iter().flatten();
    let pods: Vec<String> = pods
        .map(
            |pod| match (shown(&pod["namespace"]), shown(&pod["name"])) {
                (_, none) if none.is_empty() => "-".to_owned(),
                (namespace, name) => format!("{namespace}/{name}"),
            },
        )
        .collect();
    format!(
        "{seconds:>8.0}  {layers:>9}  {amount:>21}  {rate:>7.1}  {}  {}",
        shown(&pull["image"]),
        pods.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_who_waits() {
        let pull = serde_json::json!({
            "image": "r.example/a:1", "seconds": 10.2, "bytes": 50_000_000, "total_bytes": 200_000_000,
            "layers_done": 1, "layers": 4,
            "pods": [{ "namespace": "ns", "name": "web" }, { "namespace": "", "name": "" }],
        });
        let line = line(&pull);
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words,
            [
                "10",
                "1/4",
                "50.0/200.0",
                "4.9",
                "r.example/a:1",
                "ns/web,",
                "-"
            ]
        );
    }
}
