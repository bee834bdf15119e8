//! Which checks are made, and how: each with a limit, each cleared away before the next takes its place, and all
//! of it broken off when a person asks for that or the runtime says nothing any more.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use regex::Regex;

use super::check::{Check, Fault, Group, Needs, Verdict};
use super::report::{self, Done, Summary};
use super::trial::Trial;
use crate::failure::{Context, Failure, Outcome};
use crate::fixture::{Fixture, Interrupts, Place};
use crate::say;
use crate::verb::World;

/// The checks that are made.
pub(crate) struct Selection {
    pub(crate) checks: Vec<(&'static Group, &'static Check)>,
}

/// How they are made.
pub(crate) struct Manner {
    pub(crate) parallel: usize,
    /// For each of them.
    pub(crate) limit: Duration,
    /// Whether each is told as it comes.
    pub(crate) is_told: bool,
}

fn pattern(option: &str, text: Option<&str>) -> Outcome<Option<Regex>> {
    let Some(text) = text else { return Ok(None) };
    Regex::new(text).map(Some).context(option)
}

impl From<regex::Error> for Failure {
    fn from(error: regex::Error) -> Self {
        Self::new(error)
    }
}

impl Selection {
    pub(crate) fn new(
        groups: &'static [Group],
        wanted: Option<&str>,
        unwanted: Option<&str>,
    ) -> Outcome<Self> {
        let (wanted, unwanted) = (pattern("--run", wanted)?, pattern("--skip", unwanted)?);
        let all = groups
            .iter()
            .flat_map(|group| group.checks.iter().map(move |check| (group, check)));
        let checks: Vec<_> = all
            .filter(|(group, check)| {
                let name = group.full_name(check);
                wanted.as_ref().is_none_or(|one| one.is_match(&name))
                    && !unwanted.as_ref().is_some_and(|one| one.is_match(&name))
            })
            .collect();
        match checks.is_empty() {
            true => Err(Failure::new(
                "no check fits --run and --skip; --list shows all",
            )),
            false => Ok(Self { checks }),
        }
    }
}

/// Makes all checks, and removes what they have made.
pub(crate) async fn all(
    world: &World,
    place: Place,
    image: &str,
    selection: &Selection,
    manner: &Manner,
) -> Outcome<Summary> {
    let mut interrupts = Interrupts::new()?;
    let mut fixture = tokio::select! {
        fixture = Fixture::new(world, "floe-validate", image, place) => fixture?,
        () = interrupts.heard() => return Err(Failure::new("interrupted")),
    };
    let begin = Instant::now();
    let done = RefCell::new(Vec::new());
    let mut broken_off = tokio::select! {
        () = fixture.find_image() => None,
        () = interrupts.heard() => Some("interrupted".to_owned()),
    };
    if manner.is_told {
        report::head(&fixture);
    }
    if broken_off.is_none() {
        broken_off = tokio::select! {
            broken_off = made(&fixture, selection, manner, &done) => broken_off,
            () = interrupts.heard() => Some("interrupted".to_owned()),
        };
    }
    if broken_off.is_some() {
        say::info(&format!("removing what namespace {} has", fixture.run));
    }
    let left = fixture.removed(&mut interrupts).await;
    let done = done.into_inner();
    let not_there = |why: &String| {
        let is_needed = selection
            .checks
            .iter()
            .any(|(_, check)| check.needs != Needs::Runtime);
        is_needed.then(|| format!("{}: {why}: give --test-image", fixture.image.name))
    };
    let summary = Summary {
        run: fixture.run.clone(),
        version: fixture.version.clone(),
        image: fixture.image.name.clone(),
        without_image: fixture.image.found.as_ref().err().and_then(not_there),
        broken_off: broken_off.map(|why| {
            format!(
                "{why}: {} of {} checks were made",
                done.len(),
                selection.checks.len()
            )
        }),
        left,
        took: begin.elapsed(),
        done,
    };
    if manner.is_told {
        report::tail(&summary);
    }
    Ok(summary)
}

/// Makes the checks in their order; says why it was broken off.
async fn made(
    fixture: &Fixture,
    selection: &Selection,
    manner: &Manner,
    done: &RefCell<Vec<Done>>,
) -> Option<String> {
    let is_gone = Cell::new(false);
    let is_alone = |check: &Check| check.needs == Needs::ImageAlone;
    for (wanted, parallel) in [(false, manner.parallel), (true, 1)] {
        let checks = selection.checks.iter();
        let checks = checks.filter(|(_, check)| is_alone(check) == wanted);
        let made = checks.map(|&(group, check)| one(fixture, group, check, manner.limit, &is_gone));
        let mut made = stream::iter(made).buffered(parallel);
        while let Some(one) = made.next().await {
            let Some(one) = one else { continue };
            if manner.is_told {
                report::line(&one);
            }
            done.borrow_mut().push(one);
        }
    }
    let words = "the runtime does not answer any more";
    is_gone.get().then(|| words.to_owned())
}

/// Makes a check, and removes what it has made; `None` if nobody is there to be asked.
async fn one(
    fixture: &Fixture,
    group: &'static Group,
    check: &'static Check,
    limit: Duration,
    is_gone: &Cell<bool>,
) -> Option<Done> {
    if is_gone.get() {
        return None;
    }
    let begin = Instant::now();
    let missing = fixture.image.found.as_ref().err();
    let missing = missing.filter(|_| check.needs != Needs::Runtime);
    let mut verdict = match missing {
        Some(_) => Err(Fault::Skipped(format!(
            "the image {} is not there",
            fixture.image.name
        ))),
        None => tried(fixture, check, limit).await,
    };
    let took = begin.elapsed();
    if let Err(Fault::Failed { found, .. }) = &mut verdict
        && !answers(fixture).await
    {
        is_gone.set(true);
        *found += "; and Version has no answer any more";
    }
    Some(Done {
        group: group.name,
        check,
        verdict,
        took,
    })
}

async fn tried(fixture: &Fixture, check: &Check, limit: Duration) -> Verdict {
    let trial = Trial::new(fixture, check.name);
    let verdict = match tokio::time::timeout(limit, (check.run)(&trial)).await {
        Ok(verdict) => verdict,
        Err(_) => Err(Fault::Failed {
            expected: "the check comes to an end".to_owned(),
            found: format!("it does not within {limit:?}"),
        }),
    };
    let left = trial.made.clear().await;
    if left.is_empty() {
        return verdict;
    }
    let left = format!("left: {}", left.join("; "));
    Err(match verdict {
        Err(Fault::Failed { expected, found }) => Fault::Failed {
            expected,
            found: format!("{found}; {left}"),
        },
        _ => Fault::Failed {
            expected: "what the check has made can be removed".to_owned(),
            found: left,
        },
    })
}

/// Whether the runtime still answers.
async fn answers(fixture: &Fixture) -> bool {
    let request = cri::VersionRequest::default();
    let answer = fixture
        .runtime
        .ask(Some(fixture.limit), async |mut client| {
            client.version(request).await
        })
        .await;
    answer.is_ok()
}
