//! Who scrapes: a small HTTP server whose only page is `/metrics`. Connections are bounded in number and
//! time, and each has one answer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::socket::SocketFile;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tls::{Rules, TlsOptions};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::{Metrics, text};
use crate::http::{self, Limits};
use crate::socket;

/// Connections at a time.
const CONNECTIONS: usize = 32;
/// How long a client has for its request.
const REQUEST: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
const HEAD: usize = 64 << 10;
/// How long a client has until it has taken the answer.
const WHOLE: Duration = Duration::from_secs(60);
/// After a failed accept (no more files, usually) clients wait this long.
const AGAIN: Duration = Duration::from_millis(50);

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address.
    #[error("serve metrics on {host}:{port}: {source}")]
    Listen {
        /// `metrics_host`
        host: String,
        /// `metrics_port`
        port: u16,
        /// The cause.
        source: io::Error,
    },
    /// The unix socket.
    #[error("serve metrics on {}: {source}", path.display())]
    Socket {
        /// `metrics_socket`
        path: PathBuf,
        /// The cause.
        source: socket::Error,
    },
    /// A file of TLS.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Listens where the configuration says.
pub(crate) struct MetricsServer {
    tcp: TcpListener,
    unix: Option<(SocketFile, UnixListener)>,
    tls: Option<TlsAcceptor>,
    metrics: Metrics,
}

impl MetricsServer {
    /// Listens; clients are served by [`MetricsServer::run`].
    ///
    /// # Errors
    /// An address or socket that cannot be had, or files of TLS that cannot be used.
    pub(crate) async fn bind(
        config: &engine::config::Metrics,
        metrics: Metrics,
    ) -> Result<Self, MetricsError> {
        let (host, port) = (config.host(), config.metrics_port);
        let tls = match config.tls() {
            None => None,
            Some((certificate, key)) => {
                let files = TlsOptions {
                    certificate,
                    key,
                    client_ca: None,
                    rules: Rules::default(),
                };
                Some(TlsAcceptor::from(files.config(&["http/1.1"])?))
            }
        };
        let tcp = TcpListener::bind((host, port)).await;
        let listen = |source| MetricsError::Listen {
            host: host.to_owned(),
            port,
            source,
        };
        let unix = match config.metrics_socket.as_os_str().is_empty() {
            true => None,
            false => {
                let path = &config.metrics_socket;
                let bound = socket::bind(path).map_err(|source| MetricsError::Socket {
                    path: path.clone(),
                    source,
                });
                Some(bound?)
            }
        };
        Ok(Self {
            tcp: tcp.map_err(listen)?,
            unix,
            tls,
            metrics,
        })
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self) {
        let Self {
            tcp,
            unix,
            tls,
            metrics,
        } = self;
        if let Ok(address) = tcp.local_addr() {
            tracing::info!(%address, tls = tls.is_some(), "serving metrics");
        }
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let over_tcp = async {
            loop {
                let Some((client, place)) = next(&places, async || tcp.accept().await).await else {
                    return;
                };
                let (metrics, tls) = (metrics.clone(), tls.clone());
                tokio::spawn(tokio::time::timeout(WHOLE, async move {
                    let _place = place;
                    let Some(tls) = tls else {
                        return answer(client.0, metrics).await;
                    };
                    match tokio::time::timeout(REQUEST, tls.accept(client.0)).await {
                        Ok(Ok(client)) => answer(client, metrics).await,
                        Ok(Err(error)) => tracing::debug!("TLS of metrics: {error}"),
                        Err(_) => tracing::debug!("TLS of metrics: nothing came in time"),
                    }
                }));
            }
        };
        let over_unix = async {
            let Some((_socket, unix)) = &unix else {
                return std::future::pending().await;
            };
            loop {
                let Some((client, place)) = next(&places, async || unix.accept().await).await
                else {
                    return;
                };
                let metrics = metrics.clone();
                tokio::spawn(tokio::time::timeout(WHOLE, async move {
                    let _place = place;
                    answer(client.0, metrics).await;
                }));
            }
        };
        tokio::join!(over_tcp, over_unix);
    }
}

/// The next client, and the place that it has.
async fn next<T>(
    places: &Arc<Semaphore>,
    mut accept: impl AsyncFnMut() -> io::Result<T>,
) -> Option<(T, tokio::sync::OwnedSemaphorePermit)> {
    loop {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        match accept().await {
            Ok(client) => return Some((client, place)),
            Err(error) => {
                tracing::warn!("accept a client of metrics: {error}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn answer(client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, metrics: Metrics) {
    let limits = Limits {
        request: REQUEST,
        head: HEAD,
    };
    let served = http::serve_one(client, limits, |request| {
        let metrics = metrics.clone();
        async move { page(&request, &metrics).await }
    });
    if let Err(error) = served.await {
        tracing::debug!("a client of metrics: {error}");
    }
}

async fn page(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    if request.uri().path() != "/metrics" {
        *answer.status_mut() = StatusCode::NOT_FOUND;
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let methods = HeaderValue::from_static("GET, HEAD");
        answer.headers_mut().insert(ALLOW, methods);
    } else {
        let kind = HeaderValue::from_static(text::CONTENT_TYPE);
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        *answer.body_mut() = Full::new(metrics.text().await.into());
    }
    answer
}
