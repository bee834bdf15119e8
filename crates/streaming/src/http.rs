//! Requests for a stream: the token, the upgrade, the version that both speak, and then the stream. What
//! does not fit is refused in HTTP, before anything is run.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::activity::Activity;
use crate::forward::{self, Pod};
use crate::outbox::Outbox;
use crate::remote::{self, Channels, Ending};
use crate::token::Tokens;
use crate::websocket::{self, Framing};
use crate::{Backend, PortForward, Process, Request, Streams, spdy};

/// How long a client has to open the streams that it wants.
const STREAMS: Duration = Duration::from_secs(30);

/// Ports that one WebSocket may name: each takes two of its 255 channels.
const PORTS: usize = 64;

/// The versions of exec and attach over SPDY.
const REMOTE_SPDY: &[&str] = &[
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// Those over a WebSocket; a client that names none speaks the oldest.
const REMOTE_WEBSOCKET: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];

/// Ports over SPDY.
const PORTS_SPDY: &[&str] = &["portforward.k8s.io"];

/// Ports over a WebSocket: SPDY inside of it, or channels.
const PORTS_WEBSOCKET: &[&str] = &[TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What all connections share.
pub(crate) struct App<B> {
    pub backend: Arc<B>,
    pub tokens: Arc<Tokens<Request>>,
    pub idle: Duration,
}

/// The connection that a request came on.
#[derive(Clone)]
pub(crate) struct Link {
    pub activity: Activity,
    /// Its place among the connections, given back with the last user of it.
    pub _place: Arc<OwnedSemaphorePermit>,
    pub ending: watch::Receiver<()>,
}

type Answer = hyper::Response<Full<Bytes>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Spdy,
    WebSocket,
}

/// Answers a request, and begins its stream if it is one.
pub(crate) fn answer<B: Backend>(
    app: &Arc<App<B>>,
    link: &Link,
    mut request: hyper::Request<Incoming>,
) -> Answer {
    let upgrade = hyper::upgrade::on(&mut request);
    let (asked, transport, version) = match negotiate(app, &request) {
        Ok(negotiated) => negotiated,
        Err(refused) => return *refused,
    };
    let agreed = switching(&request, transport, version);
    let session = Session {
        app: Arc::clone(app),
        link: link.clone(),
        version,
        query: request.uri().query().unwrap_or_default().to_owned(),
    };
    tokio::spawn(session.run(asked, transport, upgrade));
    agreed
}

fn refuse(status: StatusCode, why: &str) -> Box<Answer> {
    let mut answer = Answer::new(Full::new(Bytes::from(format!("{why}\n"))));
    *answer.status_mut() = status;
    Box::new(answer)
}

fn negotiate<B>(
    app: &App<B>,
    request: &hyper::Request<Incoming>,
) -> Result<(Request, Transport, &'static str), Box<Answer>> {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "GET or POST"));
    }
    let not_found = || {
        refuse(
            StatusCode::NOT_FOUND,
            "no such stream, or it was taken already",
        )
    };
    let mut path = request.uri().path().split('/').skip(1);
    let (Some(verb), Some(token), None) = (path.next(), path.next(), path.next()) else {
        return Err(not_found());
    };
    let Some(transport) = transport(request.headers()) else {
        let why = "a stream needs an upgrade to SPDY/3.1 or WebSocket";
        return Err(refuse(StatusCode::BAD_REQUEST, why));
    };
    let asked = app.tokens.take(token).ok_or_else(not_found)?;
    let known = match (&asked, verb, transport) {
        (Request::Exec(_), "exec", Transport::Spdy) => REMOTE_SPDY,
        (Request::Attach(_), "attach", Transport::Spdy) => REMOTE_SPDY,
        (Request::Exec(_), "exec", Transport::WebSocket) => REMOTE_WEBSOCKET,
        (Request::Attach(_), "attach", Transport::WebSocket) => REMOTE_WEBSOCKET,
        (Request::PortForward(_), "portforward", Transport::Spdy) => PORTS_SPDY,
        (Request::PortForward(_), "portforward", Transport::WebSocket) => PORTS_WEBSOCKET,
        _ => return Err(not_found()),
    };
    let version = version(request.headers(), transport, known)?;
    Ok((asked, transport, version))
}

fn transport(headers: &HeaderMap) -> Option<Transport> {
    let has = |name: HeaderName, word: &str| {
        let mut words = words(headers, &name);
        words.any(|known| known.eq_ignore_ascii_case(word))
    };
    if !has(header::CONNECTION, "upgrade") {
        return None;
    }
    if has(header::UPGRADE, "websocket") && headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        return Some(Transport::WebSocket);
    }
    has(header::UPGRADE, "spdy/3.1").then_some(Transport::Spdy)
}

/// The words of a header that may come several times and hold several.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',').map(str::trim))
}

/// The first version that the client names and that is known.
fn version(
    headers: &HeaderMap,
    transport: Transport,
    known: &'static [&'static str],
) -> Result<&'static str, Box<Answer>> {
    let name = match transport {
        Transport::Spdy => VERSION,
        Transport::WebSocket => header::SEC_WEBSOCKET_PROTOCOL,
    };
    let find = |wanted: &str| known.iter().copied().find(|version| *version == wanted);
    let mut wanted = words(headers, &name).peekable();
    if wanted.peek().is_none() {
        let nothing = || refuse(StatusCode::BAD_REQUEST, "the client names no version");
        return find("").ok_or_else(nothing);
    }
    wanted.find_map(find).ok_or_else(|| {
        let mut answer = refuse(StatusCode::FORBIDDEN, "no version that both sides know");
        for known in known.iter().filter(|version| !version.is_empty()) {
            let value = HeaderValue::from_static(known);
            answer.headers_mut().append(ACCEPTED, value);
        }
        answer
    })
}

/// The answer that agrees.
fn switching(
    request: &hyper::Request<Incoming>,
    transport: Transport,
    version: &'static str,
) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let named = HeaderValue::from_static(version);
    match transport {
        Transport::Spdy => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            headers.insert(VERSION, named);
        }
        Transport::WebSocket => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
            let accept = derive_accept_key(key.map(HeaderValue::as_bytes).unwrap_or_default());
            if let Ok(accept) = HeaderValue::from_str(&accept) {
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
            if !version.is_empty() {
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, named);
            }
        }
    }
    answer
}

/// A stream that was agreed on.
struct Session<B> {
    app: Arc<App<B>>,
    link: Link,
    version: &'static str,
    query: String,
}

type Io = TokioIo<Upgraded>;

impl<B: Backend> Session<B> {
    /// Serves it until it is over, its client has left, nothing was carried for too long, or the server
    /// ends.
    async fn run(self, asked: Request, transport: Transport, upgrade: OnUpgrade) {
        let (mut ending, activity) = (self.link.ending.clone(), self.link.activity.clone());
        let idle = self.app.idle;
        let served = async {
            let io = match upgrade.await {
                Ok(io) => TokioIo::new(io),
                Err(error) => return tracing::debug!("upgrade to a stream: {error}"),
            };
            let served = match (asked, transport) {
                (Request::PortForward(ports), Transport::Spdy) => self.ports_spdy(ports, io).await,
                (Request::PortForward(ports), Transport::WebSocket) => {
                    self.ports_websocket(ports, io).await
                }
                (asked, Transport::Spdy) => self.remote_spdy(asked, io).await,
                (asked, Transport::WebSocket) => self.remote_websocket(asked, io).await,
            };
            if let Err(error) = served {
                tracing::debug!("a stream: {error}");
            }
        };
        tokio::select! {
            () = served => {}
            () = activity.idle(idle) => tracing::debug!("a stream has carried nothing for {idle:?}"),
            _ = ending.changed() => {}
        }
    }

    fn ending(&self) -> Ending {
        match self.version.starts_with("v4") || self.version.starts_with("v5") {
            true => Ending::Status,
            false => Ending::Words,
        }
    }

    /// Runs what was asked for with a client's streams, and says how it ended.
    async fn remote(&self, asked: &Request, channels: Channels) {
        let process: Result<Process, String> = match asked {
            Request::Exec(exec) => self.app.backend.exec(exec).await,
            Request::Attach(attach) => self.app.backend.attach(attach).await,
            Request::PortForward(_) => Err("not a command".to_owned()),
        };
        match process {
            Ok(process) => remote::run(channels, process, self.ending()).await,
            Err(why) => remote::refuse(channels, self.ending(), why).await,
        }
    }

    async fn remote_spdy(&self, asked: Request, io: Io) -> std::io::Result<()> {
        let (mut session, moved) = spdy::serve(io)?;
        let sizes = self.version.starts_with("v3") || self.version.starts_with("v4");
        let work = async {
            let wanted = gather(&mut session, streams(&asked), sizes);
            match tokio::time::timeout(STREAMS, wanted).await {
                Ok(Some(channels)) => self.remote(&asked, channels).await,
                Ok(None) => {}
                Err(_) => tracing::debug!("a client did not open its streams in time"),
            }
            session.finish();
        };
        until_moved(moved, work).await
    }

    async fn remote_websocket(&self, asked: Request, io: Io) -> std::io::Result<()> {
        let streams = streams(&asked);
        let mut inputs = Vec::new();
        inputs.extend(streams.stdin.then_some(0));
        inputs.extend(streams.tty.then_some(4));
        let socket = websocket::accept(io).await;
        let (session, inboxes, moved) = websocket::serve(socket, self.framing(), &inputs);
        let mut inboxes = inboxes.into_iter();
        let outbox = |channel| Outbox::WebSocket(session.outbox(channel));
        let channels = Channels {
            stdin: streams.stdin.then(|| inboxes.next()).flatten(),
            stdout: streams.stdout.then(|| outbox(1)),
            stderr: streams.stderr.then(|| outbox(2)),
            error: outbox(3),
            resize: streams.tty.then(|| inboxes.next()).flatten(),
            silent: Vec::new(),
        };
        let work = async {
            // An empty message tells older clients that the connection stands.
            let first = channels.stdout.as_ref().or(channels.stderr.as_ref());
            let _ = first.unwrap_or(&channels.error).write(Bytes::new()).await;
            self.remote(&asked, channels).await;
            session.finish().await;
        };
        until_moved(moved, work).await
    }

    fn framing(&self) -> Framing {
        Framing {
            base64: self.version.contains("base64"),
            close: self.version.starts_with("v5"),
        }
    }

    fn pod(&self, ports: &PortForward) -> Pod<B> {
        Pod {
            backend: Arc::clone(&self.app.backend),
            id: ports.pod.as_str().into(),
        }
    }

    async fn ports_spdy(&self, ports: PortForward, io: Io) -> std::io::Result<()> {
        let (session, moved) = spdy::serve(io)?;
        tokio::select! {
            moved = moved => moved,
            () = forward::spdy(session, self.pod(&ports)) => Ok(()),
        }
    }

    async fn ports_websocket(&self, ports: PortForward, io: Io) -> std::io::Result<()> {
        let socket = websocket::accept(io).await;
        if self.version == TUNNEL {
            let (io, carried) = websocket::tunnel(socket);
            let (session, moved) = spdy::serve(io)?;
            return tokio::select! {
                carried = carried => carried,
                moved = moved => moved,
                () = forward::spdy(session, self.pod(&ports)) => Ok(()),
            };
        }
        let mut named = named_ports(&self.query);
        if named.is_empty() {
            named.clone_from(&ports.ports);
        }
        named.truncate(PORTS);
        let inputs: Vec<u8> = (0..).step_by(2).take(named.len()).collect();
        let (session, inboxes, moved) = websocket::serve(socket, self.framing(), &inputs);
        let outbox = |channel| Outbox::WebSocket(session.outbox(channel));
        let work = async {
            forward::channels(&named, inboxes, outbox, self.pod(&ports)).await;
            session.finish().await;
        };
        until_moved(moved, work).await
    }
}

/// Does the work while the connection's bytes are moved, and moves the last of them after it. A client that
/// leaves ends the work.
async fn until_moved(
    moved: impl Future<Output = std::io::Result<()>>,
    work: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let mut moved = std::pin::pin!(moved);
    tokio::select! {
        moved = &mut moved => return moved,
        () = work => {}
    }
    moved.await
}

fn streams(asked: &Request) -> Streams {
    match asked {
        Request::Exec(exec) => exec.streams,
        Request::Attach(attach) => attach.streams,
        Request::PortForward(_) => Streams::default(),
    }
}

/// `port=80&port=443`.
fn named_ports(query: &str) -> Vec<u16> {
    let values = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("port="));
    let lists = values.flat_map(|ports| ports.split(','));
    lists
        .filter_map(|port| port.parse().ok())
        .filter(|&port| port > 0)
        .collect()
}

/// Waits until a client has opened the streams that it wants; `None` when it leaves before.
async fn gather(session: &mut spdy::Session, wanted: Streams, sizes: bool) -> Option<Channels> {
    let (mut stdin, mut stdout, mut stderr) = (None, None, None);
    let (mut error, mut resize, mut silent) = (None, None, Vec::new());
    loop {
        let whole = error.is_some()
            && stdin.is_some() == wanted.stdin
            && stdout.is_some() == wanted.stdout
            && stderr.is_some() == wanted.stderr
            && resize.is_some() == (wanted.tty && sizes);
        if whole {
            return Some(Channels {
                stdin,
                stdout,
                stderr,
                error: error?,
                resize,
                silent,
            });
        }
        let stream = session.accept().await?;
        let outbox = Outbox::Spdy(stream.outbox);
        match stream.headers.get("streamType") {
            Some("error") => error = Some(outbox),
            Some("stdout") if wanted.stdout => stdout = Some(outbox),
            Some("stderr") if wanted.stderr => stderr = Some(outbox),
            // Nothing is sent on these, and their end would tell the client to send no more.
            Some("stdin") if wanted.stdin => {
                silent.push(outbox);
                stdin = Some(stream.inbox);
            }
            Some("resize") if wanted.tty => {
                silent.push(outbox);
                resize = Some(stream.inbox);
            }
            // Dropped, it is reset.
            _ => {}
        }
    }
}
