//! `floe info`: the node as a person's containers find it, with podman's names.

use std::process::ExitCode;

use engine::pod::Origin;
use engine::{ContainerFilter, Engine};
use image::Platform;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::{output, template};

/// Options of `floe info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// json, or a Go template such as '{{.Host.OCIRuntime.Name}}'
    #[arg(long, short, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// Accepted for podman's sake
    #[arg(long, short = 'D')]
    debug: bool,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let info = info(engine)?;
    match args.format.as_deref() {
        None | Some("json") => {
            let text = serde_json::to_string_pretty(&in_small(&info));
            let text = text.map_err(|e| Failure::new(e.to_string()))?;
            println!("{}", output::json(&text));
        }
        Some(format) => println!("{}", template::render(format, &info)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// The same with names as podman's JSON has them: beginning with small letters.
fn in_small(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.iter().map(|(name, value)| {
                let capitals = name.chars().take_while(char::is_ascii_uppercase).count();
                // `OCIRuntime` is `ociRuntime`, and `OS` is `os`.
                let small = match capitals {
                    0 | 1 => 1,
                    all if all == name.len() => all,
                    more => more - 1,
                };
                let (first, rest) = name.split_at(small.min(name.len()));
                (format!("{}{rest}", first.to_lowercase()), in_small(value))
            });
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(in_small).collect(),
        other => other.clone(),
    }
}

pub(crate) fn info(engine: &Engine) -> Result<Value, Failure> {
    let config = engine.config();
    let platform = Platform::host();
    let names = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let memory = rustix::system::sysinfo();
    let unit = u64::from(memory.mem_unit);
    let cgroups = engine.node().cgroups();
    let containers = engine.containers(&ContainerFilter {
        origin: Some(Origin::Cli),
        ..ContainerFilter::default()
    })?;
    let running = containers.iter().filter(|one| one.runs()).count();
    let runtime = match config.runtime.default_runtime.as_str() {
        "" => engine::config::BUILT_IN,
        named => named,
    };
    let registries = engine::image::client_config(config)?.registries;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(json!({
        "Host": {
            "Arch": platform.architecture,
            "OS": platform.os,
            "Hostname": text(names.nodename()),
            "Kernel": text(names.release()),
            "CPUs": cpus,
            "MemTotal": memory.totalram.saturating_mul(unit),
            "MemFree": memory.freeram.saturating_mul(unit),
            "SwapTotal": memory.totalswap.saturating_mul(unit),
            "SwapFree": memory.freeswap.saturating_mul(unit),
            "CgroupManager": cgroups.manager().name(),
            "CgroupsVersion": if is_unified() { "v2" } else { "v1" },
            "EventLogger": "none",
            "LogDriver": "k8s-file",
            "NetworkBackend": "floe",
            "OCIRuntime": {
                "Name": runtime,
                "Package": format!("floe {}", env!("CARGO_PKG_VERSION")),
                "Version": env!("CARGO_PKG_VERSION"),
            },
            "Security": {
                "Rootless": false,
                "AppArmorEnabled": engine::has_apparmor(),
                "SECCOMPEnabled": true,
            },
        },
        "Store": {
            "GraphRoot": config.root_table.root,
            "RunRoot": config.root_table.runroot,
            "GraphDriverName": "overlay",
            "ImageStore": { "Number": engine.images(None)?.len() },
            "ContainerStore": {
                "Number": containers.len(),
                "Paused": 0,
                "Running": running,
                "Stopped": containers.len() - running,
            },
        },
        "Registries": { "Search": registries.search() },
        "Version": {
            "Version": env!("CARGO_PKG_VERSION"),
            "OsArch": format!("{}/{}", platform.os, platform.architecture),
            "Os": platform.os,
        },
    }))
}

fn is_unified() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}
