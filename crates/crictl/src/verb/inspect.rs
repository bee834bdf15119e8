//! What a runtime knows of single pods, containers and images.

use std::collections::BTreeMap;

use clap::Args;
use prost::{Message, Name};
use serde_json::Value;

use super::{World, images};
use crate::failure::{Context, Failure, Outcome};
use crate::filter::{self, Containers, Pods};
use crate::output::{Status, pairs, statuses};
use crate::table::size;
use crate::{clock, json, output, say};

/// How it is printed.
#[derive(Debug, Args)]
pub(crate) struct Form {
    /// json, yaml, go-template or table
    #[arg(long, short, value_name = "FORMAT", default_value = "json")]
    output: String,
    /// Without what the runtime says beside the CRI's own fields
    #[arg(long, short)]
    quiet: bool,
    /// The template of go-template
    #[arg(long, default_value = "", hide_default_value = true)]
    template: String,
}

/// Options of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    wanted: Containers,
    /// The containers; none: those that the options mean
    #[arg(value_name = "CONTAINER-ID")]
    containers: Vec<String>,
}

/// Options of `inspectp`.
#[derive(Debug, Args)]
pub(crate) struct InspectpArgs {
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    wanted: Pods,
    /// The pods; none: those that the options mean
    #[arg(value_name = "POD-ID")]
    pods: Vec<String>,
}

/// Options of `inspecti`.
#[derive(Debug, Args)]
pub(crate) struct InspectiArgs {
    #[command(flatten)]
    form: Form,
    /// The image of this name
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// dangling=true|false, reference=PATTERN, before=IMAGE or since=IMAGE
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// The images; none: those that the options mean
    #[arg(value_name = "IMAGE-ID")]
    images: Vec<String>,
}

/// Nothing was named and nothing fits.
fn nothing() -> Failure {
    say::error("No IDs provided or nothing found per filter");
    Failure::Help
}

/// What of a status is printed: the table's text, or the value of the other forms.
struct Seen {
    table: String,
    status: Status,
}

impl Form {
    fn print(&self, world: &World, all: Vec<Seen>) -> Outcome {
        if self.output == "table" {
            let text: String = all.into_iter().map(|seen| seen.table).collect();
            say::print(&text);
            return Ok(());
        }
        let all = all.into_iter().map(|seen| seen.status).collect();
        statuses(all, &self.output, &self.template, world.render)
    }

    fn info(&self, out: &mut String, info: &BTreeMap<String, String>) {
        if !self.quiet {
            *out += &format!("Info: {}\n", say::lines(&output::go_map(info)));
        }
    }
}

/// A status as crictl has it in JSON: messages that are not there are null, and times are written out.
fn value<M: Message + Name>(message: &M, times: &[(&str, String)]) -> Outcome<Value> {
    let mut value = json::value(message)?;
    if let Value::Object(map) = &mut value {
        for field in json::descriptor(&M::full_name())?.fields() {
            map.entry(field.json_name()).or_insert(Value::Null);
        }
        for (key, time) in times {
            map.insert((*key).to_owned(), Value::String(time.clone()));
        }
    }
    Ok(value)
}

pub(crate) async fn inspect(world: &World, args: &InspectArgs) -> Outcome {
    let runtime = world.runtime().await?;
    let mut ids = args.containers.clone();
    if ids.is_empty() {
        let images = world.images_beside(&runtime).await?;
        let found = args.wanted.list("", &runtime, &images).await;
        let found = found.context("listing containers")?;
        ids = found.into_iter().map(|container| container.id).collect();
    }
    if ids.is_empty() {
        return Err(nothing());
    }
    let mut all = Vec::new();
    for id in ids {
        let request = cri::ContainerStatusRequest {
            container_id: id,
            verbose: !args.form.quiet,
        };
        let answer = runtime
            .call(async |mut client| client.container_status(request).await)
            .await
            .context("get container status")
            .context("get the status of containers")?;
        all.push(container(answer, &args.form)?);
    }
    args.form
        .print(world, all)
        .context("get the status of containers")
}

fn container(answer: cri::ContainerStatusResponse, form: &Form) -> Outcome<Seen> {
    use cri::ContainerState as State;
    let status = answer.status.unwrap_or_default();
    let state = status.state();
    let has_ended = state == State::ContainerExited
        || (state == State::ContainerUnknown && status.finished_at > 0);
    let time = |is_one: bool, time| match is_one {
        true => clock::rfc3339(time),
        false => clock::NEVER.to_owned(),
    };
    let times = [
        ("createdAt", clock::rfc3339(status.created_at)),
        (
            "startedAt",
            time(state != State::ContainerCreated, status.started_at),
        ),
        ("finishedAt", time(has_ended, status.finished_at)),
    ];
    let mut table = format!("ID: {}\n", say::shown(&status.id));
    if let Some(metadata) = &status.metadata {
        if !metadata.name.is_empty() {
            table += &format!("Name: {}\n", say::shown(&metadata.name));
        }
        if metadata.attempt != 0 {
            table += &format!("Attempt: {}\n", metadata.attempt);
        }
    }
    table += &format!("State: {}\n", state.as_str_name());
    table += &format!("Created: {}\n", clock::ago(status.created_at));
    if state != State::ContainerCreated {
        table += &format!("Started: {}\n", clock::ago(status.started_at));
    }
    if state == State::ContainerExited {
        if status.finished_at > 0 {
            table += &format!("Finished: {}\n", clock::ago(status.finished_at));
        }
        table += &format!("Exit Code: {}\n", status.exit_code);
    }
    pairs(&mut table, "Labels", &status.labels);
    pairs(&mut table, "Annotations", &status.annotations);
    form.info(&mut table, &answer.info);
    let status = Status {
        status: value(&status, &times)?,
        info: answer.info,
        ..Status::default()
    };
    Ok(Seen { table, status })
}

pub(crate) async fn inspectp(world: &World, args: &InspectpArgs) -> Outcome {
    let runtime = world.runtime().await?;
    let mut ids = args.pods.clone();
    if ids.is_empty() {
        let found = args.wanted.list("", &runtime).await;
        let found = found.context("listing pod sandboxes")?;
        ids = found.into_iter().map(|pod| pod.id).collect();
    }
    if ids.is_empty() {
        return Err(nothing());
    }
    let mut all = Vec::new();
    for id in ids {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id,
            verbose: !args.form.quiet,
        };
        let answer = runtime
            .call(async |mut client| client.pod_sandbox_status(request).await)
            .await
            .context("get pod sandbox status")
            .context("get the status of pod sandboxes")?;
        all.push(pod(answer, &args.form)?);
    }
    args.form
        .print(world, all)
        .context("get the status of pod sandboxes")
}

fn pod(answer: cri::PodSandboxStatusResponse, form: &Form) -> Outcome<Seen> {
    let status = answer.status.unwrap_or_default();
    let mut table = format!("ID: {}\n", say::shown(&status.id));
    if let Some(metadata) = &status.metadata {
        for (name, value) in [
            ("Name", &metadata.name),
            ("UID", &metadata.uid),
            ("Namespace", &metadata.namespace),
        ] {
            if !value.is_empty() {
                table += &format!("{name}: {}\n", say::shown(value));
            }
        }
        table += &format!("Attempt: {}\n", metadata.attempt);
    }
    table += &format!("Status: {}\n", status.state().as_str_name());
    table += &format!("Created: {}\n", clock::as_go_prints(status.created_at));
    if let Some(network) = &status.network {
        table += &format!("IP Addresses: {}\n", say::shown(&network.ip));
        for ip in &network.additional_ips {
            table += &format!("Additional IP: {}\n", say::shown(&ip.ip));
        }
    }
    pairs(&mut table, "Labels", &status.labels);
    pairs(&mut table, "Annotations", &status.annotations);
    form.info(&mut table, &answer.info);
    let times = [("createdAt", clock::rfc3339(status.created_at))];
    let status = Status {
        status: value(&status, &times)?,
        info: answer.info,
        ..Status::default()
    };
    Ok(Seen { table, status })
}

pub(crate) async fn inspecti(world: &World, args: &InspectiArgs) -> Outcome {
    let images = world.images().await?;
    let mut ids = args.images.clone();
    if ids.is_empty() {
        let found = images::list(&images, &args.name, &args.filter).await;
        let found = found.context("listing images")?;
        ids = found.into_iter().map(|image| image.id).collect();
    }
    if ids.is_empty() {
        return Err(nothing());
    }
    let mut all = Vec::new();
    for id in ids {
        let answer = filter::image_status(&images, &id, !args.form.quiet)
            .await
            .context(format!("image status for {id:?} request"))?;
        let Some(image) = answer.image else {
            return Err(Failure::new(format!("no such image {id:?} present")));
        };
        let mut table = format!("ID: {}\n", say::shown(&image.id));
        for tag in &image.repo_tags {
            table += &format!("Tag: {}\n", say::shown(tag));
        }
        for digest in &image.repo_digests {
            table += &format!("Digest: {}\n", say::shown(digest));
        }
        table += &format!("Size: {}\n", size(image.size, 3));
        args.form.info(&mut table, &answer.info);
        let status = Status {
            status: json::value(&image)?,
            info: answer.info,
            ..Status::default()
        };
        all.push(Seen { table, status });
    }
    args.form.print(world, all)
}
