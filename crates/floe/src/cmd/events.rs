//! `floe events`: what happens to containers and pods from now on, whoever does it (podman events). Nobody writes down
//! what has happened before: there is no daemon that could.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use engine::events::{Event, Happening, Notice, PodViews, Subscription};
use engine::pod::Origin;
use engine::{Container, ContainerState, Engine, Pod};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::filters::{Filters, has_label, is_named};
use crate::refused::{self, List, NotOffered, Takes};
use crate::{clock, output, remote, template};

/// Options of `floe events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// KEY=VALUE: container, pod, image, event, type, label; those that match all keys
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, or a Go template such as '{{.Time}} {{.Type}} {{.Status}} {{.Name}}'
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// Print short ids
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, hide_default_value = true, default_missing_value = "true")]
    no_trunc: bool,
    /// Those of kubelet's pods, too
    #[arg(long, short)]
    all: bool,
    /// End after so long, such as 10s
    #[arg(long, value_name = "DURATION", value_parser = clock::duration)]
    until: Option<Duration>,
    /// Wait for what comes: false is not offered, for nobody writes down what has happened
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, hide_default_value = true, default_missing_value = "true")]
    stream: bool,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
}

/// What podman's events has besides.
#[derive(Debug)]
pub(crate) struct Refused;

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[("since", Takes::Value, NO_PAST)];
}

const NO_PAST: &str = "nobody writes down what has happened: floe events shows what happens from now on, and floe ps -a and \
                       floe inspect how things are";

/// What is known of those to whom something may happen: one that is gone is told with what was known of it.
#[derive(Default)]
struct Known {
    containers: HashMap<String, Arc<Container>>,
    pods: HashMap<String, Arc<Pod>>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    if !args.stream {
        return Err(Failure::new(format!(
            "--stream=false is not offered: {NO_PAST}"
        )));
    }
    let filters = Filters::parse(&args.filter, check)?;
    let mut subscription = engine.subscribe()?;
    remote::block_on(async {
        let told = tell(&mut subscription, args, &filters);
        match args.until {
            Some(limit) => tokio::time::timeout(limit, told).await.unwrap_or(Ok(())),
            None => told.await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn tell(
    subscription: &mut Subscription,
    args: &Args,
    filters: &Filters,
) -> Result<(), Failure> {
    let mut known = Known::default();
    loop {
        match subscription.next().await? {
            Notice::Present(all) => all.iter().for_each(|views| known.learn(views)),
            Notice::Gap { missed } => eprintln!("floe: {missed} events were missed"),
            Notice::Event(event) => {
                known.learn(&event.views);
                if let Some(fields) = known.fields(&event, args)
                    && matches(&fields, filters)?
                {
                    println!("{}", line(&fields, args)?);
                }
                known.forget(&event);
            }
        }
    }
}

impl Known {
    fn learn(&mut self, views: &PodViews) {
        for container in &views.containers {
            self.containers
                .insert(container.id.clone(), container.clone());
        }
        if let Some(pod) = &views.pod {
            self.pods.insert(pod.id.clone(), pod.clone());
        }
    }

    fn forget(&mut self, event: &Event) {
        if event.what != Happening::Deleted {
            return;
        }
        match &event.container_id {
            Some(id) => drop(self.containers.remove(&**id)),
            None => drop(self.pods.remove(&*event.pod_id)),
        }
    }

    /// An event by podman's names; `None` of one that is nobody's to see.
    fn fields(&self, event: &Event, args: &Args) -> Option<Value> {
        let pod = event.pod.as_ref().or(self.pods.get(&*event.pod_id))?;
        let is_kubelets = pod.spec.origin == Origin::Cri;
        // The pod that stands for a container alone is none of a person's.
        if (is_kubelets && !args.all)
            || (event.container_id.is_none() && !is_kubelets && !pod.spec.by_itself)
        {
            return None;
        }
        let id = |id: &str| match args.no_trunc {
            true => id.to_owned(),
            false => output::short(id),
        };
        let container = match &event.container_id {
            Some(id) => Some(self.containers.get(&**id)?),
            None => None,
        };
        let written = base::time::rfc3339_nanos(event.at);
        let mut fields = json!({
            "Type": if container.is_some() { "container" } else { "pod" },
            "Status": word(event.what, container.is_some()),
            "Time": String::from_utf8_lossy(&written),
            "TimeUnix": event.at / 1_000_000_000,
            "TimeUnixNano": event.at,
            "PodID": id(&pod.id),
            "PodName": pod.spec.name,
        });
        let more = match container {
            Some(container) => json!({
                "ID": id(&container.id),
                "Name": container.spec.name,
                "Image": container.spec.user_specified_image,
                "Attributes": container.spec.labels,
                "ContainerExitCode": match (&container.state, event.what) {
                    (ContainerState::Exited { exit_code, .. }, Happening::Stopped) => Some(*exit_code),
                    _ => None,
                },
            }),
            None => json!({
                "ID": id(&pod.id),
                "Name": pod.spec.name,
                "Image": "",
                "Attributes": pod.spec.labels,
                "ContainerExitCode": null,
            }),
        };
        if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
            fields.extend(more);
        }
        Some(fields)
    }
}

/// What happened, in podman's word.
fn word(what: Happening, to_container: bool) -> &'static str {
    match what {
        Happening::Created => "create",
        Happening::Started => "start",
        Happening::Paused => "pause",
        Happening::Resumed => "unpause",
        Happening::OutOfMemory => "oom",
        Happening::Stopped if to_container => "died",
        Happening::Stopped => "stop",
        Happening::Deleted => "remove",
    }
}

fn check(key: &str, value: &str) -> Result<(), Failure> {
    match key {
        "container" | "pod" | "image" | "event" | "label" => Ok(()),
        "type" if matches!(value, "container" | "pod") => Ok(()),
        "type" => Err(Failure::new(format!(
            "--filter type={value}: events are told of container and pod"
        ))),
        other => Err(Failure::new(format!("{other} is an invalid filter"))),
    }
}

fn matches(fields: &Value, filters: &Filters) -> Result<bool, Failure> {
    let text = |key: &str| fields[key].as_str().unwrap_or_default();
    let is_it = |wanted: &str, kind: &str| {
        text("Type") == kind
            && !wanted.is_empty()
            && (text("Name") == wanted || text("ID").starts_with(wanted))
    };
    filters.match_all(|key, value| {
        Ok(match key {
            "container" => is_it(value, "container"),
            "pod" => {
                !value.is_empty() && (text("PodName") == value || text("PodID").starts_with(value))
            }
            "image" => is_named(text("Image"), value),
            "event" => text("Status") == value,
            "type" => text("Type") == value,
            _ => {
                let labels = serde_json::from_value(fields["Attributes"].clone());
                has_label(&labels.unwrap_or_default(), value)
            }
        })
    })
}

fn line(fields: &Value, args: &Args) -> Result<String, Failure> {
    match args.format.as_deref() {
        Some("json") => Ok(fields.to_string()),
        Some(format) => template::render(format, fields),
        None => Ok(said(fields)),
    }
}

/// An event as podman says it to a person.
fn said(fields: &Value) -> String {
    let text = |key: &str| output::shown(fields[key].as_str().unwrap_or_default()).into_owned();
    let time = clock::as_go_prints(&text("Time")).unwrap_or_default();
    let mut about = vec![
        format!("image={}", text("Image")),
        format!("name={}", text("Name")),
    ];
    if text("Type") == "container" && text("PodID") != text("ID") {
        about.push(format!("pod_id={}", text("PodID")));
    }
    if let Some(code) = fields["ContainerExitCode"].as_i64() {
        about.push(format!("containerExitCode={code}"));
    }
    let labels = fields["Attributes"].as_object();
    for (name, value) in labels.into_iter().flatten() {
        let pair = format!("{name}={}", value.as_str().unwrap_or_default());
        about.push(output::shown(&pair).into_owned());
    }
    format!(
        "{time} {} {} {} ({})",
        text("Type"),
        text("Status"),
        text("ID"),
        about.join(", ")
    )
}
