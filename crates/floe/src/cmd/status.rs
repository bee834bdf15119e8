//! `floe status`: what a running engine says of itself, asked over its socket's inspect endpoints. The words
//! are those of `crio status`; CRI-O's own engine can be asked, too.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use crate::failure::Failure;
use crate::global::Global;
use crate::output;

/// How long an engine may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest answer, in bytes.
const LONGEST: u64 = 64 << 20;

/// Options of `floe status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Path of the engine's socket [default: the configuration's]
    #[arg(long, short, value_name = "SOCKET")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

/// What is asked.
#[derive(Debug, Subcommand)]
enum What {
    /// The configuration in force, as TOML
    #[command(alias = "c")]
    Config,
    /// What is known of a container
    #[command(aliases = ["container", "cs", "s"])]
    Containers {
        /// The container's id
        #[arg(long, short, required = true, value_name = "ID")]
        id: String,
    },
    /// What is known of a pod, and how its start went
    #[command(alias = "pod")]
    Pods {
        /// The pod's id
        #[arg(long, short, required = true, value_name = "ID")]
        id: String,
    },
    /// The cgroup driver, the store and the mappings of ids
    #[command(alias = "i")]
    Info,
    /// The threads of the engine, and what each waits for
    #[command(aliases = ["goroutines", "g"])]
    Threads,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let socket = match &args.socket {
        Some(socket) => socket.clone(),
        None => global.config()?.api.listen,
    };
    match &args.what {
        What::Config => print!("{}", output::value(&get(&socket, "/config")?)),
        What::Threads => print!("{}", output::value(&get(&socket, "/debug/goroutines")?)),
        What::Info => info(&parsed(&get(&socket, "/info")?)?),
        What::Containers { id } => {
            let id = checked(id, "container")?;
            container(&parsed(&get(&socket, &format!("/containers/{id}"))?)?);
        }
        What::Pods { id } => {
            let id = checked(id, "pod")?;
            pod(&parsed(&get(&socket, &format!("/pods/{id}"))?)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An id that becomes a part of a path.
fn checked<'a>(id: &'a str, of: &str) -> Result<&'a str, Failure> {
    match !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => Ok(id),
        false => Err(Failure::new(format!("--id {id:?}: is no id of a {of}"))),
    }
}

fn pod(info: &Value) {
    for key in ["name", "namespace", "uid", "id", "ready", "pid"] {
        println!("{key}: {}", shown(&info[key]));
    }
    let all = |key: &str| {
        let values = info[key].as_array().into_iter().flatten();
        values.map(shown).collect::<Vec<_>>().join(", ")
    };
    println!("ips: {}", all("ip_addresses"));
    println!("containers: {}", all("containers"));
    println!("timeline:");
    for line in info["timeline"].as_array().into_iter().flatten() {
        let after = line["after"].as_f64().unwrap_or_default();
        let took = line["took"].as_f64();
        let took = took.map_or_else(String::new, |took| format!(", {took:.3} s"));
        println!(
            "  {} +{after:.3} s {}{took}",
            shown(&line["at"]),
            shown(&line["what"])
        );
    }
}

fn info(info: &Value) {
    for (title, key) in [
        ("cgroup driver", "cgroup_driver"),
        ("storage driver", "storage_driver"),
        ("storage graph root", "storage_root"),
        ("storage image", "storage_image"),
    ] {
        println!("{title}: {}", shown(&info[key]));
    }
    for (title, key) in [("GID", "gids"), ("UID", "uids")] {
        println!("default {title} mappings (format <container>:<host>:<size>):");
        for range in info["default_id_mappings"][key]
            .as_array()
            .into_iter()
            .flatten()
        {
            let part = |key: &str| shown(&range[key]);
            println!(
                "  {}:{}:{}",
                part("container_id"),
                part("host_id"),
                part("size")
            );
        }
    }
}

fn container(info: &Value) {
    for (title, key) in [
        ("name", "name"),
        ("pid", "pid"),
        ("image", "image"),
        ("image ref", "image_ref"),
        ("created", "created_time"),
    ] {
        println!("{title}: {}", shown(&info[key]));
    }
    for (title, key) in [
        ("labels", "labels"),
        ("annotations", "annotations"),
        ("CRI-O annotations", "crio_annotations"),
    ] {
        println!("{title}:");
        for (name, value) in info[key].as_object().into_iter().flatten() {
            println!("  {}: {}", output::lines(name), shown(value));
        }
    }
    for (title, key) in [
        ("log path", "log_path"),
        ("graph root", "root"),
        ("sandbox", "sandbox"),
    ] {
        println!("{title}: {}", shown(&info[key]));
    }
    let ips = info["ip_addresses"].as_array().into_iter().flatten();
    println!("ips: {}", ips.map(shown).collect::<Vec<_>>().join(", "));
}

/// A value as a person reads it: what it holds may be a container's.
pub(super) fn shown(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    output::shown(&text).into_owned()
}

pub(super) fn parsed(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|e| Failure::new(format!("the engine's answer: {e}")))
}

/// Asks in HTTP/1.0, whose answers end with their connection.
pub(super) fn get(socket: &Path, path: &str) -> Result<String, Failure> {
    let failed = |what: &'static str| {
        let socket = socket.display().to_string();
        move |e: std::io::Error| Failure::new(format!("{what} {socket}: {e}"))
    };
    let mut stream = UnixStream::connect(socket).map_err(failed("connect to the engine at"))?;
    let limited = stream
        .set_read_timeout(Some(SILENCE))
        .and_then(|()| stream.set_write_timeout(Some(SILENCE)));
    limited.map_err(failed("ask the engine at"))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: floe\r\n\r\n")
        .map_err(failed("ask the engine at"))?;
    let mut answer = Vec::new();
    let read = stream.take(LONGEST).read_to_end(&mut answer);
    read.map_err(failed("hear the engine at"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| {
        Failure::new(format!(
            "{}: is no engine that can be inspected",
            socket.display()
        ))
    })?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(Failure::new(output::lines(body.trim()))),
    }
}
