//! The engine's own metrics for Prometheus, under CRI-O's names (`[crio.metrics]`): what the RPCs did, what
//! was pulled, what was killed for want of memory. Counted only where they are served.
//!
//! Must never have a label whose values a container chooses, but for the names of containers that CRI-O has,
//! too.

mod collectors;
mod serve;
mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::Engine;
use engine::crates::distribution::{BlobStep, BlobWatch};
use tonic::Code;

use collectors::{Collector, LATENCIES, LAYERS};
pub use serve::MetricsError;
pub(crate) use serve::MetricsServer;
use text::{Histogram, Text};

use crate::calls::Calls;
use crate::trace::Tracer;

/// RPCs that are told apart: more than the schema has. A client may invent others.
const RPCS: usize = 64;
/// Media types of layers, with their sizes, that are told apart: images choose them.
const MEDIA_TYPES: usize = 64;
/// Layers that are told apart.
const REUSED: usize = 256;
const OTHER: &str = "other";

/// The counters; none where nobody can ask for them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    tracer: Tracer,
    calls: Calls,
    told: Vec<&'static Collector>,
    counters: Mutex<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    operations: BTreeMap<String, Operation>,
    pulls: Pulls,
}

/// One kind of RPC.
#[derive(Debug)]
struct Operation {
    count: u64,
    errors: u64,
    /// Seconds that the last one took.
    last: f64,
    latencies: Histogram,
}

impl Default for Operation {
    fn default() -> Self {
        Self {
            count: 0,
            errors: 0,
            last: 0.0,
            latencies: Histogram::new(&LATENCIES),
        }
    }
}

#[derive(Debug)]
struct Pulls {
    succeeded: u64,
    /// By why.
    failed: BTreeMap<String, u64>,
    /// Bytes by media type and size of the blob.
    bytes: BTreeMap<(String, &'static str), u64>,
    /// Bytes by size of the blob.
    skipped: BTreeMap<&'static str, u64>,
    /// How often a layer was there already, by its digest.
    reused: BTreeMap<String, u64>,
    layers: Histogram,
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
            succeeded: 0,
            failed: BTreeMap::new(),
            bytes: BTreeMap::new(),
            skipped: BTreeMap::new(),
            reused: BTreeMap::new(),
            layers: Histogram::new(&LAYERS),
        }
    }
}

impl Metrics {
    /// Those that the configuration wants.
    pub(crate) fn new(engine: &Engine, tracer: &Tracer, calls: &Calls) -> Self {
        let config = &engine.config().metrics;
        let told = collectors::ALL.iter().filter(|one| config.tells(one.name));
        Self(config.enable_metrics.then(|| {
            engine.count_events();
            Arc::new(Shared {
                engine: engine.clone(),
                tracer: tracer.clone(),
                calls: calls.clone(),
                told: told.collect(),
                counters: Mutex::default(),
            })
        }))
    }

    /// Notes an RPC that has its answer.
    pub(crate) fn answered(&self, rpc: &str, code: Code, took: Duration) {
        let Some(shared) = &self.0 else {
            return;
        };
        let mut counters = shared.lock();
        let known = &mut counters.operations;
        let name = match known.contains_key(rpc) || known.len() < RPCS {
            true => rpc,
            false => OTHER,
        };
        let operation = match known.get_mut(name) {
            Some(operation) => operation,
            None => known.entry(name.to_owned()).or_default(),
        };
        operation.count += 1;
        operation.errors += u64::from(code != Code::Ok);
        operation.last = took.as_secs_f64();
        operation.latencies.observe(operation.last);
        if rpc == "PullImage" {
            match code {
                Code::Ok => counters.pulls.succeeded += 1,
                code => *counters.pulls.failed.entry(why(code)).or_default() += 1,
            }
        }
    }

    /// Who is told how a pull goes on.
    pub(crate) fn pull(&self) -> BlobWatch {
        let Some(shared) = self.0.clone() else {
            return BlobWatch::default();
        };
        BlobWatch::to(move |blob, step| {
            let size = collectors::size(blob.size);
            let pulls = &mut shared.lock().pulls;
            match step {
                BlobStep::There => {
                    *pulls.skipped.entry(size).or_default() += blob.size;
                    let layer = blob.digest.to_string();
                    *bounded(&mut pulls.reused, layer, REUSED, OTHER.to_owned()) += 1;
                }
                BlobStep::Done => {
                    let kind = (blob.media_type.to_string(), size);
                    let other = (OTHER.to_owned(), size);
                    *bounded(&mut pulls.bytes, kind, MEDIA_TYPES, other) += blob.size;
                    pulls.layers.observe(blob.size as f64);
                }
                BlobStep::Begun | BlobStep::At(_) => {}
            }
        })
    }

    /// All of them as text.
    async fn text(&self) -> String {
        let Some(shared) = self.0.clone() else {
            return String::new();
        };
        // It looks at all processes of the node.
        let written = tokio::task::spawn_blocking(move || shared.text());
        written.await.unwrap_or_default()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        let mut text = Text::default();
        for collector in &self.told {
            let name = collector.full_name();
            text.begin(&name, collector.kind, collector.help);
            (collector.write)(self, &mut text, &name);
        }
        text.finish()
    }
}

/// What serves them, if the configuration wants that.
pub(crate) async fn server(
    engine: &Engine,
    metrics: &Metrics,
) -> Result<Option<MetricsServer>, MetricsError> {
    let config = &engine.config().metrics;
    match config.enable_metrics {
        true => MetricsServer::bind(config, metrics.clone()).await.map(Some),
        false => Ok(None),
    }
}

/// Serves for ever, be it nobody.
pub(crate) async fn serve(server: Option<MetricsServer>) {
    if let Some(server) = server {
        server.run().await;
    }
    std::future::pending().await
}

/// The count of `key`, or that of `other` when so many keys are known already.
fn bounded<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, most: usize, other: K) -> &mut u64 {
    let key = match counts.contains_key(&key) || counts.len() < most {
        true => key,
        false => other,
    };
    counts.entry(key).or_default()
}

/// A code as the label of a failure, in the form of CRI-O's.
fn why(code: Code) -> String {
    let words = format!("{code:?}");
    let mut label = String::new();
    for (at, letter) in words.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            label.push('_');
        }
        label.push(letter.to_ascii_uppercase());
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_as_other_labels_of_failures_are() {
        assert_eq!(why(Code::NotFound), "NOT_FOUND");
        assert_eq!(why(Code::Unknown), "UNKNOWN");
    }

    #[test]
    fn no_more_keys_than_that_are_told_apart() {
        let mut counts = BTreeMap::new();
        for key in ["a", "b", "c", "a", "d"] {
            *bounded(&mut counts, key, 2, OTHER) += 1;
        }
        assert_eq!(counts, [("a", 2), ("b", 1), (OTHER, 2)].into());
    }

    #[test]
    fn what_nobody_can_ask_for_is_not_counted() {
        let metrics = Metrics::default();
        metrics.answered("Version", Code::Ok, Duration::ZERO);
        assert!(metrics.0.is_none());
    }
}
