//! `floe ps`: containers, those of people and with `--all --pod` those of kubelet too.

mod filter;

pub(crate) use filter::Filters;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use engine::container::Health;
use engine::pod::{Origin, Protocol};
use engine::{Container, ContainerFilter, ContainerState, Engine, Pod, PodFilter};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::refused::{self, List, NotOffered, Takes};
use crate::{clock, output, template};

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
    /// table, json, or a Go template such as '{{.ID}} {{.Names}}'
    #[arg(
        long,
        default_value = "table",
        value_name = "FORMAT",
        allow_hyphen_values = true
    )]
    format: String,
    /// Print no line above the columns
    #[arg(long)]
    noheading: bool,
    /// KEY=VALUE: id, name, label, status, health, exited, ancestor, pod, volume, restart-policy, should-start-on-boot,
    /// before, since, until; those that match all keys
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// The newest one, whatever its state
    #[arg(long, short)]
    latest: bool,
    /// So many of the newest, whatever their state
    #[arg(long, short = 'n', value_name = "NUMBER", allow_hyphen_values = true)]
    last: Option<i64>,
    /// What to sort by
    #[arg(long, value_name = "KEY", default_value = "created")]
    sort: Sort,
    /// Accepted for podman's sake: there are no containers of other tools
    #[arg(long)]
    external: bool,
    /// Accepted for podman's sake: what is shown is how it is
    #[arg(long)]
    sync: bool,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
}

/// What podman's ps has besides.
#[derive(Debug)]
pub(crate) struct Refused;

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[
        ("namespace", Takes::Nothing, "/proc/PID/ns has them"),
        (
            "size",
            Takes::Nothing,
            "what a container has written is not counted here",
        ),
        ("watch", Takes::Value, "watch(1) does it with any command"),
    ];
}

/// What containers are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    Command,
    Created,
    Id,
    Image,
    Names,
    Runningfor,
    Status,
}

/// A container with its pod.
struct Line {
    container: Arc<Container>,
    pod: Option<Arc<Pod>>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let lines = lines(engine, args)?;
    if args.quiet {
        lines
            .iter()
            .for_each(|line| println!("{}", id(&line.container.id, args)));
        return Ok(ExitCode::SUCCESS);
    }
    match args.format.as_str() {
        "json" => {
            let list: Vec<_> = lines.iter().map(json).collect();
            output::print_list(&list);
        }
        "table" => {
            let text = table(&lines, args);
            let kept = if args.noheading { 1 } else { 0 };
            text.lines().skip(kept).for_each(|line| println!("{line}"));
        }
        format => {
            let values: Vec<_> = lines.iter().map(|line| fields(line, args)).collect();
            print!("{}", template::lines(format, &headings(), &values)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The containers of people that match, for verbs that are told which by what they are: their ids.
pub(crate) fn selected(
    engine: &Engine,
    filters: &[String],
    latest: bool,
) -> Result<Vec<String>, Failure> {
    if filters.is_empty() && !latest {
        return Ok(Vec::new());
    }
    let filters = filter::Filters::parse(engine, filters)?;
    let mut all = engine.containers(&ContainerFilter {
        origin: Some(Origin::Cli),
        ..ContainerFilter::default()
    })?;
    all.retain(|container| {
        filters.match_all(container, engine.pod(&container.pod_id).ok().as_ref())
    });
    if latest {
        all.sort_by_key(|container| std::cmp::Reverse(container.created_at));
        all.truncate(1);
    }
    Ok(all.iter().map(|container| container.id.clone()).collect())
}

/// What podman's `--filter` says.
pub(crate) fn filters(engine: &Engine, given: &[String]) -> Result<Filters, Failure> {
    Filters::parse(engine, given)
}

/// What is to be shown, in order.
fn lines(engine: &Engine, args: &Args) -> Result<Vec<Line>, Failure> {
    let origin = (!args.pod).then_some(Origin::Cli);
    let pods = engine.pods(&PodFilter {
        origin,
        ..PodFilter::default()
    })?;
    let pods: HashMap<String, Arc<Pod>> =
        pods.into_iter().map(|pod| (pod.id.clone(), pod)).collect();
    let containers = engine.containers(&ContainerFilter {
        origin,
        ..ContainerFilter::default()
    })?;
    let filters = filter::Filters::parse(engine, &args.filter)?;
    let last = match (args.latest, args.last) {
        (true, _) => Some(1),
        (false, last) => last.and_then(|last| usize::try_from(last).ok()),
    };
    let all = args.all || last.is_some() || filters.are_of_state();
    let is_shown = |line: &Line| {
        (all || line.container.runs()) && filters.match_all(&line.container, line.pod.as_deref())
    };
    let mut lines: Vec<Line> = containers
        .into_iter()
        .map(|container| Line {
            pod: pods.get(&container.pod_id).cloned(),
            container,
        })
        .filter(is_shown)
        .collect();
    if let Some(last) = last {
        lines.sort_by_key(|line| std::cmp::Reverse(line.container.created_at));
        lines.truncate(last);
    }
    match args.sort {
        Sort::Created | Sort::Runningfor => lines.sort_by_key(|line| line.container.created_at),
        Sort::Command => lines.sort_by_key(|line| line.container.args.join(" ")),
        Sort::Id => lines.sort_by_key(|line| line.container.id.clone()),
        Sort::Image => lines.sort_by_key(|line| line.container.spec.user_specified_image.clone()),
        Sort::Names => lines.sort_by_key(|line| line.container.spec.name.clone()),
        Sort::Status => lines.sort_by_key(|line| state(&line.container)),
    }
    Ok(lines)
}

fn id(id: &str, args: &Args) -> String {
    if args.no_trunc {
        id.to_owned()
    } else {
        output::short(id)
    }
}

fn table(lines: &[Line], args: &Args) -> String {
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
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|Line { container, pod }| {
            let mut row = vec![
                id(&container.id, args),
                container.spec.user_specified_image.clone(),
                command(container, args),
                output::ago(container.created_at),
                status(container),
                pod.as_deref().map(ports).unwrap_or_default(),
                container.spec.name.clone(),
            ];
            if args.pod {
                row.push(id(&container.pod_id, args));
                row.push(
                    pod.as_ref()
                        .map(|pod| pod.spec.name.clone())
                        .unwrap_or_default(),
                );
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

/// The state in podman's word.
pub(crate) fn state(container: &Container) -> String {
    if container.paused {
        return "paused".to_owned();
    }
    format!("{:?}", container.state.kind()).to_lowercase()
}

/// How it is, if that is checked; a record that cannot be read says nothing.
pub(crate) fn health(container: &Container) -> Option<Health> {
    container.health_check()?;
    let record = container.health().ok().flatten();
    Some(record.unwrap_or_default().status)
}

fn status(container: &Container) -> String {
    if container.paused {
        return "Paused".into();
    }
    match &container.state {
        ContainerState::Created => "Created".into(),
        ContainerState::Running { started_at } => {
            let up = output::ago(*started_at);
            let up = up.trim_end_matches(" ago");
            match health(container) {
                Some(health) => format!("Up {up} ({})", health.word()),
                None => format!("Up {up}"),
            }
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

/// A protocol in everybody's word.
pub(crate) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn ports(pod: &Pod) -> String {
    let port = |mapping: &engine::pod::PortMapping| {
        let protocol = protocol(mapping.protocol);
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

fn exit_code(container: &Container) -> Option<i32> {
    match container.state {
        ContainerState::Exited { exit_code, .. } => Some(exit_code),
        _ => None,
    }
}

fn json(line: &Line) -> Value {
    let Line { container, pod } = line;
    let pod = pod.as_deref();
    json!({
        "Id": container.id,
        "Names": [container.spec.name],
        "Image": container.spec.user_specified_image,
        "ImageID": container.image_id,
        "Command": container.args,
        "Created": container.created_at / 1_000_000_000,
        "State": state(container),
        "Status": status(container),
        "ExitCode": exit_code(container),
        "Exited": exit_code(container).is_some(),
        "Pid": container.pid,
        "Pod": container.pod_id,
        "PodName": pod.map(|pod| pod.spec.name.clone()),
        "IPs": pod.map(|pod| pod.ips.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "Labels": container.spec.labels,
    })
}

/// What templates know of a container, by podman's names.
fn fields(line: &Line, args: &Args) -> Value {
    let Line { container, pod } = line;
    let labels = container.spec.labels.iter();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mounts = container.spec.mounts.iter();
    let mounts: Vec<String> = mounts
        .map(|mount| mount.container_path.display().to_string())
        .collect();
    let (started, ended) = match &container.state {
        ContainerState::Running { started_at } => (*started_at, 0),
        ContainerState::Exited {
            started_at,
            finished_at,
            ..
        } => (*started_at, *finished_at),
        _ => (0, 0),
    };
    let seconds = |nanoseconds: i64| nanoseconds / 1_000_000_000;
    json!({
        "ID": id(&container.id, args),
        "Names": container.spec.name,
        "Image": container.spec.user_specified_image,
        "ImageID": id(&container.image_id, args),
        "Command": command(container, args),
        "Created": output::ago(container.created_at),
        "CreatedAt": clock::written(seconds(container.created_at)),
        "CreatedHuman": output::ago(container.created_at),
        "RunningFor": output::ago(container.created_at),
        "State": state(container),
        "Status": status(container),
        "StartedAt": seconds(started),
        "Exited": ended != 0,
        "ExitedAt": seconds(ended),
        "ExitCode": exit_code(container).unwrap_or(0),
        "Pid": container.pid.unwrap_or(0),
        "Pod": id(&container.pod_id, args),
        "PodName": pod.as_ref().map(|pod| pod.spec.name.clone()).unwrap_or_default(),
        "Ports": pod.as_deref().map(ports).unwrap_or_default(),
        "Labels": labels.join(","),
        "Mounts": mounts.join(","),
        "Networks": match pod {
            Some(pod) => engine::networks::networks_of(pod).join(","),
            None => String::new(),
        },
    })
}

/// What stands above a column of a template.
fn headings() -> Value {
    json!({
        "ID": "CONTAINER ID",
        "Names": "NAMES",
        "Image": "IMAGE",
        "ImageID": "IMAGE ID",
        "Command": "COMMAND",
        "Created": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedHuman": "CREATED",
        "RunningFor": "CREATED",
        "State": "STATE",
        "Status": "STATUS",
        "StartedAt": "STARTED AT",
        "Exited": "EXITED",
        "ExitedAt": "EXITED AT",
        "ExitCode": "EXIT CODE",
        "Pid": "PID",
        "Pod": "POD ID",
        "PodName": "PODNAME",
        "Ports": "PORTS",
        "Labels": "LABELS",
        "Mounts": "MOUNTS",
        "Networks": "NETWORKS",
    })
}
