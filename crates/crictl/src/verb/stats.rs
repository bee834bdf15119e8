//! What containers and pods use, and the metrics of pods.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use prost::{Message, Name};

use super::World;
use crate::connection::Runtime;
use crate::failure::{Context, Failure, Outcome};
use crate::table::{Table, size};
use crate::{filter, output, say};

/// Between two prints of what is watched.
const AGAIN: Duration = Duration::from_millis(500);

/// Options of `stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Those that do not run too
    #[arg(long, short)]
    all: bool,
    /// The one whose id begins so
    #[arg(long)]
    id: Option<String>,
    /// Those of this pod
    #[arg(
        long,
        short,
        value_name = "POD-ID",
        default_value = "",
        hide_default_value = true
    )]
    pod: String,
    #[command(flatten)]
    shown: Shown,
    /// The container
    #[arg(value_name = "ID")]
    word: Vec<String>,
}

/// Options of `statsp`.
#[derive(Debug, Args)]
pub(crate) struct StatspArgs {
    /// The one whose id begins so
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    shown: Shown,
    /// The pod
    #[arg(value_name = "ID")]
    word: Vec<String>,
}

#[derive(Debug, Args)]
struct Shown {
    /// Those with this label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// json, yaml or table
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<String>,
    /// Seconds over which the use of processors is measured
    #[arg(long, short, default_value_t = 1)]
    seconds: u32,
    /// Again and again
    #[arg(long, short)]
    watch: bool,
}

/// Options of `metricsp`.
#[derive(Debug, Args)]
pub(crate) struct MetricspArgs {
    /// json or yaml
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<String>,
    /// Again and again
    #[arg(long, short)]
    watch: bool,
    #[arg(hide = true)]
    words: Vec<String>,
}

/// Options of `metricdescs`.
#[derive(Debug, Args)]
pub(crate) struct MetricdescsArgs {
    /// json or yaml
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<String>,
    #[arg(hide = true)]
    words: Vec<String>,
}

/// The forms that are not a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Yaml,
    Table,
}

fn form(output: Option<&String>, usual: Form) -> Outcome<Form> {
    match output.map_or("", String::as_str) {
        "json" => Ok(Form::Json),
        "yaml" => Ok(Form::Yaml),
        "" => Ok(usual),
        "table" if usual == Form::Table => Ok(Form::Table),
        other => Err(Failure::new(format!("unsupported output format {other:?}"))),
    }
}

/// Prints once, or until the person has seen enough.
async fn shown(watch: bool, print: impl AsyncFn() -> Outcome) -> Outcome {
    loop {
        print().await?;
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The one word that there may be.
fn wanted<'a>(id: Option<&'a String>, words: &'a [String]) -> Outcome<&'a str> {
    match words {
        [_, _, ..] => Err(Failure::Help),
        words => Ok(id.or(words.first()).map_or("", String::as_str)),
    }
}

/// Hundredths of processors between two measurements of nanoseconds.
fn percent(before: (u64, i64), now: (u64, i64)) -> Outcome<String> {
    if now.0 == 0 {
        return Ok("0.00".to_owned());
    }
    let time = now.1.saturating_sub(before.1);
    if time == 0 {
        return Err(Failure::new("cpu stat is not updated during sample"));
    }
    let used = now.0.saturating_sub(before.0);
    Ok(format!("{:.2}", used as f64 / time as f64 * 100.0))
}

fn number(value: Option<cri::UInt64Value>) -> u64 {
    value.map_or(0, |value| value.value)
}

fn cpu(usage: Option<&cri::CpuUsage>) -> (u64, i64) {
    usage.map_or((0, 0), |usage| {
        (number(usage.usage_core_nano_seconds), usage.timestamp)
    })
}

impl Shown {
    /// Prints what is measured as it is, or a table of what changed between two measurements.
    async fn print<T, M: Message + Name>(
        &self,
        form: Form,
        measure: impl AsyncFn() -> Outcome<Vec<T>>,
        message: impl Fn(Vec<T>) -> M,
        table: impl Fn(&[T], &[T]) -> Outcome<Table>,
    ) -> Outcome {
        let print = async || {
            let first = measure().await?;
            match form {
                Form::Json => return output::as_json(&message(first)),
                Form::Yaml => return output::as_yaml(&message(first)),
                Form::Table => {}
            }
            tokio::time::sleep(Duration::from_secs(self.seconds.into())).await;
            let table = table(&first, &measure().await?)?;
            say::clear_screen();
            say::print(&table.text());
            Ok(())
        };
        shown(self.watch, print).await
    }
}

pub(crate) async fn stats(world: &World, args: &StatsArgs) -> Outcome {
    let id = wanted(args.id.as_ref(), &args.word)?;
    let form = form(args.shown.output.as_ref(), Form::Table)?;
    let runtime = world.runtime().await?;
    let filter = cri::ContainerStatsFilter {
        id: id.to_owned(),
        pod_sandbox_id: args.pod.clone(),
        label_selector: filter::labels(&args.shown.label)?,
    };
    let measure = async || container_stats(&runtime, &filter).await;
    let message = |stats| cri::ListContainerStatsResponse { stats };
    let table = |first: &[_], second: &[_]| container_table(first, second, args.all);
    args.shown
        .print(form, measure, message, table)
        .await
        .context("get container stats")
}

async fn container_stats(
    runtime: &Runtime,
    filter: &cri::ContainerStatsFilter,
) -> Outcome<Vec<cri::ContainerStats>> {
    let request = cri::ListContainerStatsRequest {
        filter: Some(filter.clone()),
    };
    let answer = runtime
        .call(async |mut client| client.list_container_stats(request).await)
        .await?;
    let mut stats = answer.stats;
    stats.sort_by(|a, b| container_id(a).cmp(container_id(b)));
    Ok(stats)
}

fn container_id(stats: &cri::ContainerStats) -> &str {
    let attributes = stats.attributes.as_ref();
    attributes.map_or("", |attributes| attributes.id.as_str())
}

fn container_table(
    first: &[cri::ContainerStats],
    second: &[cri::ContainerStats],
    all: bool,
) -> Outcome<Table> {
    let before: BTreeMap<&str, _> = first.iter().map(|one| (container_id(one), one)).collect();
    let mut table = Table::default();
    table.row([
        "CONTAINER",
        "NAME",
        "CPU %",
        "MEM",
        "DISK",
        "INODES",
        "SWAP",
    ]);
    for one in second {
        let used = cpu(one.cpu.as_ref());
        let memory = one.memory.as_ref();
        let memory = memory.map_or(0, |memory| number(memory.working_set_bytes));
        let is_idle = used.0 == 0 && memory == 0;
        let Some(old) = before.get(container_id(one)).filter(|_| all || !is_idle) else {
            continue;
        };
        let layer = one.writable_layer.as_ref();
        let swap = one.swap.as_ref();
        let name = one
            .attributes
            .as_ref()
            .and_then(|one| one.metadata.as_ref());
        table.row([
            filter::short(container_id(one)),
            name.map_or("", |metadata| metadata.name.as_str()),
            &percent(cpu(old.cpu.as_ref()), used)?,
            &size(memory, 4),
            &size(layer.map_or(0, |layer| number(layer.used_bytes)), 4),
            &layer
                .map_or(0, |layer| number(layer.inodes_used))
                .to_string(),
            &size(swap.map_or(0, |swap| number(swap.swap_usage_bytes)), 4),
        ]);
    }
    Ok(table)
}

pub(crate) async fn statsp(world: &World, args: &StatspArgs) -> Outcome {
    let id = wanted(args.id.as_ref(), &args.word)?;
    let form = form(args.shown.output.as_ref(), Form::Table)?;
    let runtime = world.runtime().await?;
    let filter = cri::PodSandboxStatsFilter {
        id: id.to_owned(),
        label_selector: filter::labels(&args.shown.label).context("parse pod labels")?,
    };
    let measure = async || pod_stats(&runtime, &filter).await;
    let message = |stats| cri::ListPodSandboxStatsResponse { stats };
    args.shown
        .print(form, measure, message, pod_table)
        .await
        .context("get pod stats")
}

async fn pod_stats(
    runtime: &Runtime,
    filter: &cri::PodSandboxStatsFilter,
) -> Outcome<Vec<cri::PodSandboxStats>> {
    let request = cri::ListPodSandboxStatsRequest {
        filter: Some(filter.clone()),
    };
    let answer = runtime
        .call(async |mut client| client.list_pod_sandbox_stats(request).await)
        .await
        .context("list pod sandbox stats")?;
    let mut stats = answer.stats;
    stats.sort_by(|a, b| pod_id(a).cmp(pod_id(b)));
    Ok(stats)
}

fn pod_id(stats: &cri::PodSandboxStats) -> &str {
    let attributes = stats.attributes.as_ref();
    attributes.map_or("", |attributes| attributes.id.as_str())
}

fn pod_table(first: &[cri::PodSandboxStats], second: &[cri::PodSandboxStats]) -> Outcome<Table> {
    let used = |one: &cri::PodSandboxStats| {
        let linux = one.linux.as_ref();
        cpu(linux.and_then(|linux| linux.cpu.as_ref()))
    };
    let before: BTreeMap<&str, _> = first.iter().map(|one| (pod_id(one), used(one))).collect();
    let mut table = Table::default();
    table.row(["POD", "POD ID", "CPU %", "MEM"]);
    for one in second {
        let memory = one.linux.as_ref().and_then(|linux| linux.memory.as_ref());
        let memory = memory.map_or(0, |memory| number(memory.working_set_bytes));
        let now = used(one);
        let old = before.get(pod_id(one));
        let Some(old) = old.filter(|_| now.0 != 0 || memory != 0) else {
            continue;
        };
        let name = one
            .attributes
            .as_ref()
            .and_then(|one| one.metadata.as_ref());
        table.row([
            name.map_or("", |metadata| metadata.name.as_str()),
            filter::short(pod_id(one)),
            &percent(*old, now)?,
            &size(memory, 4),
        ]);
    }
    Ok(table)
}

pub(crate) async fn metricsp(world: &World, args: &MetricspArgs) -> Outcome {
    if !args.words.is_empty() {
        return Err(Failure::Help);
    }
    // What is neither is shown the help, with crictl.
    let form = form(args.output.as_ref(), Form::Json).map_err(|_| Failure::Help)?;
    let runtime = world.runtime().await.context("get runtime service")?;
    let print = async || {
        let request = cri::ListPodSandboxMetricsRequest::default();
        let answer = runtime
            .call(async |mut client| client.list_pod_sandbox_metrics(request).await)
            .await
            .context("list pod sandbox metrics")?;
        match form {
            Form::Yaml => output::as_yaml(&answer),
            Form::Json | Form::Table => output::as_json(&answer),
        }
    };
    shown(args.watch, print).await.context("get pod metrics")
}

pub(crate) async fn metricdescs(world: &World, args: &MetricdescsArgs) -> Outcome {
    if !args.words.is_empty() {
        return Err(Failure::Help);
    }
    let form = form(args.output.as_ref(), Form::Json).map_err(|_| Failure::Help)?;
    let runtime = world.runtime().await.context("get runtime service")?;
    let request = cri::ListMetricDescriptorsRequest::default();
    let answer = runtime
        .call(async |mut client| client.list_metric_descriptors(request).await)
        .await
        .context("list metric descriptors")
        .context("get metric descriptors")?;
    match form {
        Form::Yaml => output::as_yaml(&answer),
        Form::Json | Form::Table => output::as_json(&answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_measured_between_two_times() {
        assert_eq!(percent((100, 0), (600, 1000)).unwrap(), "50.00");
        assert_eq!(percent((0, 0), (0, 0)).unwrap(), "0.00");
        assert!(percent((1, 5), (2, 5)).is_err());
    }
}
