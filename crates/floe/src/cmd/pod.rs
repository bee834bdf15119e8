//! `floe pod`: pods that people make, whose containers share a network, IPC and a host name. There is no infra
//! container: the pod's supervisor holds what is shared.

mod create;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use engine::{Container, ContainerFilter, ContainerState, Engine, Pod};
use serde_json::{Value, json};

use super::{kill, rm, start, stop};
use crate::failure::Failure;
use crate::filters::has_label;
use crate::{clock, names, output, template, terminal};

/// podman's exit code for what is not there.
const MISSING: u8 = 1;

/// What can be done to pods.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a pod
    Create(Box<create::Args>),
    /// Is there a pod of that name or id? The exit code says it: 0 or 1
    Exists(Name),
    /// Show what pods are
    Inspect(InspectArgs),
    /// Send a signal to the containers of pods
    Kill(KillArgs),
    /// Let the containers of pods stand still
    Pause(Which),
    /// List pods
    #[command(visible_aliases = ["ls", "list"])]
    Ps(PsArgs),
    /// Remove all pods that do not run
    Prune(PruneArgs),
    /// Stop and start the containers of pods
    Restart(Which),
    /// Remove pods with their containers
    Rm(RmArgs),
    /// Start the containers of pods
    Start(StartArgs),
    /// Stop the containers of pods
    Stop(StopArgs),
    /// Let the containers of pods go on
    Unpause(Which),
}

/// Which pods.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// The newest one
    #[arg(long, short)]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

/// Options of `floe pod start`.
#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {
    /// The pod whose id is in this file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Vec<PathBuf>,
    #[command(flatten)]
    which: Which,
}

/// Options of `floe pod stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// Be content with missing ones
    #[arg(long, short)]
    ignore: bool,
    /// Seconds to wait before killing, -1 for ever
    #[arg(long, short, value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// The pod whose id is in this file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Vec<PathBuf>,
    #[command(flatten)]
    which: Which,
}

/// Options of `floe pod rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Stop what runs, and be content with missing ones
    #[arg(long, short)]
    force: bool,
    /// Be content with missing ones
    #[arg(long, short)]
    ignore: bool,
    /// Seconds to wait before killing, -1 for ever
    #[arg(long, short, value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// The pod whose id is in this file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Vec<PathBuf>,
    #[command(flatten)]
    which: Which,
}

/// Options of `floe pod kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct KillArgs {
    /// The signal
    #[arg(long, short, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    which: Which,
}

/// Options of `floe pod prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(long, short)]
    force: bool,
}

/// Options of `floe pod inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// json, or a Go template such as '{{.State}}'
    #[arg(
        long,
        short,
        value_name = "FORMAT",
        allow_hyphen_values = true,
        default_value = "json"
    )]
    format: String,
    /// The newest one
    #[arg(long, short)]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

/// Options of `floe pod ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct PsArgs {
    /// KEY=VALUE: id, name, label, status, ctr-names, ctr-ids; those that match all
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, or a Go template such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// Print no line above the columns
    #[arg(long, short)]
    noheading: bool,
    /// What to sort by
    #[arg(long, value_name = "KEY", default_value = "created", value_parser = ["created", "id", "name", "number", "status"])]
    sort: String,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(long, short)]
    quiet: bool,
    /// The newest one
    #[arg(long, short)]
    latest: bool,
}

/// A name to be looked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Name or id
    name: String,
}

pub(crate) fn run(engine: &Engine, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create(args) => create::run(engine, args),
        Command::Exists(args) => match names::find_pod(engine, &args.name) {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(failure) if failure.is_missing() => Ok(ExitCode::from(MISSING)),
            Err(failure) => Err(failure),
        },
        Command::Inspect(args) => inspect(engine, args),
        Command::Kill(args) => {
            let signal = kill::signal(&args.signal)?;
            each(engine, &args.which, &[], false, |pod| {
                on(engine, pod, Container::runs, |one| {
                    Ok(engine.signal_container(&one.id, signal)?)
                })
            })
        }
        Command::Pause(which) => each(engine, which, &[], false, |pod| {
            let due = |one: &Container| one.runs() && !one.paused;
            on(engine, pod, due, |one| Ok(engine.pause_container(&one.id)?))
        }),
        Command::Unpause(which) => each(engine, which, &[], false, |pod| {
            let due = |one: &Container| one.paused;
            on(
                engine,
                pod,
                due,
                |one| Ok(engine.resume_container(&one.id)?),
            )
        }),
        Command::Ps(args) => list(engine, args),
        Command::Prune(args) => prune(engine, args),
        Command::Restart(which) => each(engine, which, &[], false, |pod| {
            on(engine, pod, Container::runs, |one| {
                Ok(engine.stop_container(&one.id, stop::patience(one, None))?)
            })?;
            begin(engine, pod)
        }),
        Command::Rm(args) => {
            let content = args.ignore || args.force;
            each(engine, &args.which, &args.pod_id_file, content, |pod| {
                remove(engine, pod, args.force, args.time)
            })
        }
        Command::Start(args) => each(engine, &args.which, &args.pod_id_file, false, |pod| {
            begin(engine, pod)
        }),
        Command::Stop(args) => each(engine, &args.which, &args.pod_id_file, args.ignore, |pod| {
            on(engine, pod, Container::runs, |one| {
                stop::note_stopped(engine, one, true)?;
                Ok(engine.stop_container(&one.id, stop::patience(one, args.time))?)
            })?;
            Ok(engine.stop_pod(&pod.id)?)
        }),
    }
}

/// Does `act` for each pod, and prints its id.
fn each(
    engine: &Engine,
    which: &Which,
    files: &[PathBuf],
    content: bool,
    act: impl Fn(&Pod) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let mut wanted = which.pods.clone();
    wanted.extend(names::of_files(files, content)?);
    if which.all || which.latest {
        let mut all = names::pods(engine)?;
        all.truncate(if which.all { usize::MAX } else { 1 });
        wanted.extend(all.iter().map(|pod| pod.id.clone()));
    } else if wanted.is_empty() && files.is_empty() {
        return Err(Failure::new("you must provide at least one pod name or id"));
    }
    super::for_each(&wanted, |name| {
        let pod = match names::find_pod(engine, name) {
            Err(failure) if failure.is_missing() && content => return Ok(()),
            found => found.map_err(|failure| failure.with_code(MISSING))?,
        };
        act(&pod)?;
        println!("{}", pod.id);
        Ok(())
    })
}

fn containers(engine: &Engine, pod: &Pod) -> Result<Vec<Arc<Container>>, Failure> {
    let filter = ContainerFilter {
        pod_id: Some(pod.id.clone()),
        ..ContainerFilter::default()
    };
    // Oldest first: in the order in which they were made.
    let mut all = engine.containers(&filter)?;
    all.reverse();
    Ok(all)
}

/// Does `act` for the containers of a pod that are `due`.
fn on(
    engine: &Engine,
    pod: &Pod,
    due: impl Fn(&Container) -> bool,
    act: impl Fn(&Container) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for container in containers(engine, pod)?.iter().filter(|one| due(one)) {
        act(container)?;
    }
    Ok(())
}

/// Starts all containers, and the pod if it has none.
fn begin(engine: &Engine, pod: &Pod) -> Result<(), Failure> {
    engine.start_pod(&pod.id)?;
    on(
        engine,
        pod,
        |one| !one.runs(),
        |one| start::start(engine, one),
    )
}

pub(super) fn remove(
    engine: &Engine,
    pod: &Pod,
    force: bool,
    time: Option<i64>,
) -> Result<(), Failure> {
    let all = containers(engine, pod)?;
    if !force && all.iter().any(|one| one.runs()) {
        let words = format!(
            "pod {} has containers that are running: cannot be removed without force: container state improper",
            pod.id
        );
        return Err(Failure::new(words).with_code(2));
    }
    on(engine, pod, Container::runs, |one| {
        Ok(engine.stop_container(&one.id, stop::patience(one, time))?)
    })?;
    engine.remove_pod(&pod.id)?;
    for container in &all {
        rm::remove_volumes(engine, container)?;
    }
    Ok(())
}

fn prune(engine: &Engine, args: &PruneArgs) -> Result<ExitCode, Failure> {
    let warning = "WARNING! This will remove all stopped/exited pods..";
    if !args.force && !terminal::agreed(warning)? {
        return Ok(ExitCode::SUCCESS);
    }
    for id in sweep(engine)? {
        println!("{id}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the pods of people in which nothing runs any more: their ids.
pub(crate) fn sweep(engine: &Engine) -> Result<Vec<String>, Failure> {
    let mut removed = Vec::new();
    for pod in names::pods(engine)? {
        let state = state(&pod, &containers(engine, &pod)?);
        if matches!(state, "Exited" | "Stopped") {
            remove(engine, &pod, false, None)?;
            removed.push(pod.id.clone());
        }
    }
    Ok(removed)
}

/// In podman's word.
fn state(pod: &Pod, containers: &[Arc<Container>]) -> &'static str {
    let count = |fits: fn(&Container) -> bool| containers.iter().filter(|one| fits(one)).count();
    let running = count(|one| one.runs() && !one.paused);
    let paused = count(|one| one.paused);
    let ended = count(|one| matches!(one.state, ContainerState::Exited { .. }));
    match (running, paused, ended) {
        (0, 0, 0) if pod.state == engine::PodState::Ready => "Running",
        (0, 0, 0) => "Created",
        (all, _, _) if all == containers.len() => "Running",
        (_, all, _) if all == containers.len() => "Paused",
        (0, 0, all) if all == containers.len() => "Exited",
        (0, 0, _) => "Stopped",
        _ => "Degraded",
    }
}

/// By podman's names.
fn described(pod: &Pod, containers: &[Arc<Container>], whole: bool) -> Value {
    let id = |id: &str| match whole {
        true => id.to_owned(),
        false => output::short(id),
    };
    let all: Vec<Value> = containers
        .iter()
        .map(|one| {
            let state = super::ps::state(one);
            json!({ "Id": one.id, "Name": one.spec.name, "Names": one.spec.name, "State": state, "Status": state })
        })
        .collect();
    let seconds = pod.created_at / 1_000_000_000;
    let state = state(pod, containers);
    json!({
        "Id": id(&pod.id),
        "ID": id(&pod.id),
        "Name": pod.spec.name,
        "Namespace": "",
        "Status": state,
        "State": state,
        "Created": clock::written(seconds),
        "CreatedHuman": output::ago(pod.created_at),
        "Hostname": pod.spec.hostname,
        "Labels": pod.spec.labels,
        "CgroupPath": pod.cgroup_parent,
        "CgroupParent": pod.spec.cgroup_parent,
        "CreateInfra": false,
        "InfraContainerID": "",
        "InfraId": "",
        "SharedNamespaces": ["ipc", "net", "uts"],
        "NumContainers": containers.len(),
        "NumberOfContainers": containers.len(),
        "ContainerIds": containers.iter().map(|one| one.id.clone()).collect::<Vec<_>>(),
        "ContainerNames": containers.iter().map(|one| one.spec.name.clone()).collect::<Vec<_>>().join(","),
        "Containers": all,
        "IPs": pod.ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "SupervisorPid": pod.supervisor_pid,
    })
}

fn inspect(engine: &Engine, args: &InspectArgs) -> Result<ExitCode, Failure> {
    let mut found = Vec::new();
    if args.latest {
        found.extend(names::pods(engine)?.into_iter().take(1));
    } else if args.pods.is_empty() {
        return Err(Failure::new("you must provide the name or id of a pod"));
    }
    for name in &args.pods {
        found.push(names::find_pod(engine, name)?);
    }
    let mut all = Vec::new();
    for pod in &found {
        all.push(described(pod, &containers(engine, pod)?, true));
    }
    template::print_each(&args.format, &all)?;
    Ok(ExitCode::SUCCESS)
}

fn list(engine: &Engine, args: &PsArgs) -> Result<ExitCode, Failure> {
    let mut values = Vec::new();
    for pod in names::pods(engine)? {
        let containers = containers(engine, &pod)?;
        if fits(&pod, &containers, &args.filter)? {
            values.push(described(&pod, &containers, args.no_trunc));
        }
    }
    if args.latest {
        values.truncate(1);
    }
    let key = match args.sort.as_str() {
        "id" => "Id",
        "name" => "Name",
        "number" => "NumberOfContainers",
        "status" => "Status",
        _ => "",
    };
    values.sort_by_key(|pod| pod[key].to_string());
    let text = |value: &Value, key: &str| match &value[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if args.quiet {
        values
            .iter()
            .for_each(|pod| println!("{}", text(pod, "Id")));
        return Ok(ExitCode::SUCCESS);
    }
    const COLUMNS: [(&str, &str); 6] = [
        ("Id", "POD ID"),
        ("Name", "NAME"),
        ("Status", "STATUS"),
        ("CreatedHuman", "CREATED"),
        ("InfraId", "INFRA ID"),
        ("NumberOfContainers", "# OF CONTAINERS"),
    ];
    match args.format.as_deref() {
        Some("json") => {
            output::print_list(&values);
        }
        Some(format) => {
            let titles = COLUMNS.map(|(key, title)| (key.to_owned(), Value::from(title)));
            let titles = Value::Object(titles.into_iter().collect());
            print!("{}", template::lines(format, &titles, &values)?);
        }
        None => {
            let row = |pod: &Value| COLUMNS.map(|(key, _)| text(pod, key)).to_vec();
            let rows: Vec<Vec<String>> = values.iter().map(row).collect();
            let table = output::table(&COLUMNS.map(|(_, title)| title), &rows);
            let skipped = usize::from(args.noheading);
            table
                .lines()
                .skip(skipped)
                .for_each(|line| println!("{line}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fits(pod: &Pod, containers: &[Arc<Container>], filters: &[String]) -> Result<bool, Failure> {
    for text in filters {
        let wrong = |why: &str| Failure::new(format!("--filter {text:?}: {why}"));
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| wrong("write KEY=VALUE"))?;
        let named = |name: &str| {
            let pattern = regex::Regex::new(value).map_err(|error| wrong(&error.to_string()))?;
            Ok::<_, Failure>(pattern.is_match(name))
        };
        let fits = match key {
            "id" => pod.id.starts_with(value),
            "name" => named(&pod.spec.name)?,
            "label" => has_label(&pod.spec.labels, value),
            "status" => state(pod, containers).eq_ignore_ascii_case(value),
            "ctr-names" => containers.iter().any(|one| one.spec.name == value),
            "ctr-ids" => containers.iter().any(|one| one.id.starts_with(value)),
            _ => return Err(wrong("it is an invalid filter here")),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}
