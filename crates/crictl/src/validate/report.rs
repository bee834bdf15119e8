//! What is told of checks: a line for each as it comes, JSON, and the list of all. Words of runtimes are shown
//! without what a terminal would obey.

use std::time::Duration;

use serde_json::{Value, json};

use super::check::{Check, Fault, Verdict};
use super::run::Selection;
use crate::failure::Outcome;
use crate::fixture::Fixture;
use crate::{output, say};

/// A check that was made.
pub(crate) struct Done {
    pub(crate) group: &'static str,
    pub(crate) check: &'static Check,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

/// All of them.
pub(crate) struct Summary {
    /// The run's name, and namespace.
    pub(crate) run: String,
    pub(crate) version: cri::VersionResponse,
    pub(crate) image: String,
    /// Why checks had to go without an image.
    pub(crate) without_image: Option<String>,
    /// Why not all were made.
    pub(crate) broken_off: Option<String>,
    /// What could not be removed.
    pub(crate) left: Vec<String>,
    pub(crate) took: Duration,
    pub(crate) done: Vec<Done>,
}

/// How many came to what.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Summary {
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for done in &self.done {
            *match done.verdict {
                Ok(()) => &mut counts.passed,
                Err(Fault::Failed { .. }) => &mut counts.failed,
                Err(Fault::Skipped(_)) => &mut counts.skipped,
            } += 1;
        }
        counts
    }
}

/// What stands before the lines.
pub(crate) fn head(fixture: &Fixture) {
    let version = &fixture.version;
    say::print(&format!(
        "{} {}, image {}, namespace {}\n",
        say::shown(&version.runtime_name),
        say::shown(&version.runtime_version),
        say::shown(&fixture.image.name),
        fixture.run
    ));
}

/// A check, as it comes.
pub(crate) fn line(done: &Done) {
    say::print(&line_text(done));
}

pub(super) fn line_text(done: &Done) -> String {
    let name = format!("{}/{}", done.group, done.check.name);
    let begin = format!("{:>4}  {name:<34}", done.check.number);
    match &done.verdict {
        Ok(()) => format!("{begin}passed   {} ms\n", done.took.as_millis()),
        Err(Fault::Skipped(why)) => format!("{begin}skipped  {}\n", say::shown(why)),
        Err(Fault::Failed { expected, found }) => format!(
            "{begin}FAILED   {} ms\n      proves    {}\n      rule      {}\n      expected  {}\n      found     {}\n",
            done.took.as_millis(),
            done.check.proves,
            done.check.rule,
            say::shown(expected),
            say::shown(found),
        ),
    }
}

/// What stands behind them.
pub(crate) fn tail(summary: &Summary) {
    let counts = summary.counts();
    say::print(&format!(
        "{} checks: {} passed, {} failed, {} skipped, in {:.1} s\n",
        summary.done.len(),
        counts.passed,
        counts.failed,
        counts.skipped,
        summary.took.as_secs_f64()
    ));
}

fn described(group: &str, check: &Check) -> Value {
    json!({
        "number": check.number,
        "name": format!("{group}/{}", check.name),
        "proves": check.proves,
        "rule": check.rule,
    })
}

/// All checks that are selected, and what each proves.
pub(crate) fn list(selection: &Selection, is_json: bool) -> Outcome {
    let checks = selection.checks.iter();
    if is_json {
        let all: Vec<Value> = checks
            .map(|(group, check)| described(group.name, check))
            .collect();
        return output::value_as_json(&Value::Array(all));
    }
    let mut text = String::new();
    for (group, check) in checks {
        text += &format!(
            "{:>4}  {}\n      proves    {}\n      rule      {}\n",
            check.number,
            group.full_name(check),
            check.proves,
            check.rule
        );
    }
    say::print(&text);
    Ok(())
}

/// Everything as JSON.
pub(crate) fn as_json(summary: &Summary) -> Outcome {
    output::value_as_json(&value(summary))
}

pub(super) fn value(summary: &Summary) -> Value {
    let counts = summary.counts();
    let checks: Vec<Value> = summary
        .done
        .iter()
        .map(|done| {
            let mut value = described(done.group, done.check);
            value["seconds"] = json!(done.took.as_secs_f64());
            match &done.verdict {
                Ok(()) => value["result"] = json!("passed"),
                Err(Fault::Skipped(why)) => {
                    value["result"] = json!("skipped");
                    value["reason"] = json!(why);
                }
                Err(Fault::Failed { expected, found }) => {
                    value["result"] = json!("failed");
                    value["expected"] = json!(expected);
                    value["found"] = json!(found);
                }
            }
            value
        })
        .collect();
    json!({
        "runtime": {
            "name": summary.version.runtime_name,
            "version": summary.version.runtime_version,
            "apiVersion": summary.version.runtime_api_version,
        },
        "image": summary.image,
        "namespace": summary.run,
        "seconds": summary.took.as_secs_f64(),
        "passed": counts.passed,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "brokenOff": summary.broken_off,
        "left": summary.left,
        "checks": checks,
    })
}
