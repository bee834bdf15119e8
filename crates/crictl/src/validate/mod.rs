//! `validate`: checks that a runtime does what kubelet relies on, over its CRI socket alone. It works against any
//! runtime, and knows of none.
//!
//! | file | what |
//! | --- | --- |
//! | `check.rs`, `trial.rs` | what a check is, and what it is given |
//! | `run.rs` | which checks, how many at once, for how long, and what comes of Ctrl-C |
//! | `report.rs`, `junit.rs` | what is told of them |
//! | the others | a group of checks each |
//!
//! Must come to an end whatever the runtime does or does not say, must leave nothing of its own on the node, and
//! must call nothing passed that was not tried.

mod check;
mod containers;
mod errors;
mod events;
mod images;
mod info;
mod junit;
mod logs;
mod mounts;
mod network;
mod pods;
mod report;
mod run;
mod security;
mod stats;
mod streams;
#[cfg(test)]
mod tests;
mod trial;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::clock;
use crate::failure::{Failure, Outcome};
use crate::fixture::{IMAGE, NOT_RUN, Place, not_run};
use crate::verb::World;
use check::Group;
use report::Summary;
use run::Selection;

/// All checks.
const GROUPS: &[Group] = &[
    info::GROUP,
    pods::GROUP,
    containers::GROUP,
    streams::GROUP,
    images::GROUP,
    security::GROUP,
    network::GROUP,
    mounts::GROUP,
    logs::GROUP,
    stats::GROUP,
    events::GROUP,
    errors::GROUP,
];

/// Options of `validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Image of the containers: any with busybox (sh, sleep, id, ip, httpd, nc); pulled if it is not on the node,
    /// and then removed
    #[arg(long, value_name = "NAME[:TAG|@DIGEST]", default_value = IMAGE)]
    test_image: String,
    #[command(flatten)]
    place: Place,
    /// Only checks whose GROUP/NAME fits this regular expression
    #[arg(long, value_name = "PATTERN")]
    run: Option<String>,
    /// No checks whose GROUP/NAME fits this regular expression
    #[arg(long, value_name = "PATTERN")]
    skip: Option<String>,
    /// Show the checks, and what each proves; asks nobody
    #[arg(long)]
    list: bool,
    /// How many checks are made at once
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// How long a check may take
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = clock::duration)]
    check_timeout: Duration,
    /// Form of what is printed
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Form,
    /// Write the results to a file, as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

pub(crate) async fn validate(world: &World, args: ValidateArgs) -> Outcome {
    let selection = Selection::new(GROUPS, args.run.as_deref(), args.skip.as_deref());
    let selection = selection.map_err(not_run)?;
    if args.list {
        return report::list(&selection, args.output == Form::Json);
    }
    if let Some(file) = &args.junit {
        // Before minutes have gone by for nothing.
        junit::write(file, "").map_err(not_run)?;
    }
    let summary = run::all(
        world,
        args.place,
        &args.test_image,
        &selection,
        &run::Manner {
            parallel: args.parallel.into(),
            limit: args.check_timeout,
            is_told: args.output == Form::Text,
        },
    )
    .await
    .map_err(not_run)?;
    if args.output == Form::Json {
        report::as_json(&summary)?;
    }
    if let Some(file) = &args.junit {
        junit::write(file, &junit::text(&summary)).map_err(not_run)?;
    }
    judged(&summary)
}

/// The program's end.
fn judged(summary: &Summary) -> Outcome {
    if let Some(why) = &summary.broken_off {
        return Err(Failure::Coded(NOT_RUN, why.clone()));
    }
    if !summary.left.is_empty() {
        let left = summary.left.join("; ");
        return Err(Failure::Coded(1, format!("left on the node: {left}")));
    }
    let counts = summary.counts();
    if counts.failed > 0 {
        let of = summary.done.len();
        return Err(Failure::Coded(
            1,
            format!("{} of {of} checks failed", counts.failed),
        ));
    }
    if let Some(why) = &summary.without_image {
        return Err(Failure::Coded(NOT_RUN, why.clone()));
    }
    Ok(())
}
