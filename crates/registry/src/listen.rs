//! Connections: accepted, encrypted, bounded in number and time, and ended in good order. When all
//! places are taken, the connection that has been idle the longest gives way.
//!
//! A client that says nothing, reads nothing or never ends its headers costs one connection for a
//! while, and nothing more. Must never wait for one client before serving another.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use store::Store;
use tls::TlsOptions;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::auth::{AuthOptions, Gate};
use crate::contents::Contents;
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::http::{self, App, Room};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::peers::{Arriving, PeerGate};

mod flow;
mod patience;
mod places;

use flow::Flows;
use patience::Patience;
use places::{Occupant, Places};

/// How long a connection that is to end has for what is still to be sent.
const LINGER: Duration = Duration::from_secs(1);

/// After a failed accept (no more files, usually) clients wait this long.
const AGAIN: Duration = Duration::from_millis(50);

/// What is served.
#[derive(Debug, Clone)]
pub enum What {
    /// A registry of its own, which is made when the directory is empty.
    Directory(PathBuf),
    /// A node's store, read-only.
    Store(Store),
    /// A node's store, read-only, for peers that pull the same images at the same time.
    Peers(Store, Arc<dyn Arriving>),
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to serve.
    pub what: What,
    /// Where.
    pub listen: SocketAddr,
    /// Where to answer `/metrics`, without TLS and to everyone; nowhere if `None`.
    pub metrics: Option<SocketAddr>,
    /// Certificates; plain HTTP if `None`.
    pub tls: Option<TlsOptions>,
    /// Who may do what.
    pub auth: AuthOptions,
    /// Whether pushes and deletes are refused.
    pub read_only: bool,
    /// Whether manifests are taken whose parts are not here, or not yet.
    pub sparse: bool,
    /// What a client may cost.
    pub limits: Limits,
}

/// A registry that listens.
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    metrics: Option<TcpListener>,
    tls: Option<TlsAcceptor>,
}

impl Server {
    /// Opens what is to be served and listens.
    ///
    /// Errors with what is wrong about an option, a file or an address.
    pub async fn bind(options: Options) -> Result<Server> {
        let config = |tls: &TlsOptions| tls.config(&["h2", "http/1.1"]);
        let tls = options.tls.as_ref().map(config).transpose()?;
        let gate = Gate::new(&options.auth)?;
        let mirror = matches!(options.what, What::Store(_) | What::Peers(..));
        let peers = match &options.what {
            What::Peers(_, arriving) => Some(PeerGate::new(Arc::clone(arriving))),
            What::Store(_) | What::Directory(_) => None,
        };
        let (contents, writable): (Arc<dyn Contents>, _) = match options.what {
            What::Store(store) | What::Peers(store, _) => (Arc::new(Mirror(store)), None),
            What::Directory(path) => {
                let directory = match options.read_only {
                    true => Directory::open(&path)?,
                    false => Directory::create(&path)?,
                };
                let directory = Arc::new(directory.sparse(options.sparse));
                let writable = (!options.read_only).then(|| Arc::clone(&directory));
                (directory, writable)
            }
        };
        Ok(Server {
            app: Arc::new(App {
                contents,
                writable,
                mirror,
                peers,
                gate,
                limits: options.limits,
                room: Room::new(),
                metrics: Metrics::new(),
            }),
            listener: listen(options.listen).await?,
            metrics: match options.metrics {
                Some(address) => Some(listen(address).await?),
                None => None,
            },
            tls: tls.map(TlsAcceptor::from),
        })
    }

    /// The address that clients can use: with the port that the kernel chose, if it did.
    pub fn address(&self) -> Result<SocketAddr> {
        let address = self.listener.local_addr();
        address.map_err(Error::io("ask for the address of", "the socket"))
    }

    /// The address of `/metrics`, likewise.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves until `shutdown` completes and the requests that run then have their answers, or
    /// [`Limits::grace`] is over.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let metrics = self.metrics.map(|listener| {
            let app = Arc::clone(&self.app);
            tokio::spawn(serve_metrics(app, listener))
        });
        let keeper = tokio::spawn(expire(Arc::clone(&self.app)));
        let places = Places::new(self.app.limits.connections);
        let (end, ending) = watch::channel(false);
        // Closed when the last connection has dropped its end of it.
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        let accepting = async {
            loop {
                let Some((stream, peer)) = accept(&self.listener).await else {
                    continue;
                };
                let Some(place) = places.take().await else {
                    continue;
                };
                let (app, tls) = (Arc::clone(&self.app), self.tls.clone());
                let (ending, alive) = (ending.clone(), alive.clone());
                tokio::spawn(async move {
                    app.metrics.connected();
                    connection(&app, stream, peer, tls, &place.occupant, ending).await;
                    app.metrics.disconnected();
                    drop((place, alive));
                });
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = accepting => {}
        }
        drop((self.listener, alive));
        // Without a receiver there is no connection.
        let _ = end.send(true);
        if tokio::time::timeout(self.app.limits.grace, all_gone.recv())
            .await
            .is_err()
        {
            tracing::warn!(after = ?self.app.limits.grace, "ended with requests unanswered");
        }
        keeper.abort();
        if let Some(metrics) = metrics {
            metrics.abort();
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| Error::Listen { address, source })
}

async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!("accept: {error}");
            tokio::time::sleep(AGAIN).await;
            None
        }
    }
}

async fn connection(
    app: &Arc<App>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    occupant: &Arc<Occupant>,
    ending: watch::Receiver<bool>,
) {
    // Small answers go out at once; a socket that cannot do that is slower, no more.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return http(app, stream, peer, occupant, ending).await;
    };
    let encrypted = tokio::time::timeout(app.limits.idle, tls.accept(stream));
    tokio::select! {
        encrypted = encrypted => match encrypted {
            Ok(Ok(stream)) => http(app, stream, peer, occupant, ending).await,
            Ok(Err(error)) => tracing::debug!(%peer, "TLS: {error}"),
            Err(_) => tracing::debug!(%peer, "TLS: nothing came in time"),
        },
        () = occupant.told_to_leave() => tracing::debug!(%peer, "TLS: its place is wanted"),
    }
}

async fn http(
    app: &Arc<App>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    occupant: &Arc<Occupant>,
    mut ending: watch::Receiver<bool>,
) {
    let limits = &app.limits;
    let builder = builder(limits);
    // While a request is being worked on, silence is not the client's fault.
    let working = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(occupant);
    let stream = Patience::new(stream, limits.idle, Arc::clone(&working), counted);
    let flows = Flows::new(Arc::clone(occupant));
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(occupant.waiting());
        let (app, work, flows) = (Arc::clone(app), Work::begin(&working), flows.clone());
        let busy = occupant.busy();
        async move {
            let answer = http::answer(app, peer, request).await;
            let answer = flows.track(answer);
            drop((work, busy));
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stalled = flows.stalled(limits.idle);
    let mut stalled = std::pin::pin!(stalled);
    let end = async {
        tokio::select! {
            _ = ending.wait_for(|end| *end) => {}
            () = occupant.told_to_leave() => {}
        }
    };
    let ended = tokio::select! {
        served = &mut connection => served,
        () = &mut stalled => return tracing::debug!(%peer, "an answer was not taken"),
        () = end => {
            // What is being answered is answered; then no more is taken.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = &mut connection => served,
                () = &mut stalled => return tracing::debug!(%peer, "an answer was not taken"),
                () = unfinished(occupant) => return tracing::debug!(%peer, "its place is wanted"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, "connection: {error}");
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.headers.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.headers).unwrap_or(u32::MAX))
        .max_concurrent_streams(32)
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.idle);
    builder
}

/// Completes when a connection that is to end has nothing to do for a while: one that never ends its
/// headers does not end by itself.
async fn unfinished(occupant: &Occupant) {
    while !occupant.must_go() {
        tokio::time::sleep(LINGER).await;
        if !occupant.is_busy() {
            return;
        }
    }
}

/// A request that is being worked on.
struct Work(Arc<AtomicUsize>);

impl Work {
    fn begin(working: &Arc<AtomicUsize>) -> Work {
        working.fetch_add(1, Ordering::Relaxed);
        Work(Arc::clone(working))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Forgets uploads that clients have given up.
async fn expire(app: Arc<App>) {
    let Some(directory) = app.writable.clone() else {
        return;
    };
    let idle = app.limits.upload_idle;
    let mut ticks = tokio::time::interval((idle / 4).max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let directory = Arc::clone(&directory);
        let expired =
            tokio::task::spawn_blocking(move || directory.expire_uploads(idle, false)).await;
        match expired {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => tracing::info!(count, "uploads given up by their clients removed"),
            Ok(Err(error)) => tracing::warn!("uploads cannot be removed: {error}"),
            Err(error) => tracing::warn!("uploads cannot be removed: {error}"),
        }
    }
}

/// Answers `/metrics`, one request a connection.
async fn serve_metrics(app: Arc<App>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(16));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Some((stream, peer)) = accept(&listener).await else {
            continue;
        };
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            let _place = place;
            let idle = app.limits.idle;
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = http::metrics(&request, &app.metrics);
                async { Ok::<_, std::convert::Infallible>(answer) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            let connection = builder
                .timer(TokioTimer::new())
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(idle, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%peer, "metrics: {error}"),
                Err(_) => tracing::debug!(%peer, "metrics: too slow"),
            }
        });
    }
}
