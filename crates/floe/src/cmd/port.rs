//! `floe port`: which ports of the node lead to a container.

use std::process::ExitCode;

use engine::pod::{Origin, PortMapping};
use engine::{Container, ContainerFilter, Engine};

use super::ps;
use crate::failure::Failure;
use crate::{names, output};

/// Options of `floe port`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of all running containers that people made
    #[arg(long, short)]
    all: bool,
    /// Of the newest container
    #[arg(long, short)]
    latest: bool,
    /// Name or id
    #[arg(required_unless_present_any = ["all", "latest"])]
    container: Option<String>,
    /// A port of the container, PORT[/PROTOCOL]: only where it is reached
    port: Option<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    if args.all {
        let filter = ContainerFilter {
            origin: Some(Origin::Cli),
            ..ContainerFilter::default()
        };
        for container in engine.containers(&filter)? {
            if container.runs() {
                for mapping in mappings(engine, &container)? {
                    println!("{}\t{}", output::short(&container.id), line(&mapping));
                }
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let newest = ps::selected(engine, &[], args.latest)?;
    // With --latest the first word is the port.
    let (name, port) = match newest.first() {
        Some(id) => (id.as_str(), args.container.as_deref()),
        None => (
            args.container.as_deref().unwrap_or_default(),
            args.port.as_deref(),
        ),
    };
    let container = names::find(engine, name)?;
    let all = mappings(engine, &container)?;
    let Some(port) = port else {
        for mapping in &all {
            println!("{}", line(mapping));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let wanted = match port.contains('/') {
        true => port.to_owned(),
        false => format!("{port}/tcp"),
    };
    let found: Vec<&PortMapping> = all
        .iter()
        .filter(|mapping| inside(mapping) == wanted)
        .collect();
    if found.is_empty() {
        let words = format!("failed to find published port {port:?}");
        return Err(Failure::new(words));
    }
    for mapping in found {
        println!("{}", outside(mapping));
    }
    Ok(ExitCode::SUCCESS)
}

fn mappings(engine: &Engine, container: &Container) -> Result<Vec<PortMapping>, Failure> {
    let mut all = engine.pod(&container.pod_id)?.spec.port_mappings;
    all.retain(|mapping| mapping.host_port != 0);
    Ok(all)
}

fn line(mapping: &PortMapping) -> String {
    format!("{} -> {}", inside(mapping), outside(mapping))
}

fn inside(mapping: &PortMapping) -> String {
    format!(
        "{}/{}",
        mapping.container_port,
        ps::protocol(mapping.protocol)
    )
}

fn outside(mapping: &PortMapping) -> String {
    let ip = mapping
        .host_ip
        .map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
    format!("{ip}:{}", mapping.host_port)
}
