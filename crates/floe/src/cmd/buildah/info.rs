//! `buildah info`: the node with buildah's names, which are neither podman's nor all small.

use std::process::ExitCode;

use engine::Engine;
use serde_json::{Value, json};

use crate::cmd::info::info;
use crate::failure::Failure;
use crate::{output, template};

/// Options of `buildah info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A Go template such as '{{.host.OCIRuntime}}'
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// Accepted for buildah's sake
    #[arg(long, short = 'D')]
    debug: bool,
}

pub(super) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let named = named(&info(engine)?);
    match args.format.as_deref() {
        Some(format) => println!("{}", template::render(format, &named)?),
        None => {
            let text = serde_json::to_string_pretty(&named);
            let text = text.map_err(|e| Failure::new(e.to_string()))?;
            println!("{}", output::json(&text));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What podman's names are of, with buildah's.
fn named(info: &Value) -> Value {
    let (host, store) = (&info["Host"], &info["Store"]);
    json!({
        "host": {
            "CgroupVersion": host["CgroupsVersion"],
            "MemFree": host["MemFree"],
            "MemTotal": host["MemTotal"],
            "OCIRuntime": host["OCIRuntime"]["Name"],
            "SwapFree": host["SwapFree"],
            "SwapTotal": host["SwapTotal"],
            "arch": host["Arch"],
            "cpus": host["CPUs"],
            "hostname": host["Hostname"],
            "kernel": host["Kernel"],
            "os": host["OS"],
            "rootless": host["Security"]["Rootless"],
        },
        "store": {
            "ContainerStore": { "number": store["ContainerStore"]["Number"] },
            "GraphDriverName": store["GraphDriverName"],
            "GraphRoot": store["GraphRoot"],
            "ImageStore": { "number": store["ImageStore"]["Number"] },
            "RunRoot": store["RunRoot"],
        },
    })
}
