//! `bench`: how long a runtime takes for pods and containers, call by call, over its CRI socket alone. All pods are
//! up before the first is stopped, so lists are those of a node that is in use.
//!
//! | file | what |
//! | --- | --- |
//! | `measure.rs` | the calls |
//! | `figures.rs` | what comes of many times |
//! | `svg.rs` | the picture |
//!
//! Must leave nothing of its own on the node, and must show every time that it has measured: none is left out.

mod figures;
mod measure;
mod svg;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::failure::{Context, Failure, Outcome};
use crate::fixture::{IMAGE, NOT_RUN, Place, not_run};
use crate::table::Table;
use crate::verb::World;
use crate::{file, output, say};
use figures::Figures;
use measure::Measured;

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// How many pods are made, with a container in each
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=5000))]
    pods: u16,
    /// How many calls are under way at once
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// Image of the containers: any with a shell; pulled if it is not on the node, and then removed
    #[arg(long, value_name = "NAME[:TAG|@DIGEST]", default_value = IMAGE)]
    image: String,
    #[command(flatten)]
    place: Place,
    /// Form of what is printed
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Form,
    /// Draw the times into a file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

pub(crate) async fn bench(world: &World, args: BenchArgs) -> Outcome {
    let drawn = |text: &str| match &args.svg {
        Some(path) => file::replace(path, text, 0o644).context(format!("write {}", path.display())),
        None => Ok(()),
    };
    // Before minutes have gone by for nothing.
    drawn("").map_err(not_run)?;
    let asked = measure::Asked {
        pods: args.pods,
        parallel: args.parallel,
        image: args.image,
    };
    let measured = measure::all(world, args.place, asked)
        .await
        .map_err(not_run)?;
    match args.output {
        Form::Text => say::print(&text(&measured)),
        Form::Json => output::value_as_json(&value(&measured))?,
    }
    drawn(&svg::text(&measured)).map_err(not_run)?;
    judged(&measured)
}

/// The program's end.
fn judged(measured: &Measured) -> Outcome {
    if let Some(why) = &measured.broken_off {
        return Err(Failure::Coded(NOT_RUN, why.clone()));
    }
    if !measured.left.is_empty() {
        let left = measured.left.join("; ");
        return Err(Failure::Coded(1, format!("left on the node: {left}")));
    }
    let mut series = measured.series.iter();
    match series.find_map(|series| Some((series.rpc, series.why.as_ref()?))) {
        Some((rpc, why)) => Err(Failure::Coded(1, format!("{rpc}: {why}"))),
        None => Ok(()),
    }
}

/// Milliseconds in as many digits as tell something.
fn milliseconds(seconds: f64) -> String {
    let value = seconds * 1e3;
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn head(measured: &Measured) -> String {
    let version = &measured.version;
    format!(
        "{} {}, {} pods, {} at once",
        version.runtime_name, version.runtime_version, measured.asked.pods, measured.asked.parallel
    )
}

fn text(measured: &Measured) -> String {
    let mut table = Table::default();
    table.row([
        "MILLISECONDS",
        "CALLS",
        "FAILED",
        "MINIMUM",
        "MEDIAN",
        "P90",
        "P99",
        "MAXIMUM",
    ]);
    for series in &measured.series {
        let mut row = vec![
            series.rpc.to_owned(),
            series.took.len().to_string(),
            series.failed.to_string(),
        ];
        row.extend(match Figures::of(&series.took) {
            Some(figures) => figures.all().map(|(_, value)| milliseconds(value)),
            None => std::array::from_fn(|_| "-".to_owned()),
        });
        table.row(row);
    }
    format!("{}\n{}", say::shown(&head(measured)), table.with_width(10))
}

fn value(measured: &Measured) -> Value {
    let series: Vec<Value> = measured
        .series
        .iter()
        .map(|series| {
            let figures = Figures::of(&series.took).map(|figures| {
                let all = figures.all().into_iter();
                Value::Object(
                    all.map(|(name, value)| (name.to_owned(), json!(value)))
                        .collect(),
                )
            });
            json!({
                "rpc": series.rpc,
                "calls": series.took.len(),
                "failed": series.failed,
                "firstFailure": series.why,
                "seconds": figures,
                "samples": series.took,
            })
        })
        .collect();
    json!({
        "runtime": {
            "name": measured.version.runtime_name,
            "version": measured.version.runtime_version,
        },
        "image": measured.asked.image,
        "namespace": measured.run,
        "pods": measured.asked.pods,
        "parallel": measured.asked.parallel,
        "secondsUp": measured.up,
        "secondsDown": measured.down,
        "brokenOff": measured.broken_off,
        "left": measured.left,
        "rpcs": series,
    })
}
