//! Traces (`[crio.tracing]`): a span for each RPC, a part of its client's trace if it brings one (W3C Trace
//! Context), with the long steps of the engine's verbs as its children. What was traced goes to a collector by
//! OTLP (`export.rs`).
//!
//! Must never delay an RPC: what the collector does not take in time is dropped, and counted.

mod context;
mod export;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use engine::config::Tracing;
use engine::crates::distribution::{BlobStep, BlobWatch};
use engine::steps::{Steps, Watched};
use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::http::HeaderMap;

use context::Context;
use export::Exporter;

/// RPCs whose spans may wait to be sent.
const QUEUE: usize = 512;
/// Spans of one RPC: an image has as many blobs as it likes.
const SPANS: usize = 256;
/// Ids are made of a count and this, which is odd (splitmix64).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

tokio::task_local! {
    static CURRENT: Trace;
}

/// Begins traces; none where the configuration wants none. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tracer(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    /// An RPC without a trace of its client's is traced if a number is below this.
    below: u64,
    seed: u64,
    count: AtomicU64,
    queue: mpsc::Sender<Vec<Span>>,
    dropped: Arc<AtomicU64>,
}

/// A span that has ended.
#[derive(Debug)]
pub(super) struct Span {
    trace: [u8; 16],
    id: u64,
    parent: Option<u64>,
    state: String,
    name: String,
    /// Of an RPC: how it ended.
    code: Option<Code>,
    /// Nanoseconds since 1970.
    begun: u64,
    ended: u64,
    attributes: Vec<(&'static str, String)>,
}

/// The trace of an RPC. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Trace(Arc<Open>);

#[derive(Debug)]
struct Open {
    tracer: Arc<Shared>,
    context: Context,
    root: u64,
    /// The clock of the node when it began, and the one that does not jump.
    begun: (u64, Instant),
    spans: Mutex<Spans>,
}

#[derive(Debug, Default)]
struct Spans {
    /// Steps that go on, with what is known of them.
    open: Vec<Span>,
    ended: Vec<Span>,
    count: usize,
    /// The RPC has its answer: what ends now is sent by itself.
    over: bool,
}

impl Tracer {
    /// The one that the configuration wants; its spans are sent on the runtime that this is called on.
    pub(crate) fn new(config: &Tracing) -> Self {
        if !config.enable_tracing {
            return Self(None);
        }
        let (queue, spans) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        match Exporter::new(config.endpoint(), Arc::clone(&dropped)) {
            Ok(exporter) => tokio::spawn(exporter.run(spans)),
            Err(error) => {
                tracing::warn!(%error, "no traces are sent");
                return Self(None);
            }
        };
        let rate = u64::try_from(config.tracing_sampling_rate_per_million).unwrap_or(0);
        Self(Some(Arc::new(Shared {
            below: (u64::MAX / 1_000_000).saturating_mul(rate),
            seed: random(),
            count: AtomicU64::new(0),
            queue,
            dropped,
        })))
    }

    /// How many spans the collector has not got.
    pub(crate) fn dropped(&self) -> Option<u64> {
        let shared = self.0.as_ref()?;
        Some(shared.dropped.load(Ordering::Relaxed))
    }

    /// Begins the trace of an RPC, if it is to have one.
    pub(crate) fn begin(&self, headers: &HeaderMap) -> Option<Trace> {
        let tracer = self.0.as_ref()?;
        let context = match Context::of(headers) {
            Some(context) if context.sampled => context,
            // Its client wants none.
            Some(_) => return None,
            None if tracer.number() < tracer.below => Context::new([tracer.id(), tracer.id()]),
            None => return None,
        };
        Some(Trace(Arc::new(Open {
            root: tracer.id(),
            tracer: Arc::clone(tracer),
            context,
            begun: (now(), Instant::now()),
            spans: Mutex::default(),
        })))
    }
}

impl Shared {
    /// A number that is as good as random.
    fn number(&self) -> u64 {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut mixed = self.seed.wrapping_add(count.wrapping_mul(GOLDEN));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An id, which is never 0.
    fn id(&self) -> u64 {
        self.number().max(1)
    }

    fn send(&self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        if self.queue.try_send(spans).is_err() {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Trace {
    /// Awaits what is a part of it.
    pub(crate) async fn during<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }

    /// Ends the span of the RPC and sends all that has ended. `path`: `/SERVICE/METHOD`.
    pub(crate) fn end(&self, path: &str, code: Code) {
        let open = &self.0;
        let whole = path.trim_start_matches('/');
        let (service, method) = whole.rsplit_once('/').unwrap_or(("", whole));
        let span = Span {
            trace: open.context.trace,
            id: open.root,
            parent: open.context.parent,
            state: open.context.state.clone(),
            name: whole.to_owned(),
            code: Some(code),
            begun: open.begun.0,
            ended: open.now(),
            attributes: vec![
                ("rpc.system", "grpc".to_owned()),
                ("rpc.service", service.to_owned()),
                ("rpc.method", method.to_owned()),
                ("rpc.grpc.status_code", (code as i32).to_string()),
            ],
        };
        let mut spans = open.spans();
        spans.over = true;
        let mut all = std::mem::take(&mut spans.ended);
        drop(spans);
        all.push(span);
        open.tracer.send(all);
    }

    fn watched(self) -> Watched {
        let root = self.0.root;
        Watched::new(self.0, root)
    }
}

impl Open {
    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        let since = self.begun.1.elapsed().as_nanos();
        self.begun.0 + u64::try_from(since).unwrap_or(u64::MAX / 2)
    }

    /// Begins a part; 0 if there are too many.
    fn open(&self, name: &str, parent: u64, attributes: Vec<(&'static str, String)>) -> u64 {
        let id = self.tracer.id();
        let mut spans = self.spans();
        if spans.count >= SPANS {
            self.tracer.dropped.fetch_add(1, Ordering::Relaxed);
            return 0;
        }
        spans.count += 1;
        spans.open.push(Span {
            trace: self.context.trace,
            id,
            parent: Some(match parent {
                0 => self.root,
                parent => parent,
            }),
            state: self.context.state.clone(),
            name: name.to_owned(),
            code: None,
            begun: self.now(),
            ended: 0,
            attributes,
        });
        id
    }

    fn close(&self, id: u64) {
        let mut spans = self.spans();
        let Some(place) = spans.open.iter().position(|span| span.id == id) else {
            return;
        };
        let mut span = spans.open.swap_remove(place);
        span.ended = self.now();
        match spans.over {
            false => spans.ended.push(span),
            true => {
                drop(spans);
                self.tracer.send(vec![span]);
            }
        }
    }
}

impl Steps for Open {
    fn begin(&self, name: &'static str, parent: u64) -> u64 {
        self.open(name, parent, Vec::new())
    }

    fn end(&self, step: u64) {
        self.close(step);
    }
}

/// The trace of the RPC that this task answers.
pub(crate) fn current() -> Option<Trace> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Does blocking work, which may be a part of an RPC's trace, on this thread.
pub(crate) fn within<T>(trace: Option<Trace>, work: impl FnOnce() -> T) -> T {
    match trace {
        Some(trace) => trace.watched().during(work),
        None => work(),
    }
}

/// Awaits a step of the RPC that this task answers.
pub(crate) async fn step<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let Some(trace) = current() else {
        return work.await;
    };
    let number = trace.0.open(name, trace.0.root, Vec::new());
    let done = work.await;
    trace.0.close(number);
    done
}

/// Who is told how a pull goes on: `watch`, and the trace of the RPC that this task answers.
pub(crate) fn blobs(watch: BlobWatch) -> BlobWatch {
    let Some(trace) = current() else {
        return watch;
    };
    let under_way = Mutex::new(Vec::<(String, u64)>::new());
    BlobWatch::to(move |blob, step| {
        watch.tell(blob, step);
        let digest = blob.digest.to_string();
        let mut all = under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            BlobStep::Begun => {
                let attributes = vec![
                    ("digest", digest.clone()),
                    ("size", blob.size.to_string()),
                    ("mediatype", blob.media_type.to_string()),
                ];
                let number = trace.0.open("blob", trace.0.root, attributes);
                all.push((digest, number));
            }
            BlobStep::Done => {
                let place = all.iter().position(|(of, _)| *of == digest);
                if let Some(place) = place {
                    trace.0.close(all.swap_remove(place).1);
                }
            }
            BlobStep::There | BlobStep::At(_) => {}
        }
    })
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    u64::try_from(base::time::now_ns()).unwrap_or(0)
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_le_bytes(bytes),
        // Good enough to tell two nodes apart.
        _ => now() ^ (u64::from(std::process::id()) << 32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(rate: u64, queue: usize) -> (Tracer, mpsc::Receiver<Vec<Span>>) {
        let (sender, receiver) = mpsc::channel(queue);
        let shared = Shared {
            below: (u64::MAX / 1_000_000).saturating_mul(rate),
            seed: 1,
            count: AtomicU64::new(0),
            queue: sender,
            dropped: Arc::default(),
        };
        (Tracer(Some(Arc::new(shared))), receiver)
    }

    fn headers(traceparent: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", traceparent.parse().unwrap());
        headers
    }

    #[test]
    fn a_client_says_whether_it_is_traced_and_else_the_rate() {
        let begun = |rate, headers: &HeaderMap| tracer(rate, 1).0.begin(headers).is_some();
        let sampled = headers("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let not = headers("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        assert!(begun(0, &sampled) && !begun(1_000_000, &not));
        assert!(!begun(0, &HeaderMap::new()) && begun(1_000_000, &HeaderMap::new()));
        let (half, _spans) = tracer(500_000, 1);
        let all = (0..1000).filter(|_| half.begin(&HeaderMap::new()).is_some());
        assert!((400..600).contains(&all.count()));
        assert!(Tracer::default().begin(&sampled).is_none());
    }

    #[test]
    fn steps_are_children_and_those_that_end_late_come_by_themselves() {
        let (tracer, mut spans) = tracer(1_000_000, 8);
        let trace = tracer.begin(&HeaderMap::new()).unwrap();
        let root = trace.0.root;
        let early = trace.0.open("early", root, Vec::new());
        let late = trace.0.open("late", early, Vec::new());
        trace.0.close(early);
        trace.end("/runtime.v1.RuntimeService/RunPodSandbox", Code::Ok);
        let sent = spans.try_recv().unwrap();
        let names: Vec<&str> = sent.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["early", "runtime.v1.RuntimeService/RunPodSandbox"]);
        assert_eq!((sent[0].parent, sent[1].parent), (Some(root), None));
        assert!(sent[0].ended <= sent[1].ended && sent[0].begun <= sent[0].ended);
        trace.0.close(late);
        let sent = spans.try_recv().unwrap();
        assert_eq!((sent.len(), sent[0].parent), (1, Some(early)));
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (tracer, _spans) = tracer(1_000_000, 1);
        for _ in 0..3 {
            let trace = tracer.begin(&HeaderMap::new()).unwrap();
            trace.end("/a/b", Code::Ok);
        }
        assert_eq!(tracer.dropped(), Some(2));
        let trace = tracer.begin(&HeaderMap::new()).unwrap();
        for _ in 0..SPANS + 5 {
            let number = trace.0.open("step", trace.0.root, Vec::new());
            trace.0.close(number);
        }
        assert_eq!(tracer.dropped(), Some(7));
        assert_eq!(Tracer::default().dropped(), None);
    }
}
