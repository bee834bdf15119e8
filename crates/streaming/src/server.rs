//! The listener: connections bounded in number, each with a limit for its handshake.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::activity::{Activity, Counted};
use crate::http::{self, App};
use crate::token::Tokens;
use crate::{Attach, Backend, Exec, PortForward, Request};

/// Connections at a time: each may be a command in a container.
const CONNECTIONS: usize = 2048;

/// How long a client has for TLS, and for the headers of its request.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// After a failed accept (no more files, usually) clients wait this long.
const AGAIN: Duration = Duration::from_millis(50);

/// A peer whose machine is gone is noticed after about two minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How to serve.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 is any.
    pub address: SocketAddr,
    /// Certificates; plain HTTP if `None`.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// A stream that carries nothing for so long is closed.
    pub idle: Duration,
}

/// A server of streams that listens.
pub struct Server<B> {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Arc<App<B>>,
}

/// Gives out the URLs of streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Urls {
    base: Arc<str>,
    tokens: Arc<Tokens<Request>>,
}

/// Too many URLs wait for their clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many streams wait for their clients")]
pub struct Full;

impl Urls {
    /// The URL of a command, good once and for a minute.
    ///
    /// # Errors
    /// [`Full`].
    pub fn exec(&self, exec: Exec) -> Result<String, Full> {
        self.url("exec", Request::Exec(exec))
    }

    /// The same of a container's own streams.
    ///
    /// # Errors
    /// [`Full`].
    pub fn attach(&self, attach: Attach) -> Result<String, Full> {
        self.url("attach", Request::Attach(attach))
    }

    /// The same of ports.
    ///
    /// # Errors
    /// [`Full`].
    pub fn port_forward(&self, ports: PortForward) -> Result<String, Full> {
        self.url("portforward", Request::PortForward(ports))
    }

    fn url(&self, verb: &str, request: Request) -> Result<String, Full> {
        let token = self.tokens.add(request).ok_or(Full)?;
        Ok(format!("{}/{verb}/{token}", self.base))
    }
}

impl<B: Backend> Server<B> {
    /// Listens; clients are served by [`Server::run`].
    ///
    /// # Errors
    /// An address that cannot be had.
    pub async fn bind(options: Options, backend: Arc<B>) -> io::Result<(Self, Urls)> {
        let listener = TcpListener::bind(options.address).await?;
        let scheme = if options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let address = reachable(listener.local_addr()?);
        let tokens = Arc::<Tokens<Request>>::default();
        let urls = Urls {
            base: format!("{scheme}://{address}").into(),
            tokens: Arc::clone(&tokens),
        };
        let app = App {
            backend,
            tokens,
            idle: options.idle,
        };
        let server = Self {
            listener,
            tls: options.tls.map(TlsAcceptor::from),
            app: Arc::new(app),
        };
        Ok((server, urls))
    }

    /// Serves until `shutdown` completes. Streams end then, and their commands with them.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let (end, ending) = watch::channel(());
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let accepting = async {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let stream = match self.listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!("accept: {error}");
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                };
                let (app, tls) = (Arc::clone(&self.app), self.tls.clone());
                let mut ending = ending.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(app, stream, tls, place, ending.clone()) => {}
                        _ = ending.changed() => {}
                    }
                });
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = accepting => {}
        }
        drop(end);
    }
}

/// What a client on this machine connects to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

async fn connection<B: Backend>(
    app: Arc<App<B>>,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    place: OwnedSemaphorePermit,
    ending: watch::Receiver<()>,
) {
    // Where these cannot be set a stream is slower, or a dead peer noticed by the idle limit.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let _ = sockopt::set_tcp_keepidle(&stream, KEEPALIVE);
    let Some(tls) = tls else {
        return serve(app, stream, place, ending).await;
    };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(app, stream, place, ending).await,
        Ok(Err(error)) => tracing::debug!("TLS: {error}"),
        Err(_) => tracing::debug!("TLS: nothing came in time"),
    }
}

async fn serve<B: Backend>(
    app: Arc<App<B>>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: OwnedSemaphorePermit,
    ending: watch::Receiver<()>,
) {
    let activity = Activity::default();
    let stream = Counted {
        io: stream,
        activity: activity.clone(),
    };
    let link = http::Link {
        activity,
        _place: Arc::new(place),
        ending,
    };
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let answer = http::answer(&app, &link, request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!("a client of streams: {error}");
    }
}
