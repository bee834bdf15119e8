//! The CRI server: the face that kubelet and crictl see (Container Runtime Interface v1 of
//! Kubernetes 1.37, over a unix socket).
//!
//! An RPC is three steps and no more: turn the request into the engine's types (`convert/`, which
//! refuses what cannot be meant), call the engine (`work.rs`, so that what was begun is finished when
//! the client leaves, and nothing waits for what is slow), and turn the outcome into the answer. State,
//! decisions and order of steps belong to the crate `engine`; nothing here remembers a pod.
//!
//! | file | what |
//! | --- | --- |
//! | `runtime_service.rs`, `image_service.rs` | the RPCs of one service each |
//! | `convert/` | CRI's types to the engine's and back, a file per noun |
//! | `metrics/` | the engine's own metrics, for Prometheus |
//! | `statistics.rs` | what pods and containers use |
//! | `status.rs` | errors to gRPC codes |
//! | `frame.rs` | what every RPC of every service runs in: |
//! | `refusal.rs` | – the log line of each request that is refused |
//! | `deadline.rs` | – the client's deadline |
//! | `answer.rs` | – the memory of answers that wait for their client |
//! | `chunks.rs` | lists in parts, for the Stream… RPCs |
//! | `trace/` | spans of RPCs, told to a collector |
//! | `events.rs` | GetContainerEvents, a stream for each client |
//! | `streams.rs` | Exec, Attach and PortForward, beside the socket |
//! | `work.rs` | running engine calls, and the log line of each change |
//! | `calls.rs` | which changes are under way, and which of them is stuck |
//! | `pool.rs`, `turns.rs` | threads for blocking calls, and each pod's share of them |
//! | `node.rs` | what the runtime says of itself |
//! | `authority/` | clients that send any `:authority` |
//! | `connections.rs`, `inspect/` | gRPC and HTTP/1 on one socket, and what is inspected by the latter |
//! | `http.rs` | one request per connection: of `inspect/` and `metrics/` |
//! | `socket.rs`, `notify.rs`, `watchdog.rs` | the socket, and systemd's ready protocol and watchdog |

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod answer;
mod authority;
mod calls;
mod checkpoint;
mod chunks;
mod connections;
mod convert;
mod deadline;
mod events;
mod frame;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod http;
mod image_service;
mod inspect;
mod metrics;
#[cfg(test)]
#[path = "../../image/tests/support/fuzz.rs"]
mod mutator;
mod node;
mod notify;
mod pool;
mod refusal;
mod runtime_service;
mod socket;
mod statistics;
mod status;
mod streams;
mod trace;
mod turns;
mod watchdog;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use cri::image_service_server::ImageServiceServer;
use cri::runtime_service_server::RuntimeServiceServer;
use engine::config::Api;
use engine::image::LaidImages;
use engine::{Config, Engine};
use tokio::sync::{oneshot, watch};
use tokio_stream::StreamExt;
use tonic::transport::Server;
use tracing::{info, warn};

pub use metrics::MetricsError;
pub use notify::{ready as notify_ready, reloading as notify_reloading};
pub use socket::Error as SocketError;
pub use streams::StreamsError;

use answer::Answers;
use authority::AnyAuthority;
use events::Events;
use frame::Framed;
use image_service::ImageServer;
use inspect::Inspect;
use metrics::Metrics;
use runtime_service::RuntimeServer;
use trace::Tracer;
use work::Work;

/// The version of the interface to kubelet.
pub const CRI_VERSION: &str = cri::API_VERSION;

/// Time for answers to reach clients that stay connected.
const LINGER: Duration = Duration::from_millis(100);

/// Requests of one client that may be under way: kubelet sends all on one connection, and hung
/// commands must not leave its lists without a place. Each pod has its own limit in the engine.
const STREAMS: u32 = 16 * 1024;

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOptions {
    /// Path of the unix socket; its directory is made if missing.
    pub listen: PathBuf,
    /// Largest request in bytes.
    pub max_request: usize,
    /// Largest answer in bytes.
    pub max_answer: usize,
    /// How long requests that run at the end may go on before their clients are left without an
    /// answer. Their work goes on as long as the process does.
    pub grace: Duration,
    /// Where and how streams are served.
    pub api: Api,
}

impl ServeOptions {
    /// What the configuration says.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self {
            listen: config.api.listen.clone(),
            max_request: config.api.grpc_max_recv_msg_size,
            max_answer: config.api.grpc_max_send_msg_size,
            grace: Duration::from_secs(10),
            api: config.api.clone(),
        }
    }
}

/// Why serving could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Streams cannot be served.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// The engine's own metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// gRPC failed on the socket as a whole.
    #[error("serve CRI on {listen}: {source}")]
    Serve {
        /// The socket.
        listen: PathBuf,
        /// The cause.
        source: tonic::transport::Error,
    },
}

/// Serves CRI until `shutdown` completes and the requests that run then have their answers, or
/// [`ServeOptions::grace`] is over. What a killed engine left is cleared away beside that. The socket is there when the service manager is told `READY=1`
/// and is gone when this returns; containers are untouched by either.
///
/// # Errors
/// A socket that cannot be made, such as one on which another engine listens.
pub async fn serve(
    engine: Engine,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (_socket, listener) = socket::bind(&options.listen)?;
    if let Err(error) = engine.watch() {
        warn!(%error, "each list reads all records");
    }
    let tracer = Tracer::new(&engine.config().tracing);
    let work = Work::new(engine);
    let engine = work.engine();
    let metrics = Metrics::new(&engine, &tracer, work.calls());
    let scraped = metrics::server(&engine, &metrics).await?;
    let (streams, urls) = streams::bind(work.clone(), &options.api).await?;
    // Ends with this call, and its streams with it.
    let (_streaming, over) = oneshot::channel::<()>();
    tokio::spawn(streams.run(async {
        let _ = over.await;
    }));
    let (ends, ending) = watch::channel(false);
    let runtime = RuntimeServer::new(work.clone(), urls, Events::new(ending));
    let runtime = RuntimeServiceServer::new(runtime)
        .max_decoding_message_size(options.max_request)
        .max_encoding_message_size(options.max_answer);
    let images = ImageServiceServer::new(ImageServer::new(work.clone(), metrics.clone()))
        .max_decoding_message_size(options.max_request)
        .max_encoding_message_size(options.max_answer);
    let answers = Answers::default();
    let (ending_calls, ended) = oneshot::channel();
    let stop = async {
        shutdown.await;
        notify::send("STOPPING=1");
        // Nobody waits for it only if serving has failed already.
        let _ = (ending_calls.send(()), ends.send(true));
    };
    start_plugins(&work.engine()).await;
    info!(socket = %options.listen.display(), "serving CRI");
    notify::ready();
    watchdog::start(&options.listen);
    recover_beside(&work.engine());
    take_laid_images(&work.engine());
    let clients = connections::accept(listener, Inspect::new(work.clone()));
    let served = Server::builder()
        .max_concurrent_streams(STREAMS)
        .add_service(Framed::new(runtime, &answers, &metrics, &tracer))
        .add_service(Framed::new(images, &answers, &metrics, &tracer))
        .serve_with_incoming_shutdown(clients.map(|client| client.map(AnyAuthority::new)), stop);
    let ended = tokio::select! {
        served = served => served.map_err(|source| Error::Serve { listen: options.listen, source }),
        () = enough(ended, &work, options.grace) => Ok(()),
        () = answers.clone().give_back() => Ok(()),
        () = metrics::serve(scraped) => Ok(()),
    };
    // Each has a limit for its answer.
    let _ = tokio::task::spawn_blocking(move || work.engine().end_plugins()).await;
    ended
}

/// Lets those of the node's plugins join that are installed, before there is anything to ask them about.
async fn start_plugins(engine: &Engine) {
    let starting = engine.clone();
    let started = tokio::task::spawn_blocking(move || starting.start_plugins()).await;
    match started
        .map_err(|error| error.to_string())
        .map(|done| done.map_err(|error| error.to_string()))
    {
        Ok(Ok(())) => {}
        Ok(Err(reason)) | Err(reason) => warn!(reason, "no NRI plugin is asked"),
    }
}

/// Clears away what a killed engine left, and waits for it nowhere: a handler that does not answer would
/// keep kubelet from a node whose other pods are well.
fn recover_beside(engine: &Engine) {
    let recovering = engine.clone();
    let recover = move || {
        let found = recovering.recover();
        info!(
            running = found.running,
            dead = found.dead,
            cleared = found.cleared,
            "state of the last run"
        );
    };
    let thread = std::thread::Builder::new().name("recover".to_owned());
    if let Err(error) = thread.spawn(recover) {
        warn!(%error, "what the last run left half made stays until the next start");
    }
}

/// Looks after `images_dir` on a thread of its own: disks may be slow.
fn take_laid_images(engine: &Engine) {
    let (engine, handle) = (engine.clone(), tokio::runtime::Handle::current());
    let thread = std::thread::Builder::new().name("images-dir".to_owned());
    if let Err(error) = thread.spawn(|| LaidImages::new(engine, handle).run()) {
        warn!(%error, "nothing is taken from images_dir until the next start");
    }
}

/// Completes when nothing is left to wait for after the end has begun, though clients keep their
/// connections: no call is under way, or `grace` is over.
async fn enough(ended: oneshot::Receiver<()>, work: &Work, grace: Duration) {
    if ended.await.is_err() {
        // Serving has ended by itself: that is the outcome.
        return std::future::pending().await;
    }
    match tokio::time::timeout(grace, work.idle()).await {
        // The last answers are on their way.
        Ok(()) => tokio::time::sleep(LINGER).await,
        Err(_) => warn!(after = ?grace, "ended with requests unanswered"),
    }
}
