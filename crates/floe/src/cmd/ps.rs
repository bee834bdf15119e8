//! `floe ps`: containers, those of people and with `--all --pod` those of kubelet too.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use engine::pod::{Origin, Protocol};
use engine::{Container, ContainerFilter, ContainerState, Engine, Pod, PodFilter};

use crate::failure::Failure;
use crate::output;

/// Options of `floe ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Those that do not run, too
    #[arg(long, short)]
    all: bool,
    /// Print only ids
    #[arg(long, short)]
    quiet: bool,
    /// Print the pod of each container, kubelet's pods included
    #[arg(long, short)]
    pod: bool,
    /// Print whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// `table` or `json`
    #[arg(long, default_value = "table", value_parser = ["table", "json"])]
    format: String,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let origin = (!args.pod).then_some(Origin::Cli);
    let pods = engine.pods(&PodFilter {
        origin,
        ..PodFilter::default()
    })?;
    let pods: HashMap<&str, &Pod> = pods.iter().map(|pod| (pod.id.as_str(), &**pod)).collect();
    let containers: Vec<Arc<Container>> = engine
        .containers(&ContainerFilter {
            origin,
            ..ContainerFilter::default()
        })?
        .into_iter()
        .filter(|container| args.all || matches!(container.state, ContainerState::Running { .. }))
        .collect();
    if args.quiet {
        containers
            .iter()
            .for_each(|container| println!("{}", id(&container.id, args)));
    } else if args.format == "json" {
        let list: Vec<_> = containers
            .iter()
            .map(|c| json(c, pods.get(c.pod_id.as_str()).copied()))
            .collect();
        println!(
            "{}",
            output::json(&serde_json::to_string_pretty(&list).unwrap_or_default())
        );
    } else {
        print!("{}", table(&containers, &pods, args));
    }
    Ok(ExitCode::SUCCESS)
}

fn id(id: &str, args: &Args) -> String {
    if args.no_trunc {
        id.to_owned()
    } else {
        output::short(id)
    }
}

fn table(containers: &[Arc<Container>], pods: &HashMap<&str, &Pod>, args: &Args) -> String {
    let mut header = vec![
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ];
    if args.pod {
        header.extend(["POD ID", "PODNAME"]);
    }
    let rows: Vec<Vec<String>> = containers
        .iter()
        .map(|container| {
            let pod = pods.get(container.pod_id.as_str());
            let mut row = vec![
                id(&container.id, args),
                container.spec.user_specified_image.clone(),
                command(container, args),
                output::ago(container.created_at),
                status(&container.state),
                pod.map(|pod| ports(pod)).unwrap_or_default(),
                container.spec.name.clone(),
            ];
            if args.pod {
                row.push(id(&container.pod_id, args));
                row.push(pod.map(|pod| pod.spec.name.clone()).unwrap_or_default());
            }
            row
        })
        .collect();
    output::table(&header, &rows)
}

fn command(container: &Container, args: &Args) -> String {
    let text = container.args.join(" ");
    if args.no_trunc || text.chars().count() <= 20 {
        return text;
    }
    text.chars().take(20).chain("...".chars()).collect()
}

fn status(state: &ContainerState) -> String {
    match state {
        ContainerState::Created => "Created".into(),
        ContainerState::Running { started_at } => {
            format!("Up {}", output::ago(*started_at).trim_end_matches(" ago"))
        }
        ContainerState::Exited {
            exit_code,
            finished_at,
            ..
        } => {
            format!("Exited ({exit_code}) {}", output::ago(*finished_at))
        }
        ContainerState::Unknown => "Unknown".into(),
    }
}

fn ports(pod: &Pod) -> String {
    let port = |mapping: &engine::pod::PortMapping| {
        let protocol = match mapping.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        let host = mapping
            .host_ip
            .map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
        format!(
            "{host}:{}->{}/{protocol}",
            mapping.host_port, mapping.container_port
        )
    };
    pod.spec
        .port_mappings
        .iter()
        .filter(|m| m.host_port != 0)
        .map(port)
        .collect::<Vec<_>>()
        .join(", ")
}

fn json(container: &Container, pod: Option<&Pod>) -> serde_json::Value {
    let exit_code = match container.state {
        ContainerState::Exited { exit_code, .. } => Some(exit_code),
        _ => None,
    };
    serde_json::json!({
        "Id": container.id,
        "Names": [container.spec.name],
        "Image": container.spec.user_specified_image,
        "ImageID": container.image_id,
        "Command": container.args,
        "Created": container.created_at / 1_000_000_000,
        "State": format!("{:?}", container.state.kind()).to_lowercase(),
        "Status": status(&container.state),
        "ExitCode": exit_code,
        "Pid": container.pid,
        "Pod": container.pod_id,
        "PodName": pod.map(|pod| pod.spec.name.clone()),
        "IPs": pod.map(|pod| pod.ips.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "Labels": container.spec.labels,
    })
}
