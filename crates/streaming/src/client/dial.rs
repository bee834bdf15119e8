//! The connection to a stream's server, and its upgrade to SPDY or a WebSocket.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Error, Target, Transport, tls};

/// How long connection, TLS and upgrade may take together.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// What is read of a refusal.
const WORDS: usize = 16 << 10;

/// SPDY's header for the version of the streams.
const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// A connection that carries a stream's protocol.
pub(super) type Upgrade = TokioIo<Upgraded>;

/// Connects and upgrades; gives the connection and the version that the server chose.
///
/// # Errors
/// No server there, one that refuses, or one that is too slow.
pub(super) async fn upgrade(
    target: &Target,
    versions: &[&str],
) -> Result<(Upgrade, String), Error> {
    let limited = tokio::time::timeout(HANDSHAKE, negotiate(target, versions));
    limited.await.unwrap_or_else(|_| {
        let slow = io::Error::new(io::ErrorKind::TimedOut, "the server does not answer");
        Err(Error::Unreachable {
            address: target.url.clone(),
            source: slow,
        })
    })
}

async fn negotiate(target: &Target, versions: &[&str]) -> Result<(Upgrade, String), Error> {
    let wrong = |why: &str| Error::Url {
        url: target.url.clone(),
        why: why.to_owned(),
    };
    let uri: Uri = target.url.parse().map_err(|_| wrong("no URL"))?;
    let host = uri.host().ok_or_else(|| wrong("it names no host"))?;
    let (is_tls, usual) = match uri.scheme_str() {
        Some("http" | "ws") => (false, 80),
        Some("https" | "wss") => (true, 443),
        _ => return Err(wrong("neither http nor https")),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(usual);
    let unreachable = |source| Error::Unreachable {
        address: format!("{host}:{port}"),
        source,
    };
    let tcp = TcpStream::connect((bare, port))
        .await
        .map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let (request, key) = request(&uri, target.transport, versions)?;
    let response = match is_tls {
        false => exchange(tcp, request).await?,
        true => {
            let connector = tls::connector(&target.tls)?;
            let name = tls::name(&target.tls)?;
            let secure = connector.connect(name, tcp).await.map_err(unreachable)?;
            exchange(secure, request).await?
        }
    };
    agreed(response, target.transport, &key).await
}

/// The request for a stream, and the key of a WebSocket's.
fn request(
    uri: &Uri,
    transport: Transport,
    versions: &[&str],
) -> Result<(Request<Empty<Bytes>>, String), Error> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut random = [0_u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(io::Error::from)?;
    let key = BASE64.encode(random);
    let mut request = Request::builder()
        .uri(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade");
    request = match transport {
        Transport::Spdy => {
            let request = request.method(Method::POST);
            let request = request.header(header::CONTENT_LENGTH, 0);
            let request = request.header(header::UPGRADE, "SPDY/3.1");
            let mut versions = versions.iter();
            versions.try_fold(request, |request, version| {
                HeaderValue::from_str(version).map(|version| request.header(VERSION, version))
            })
        }
        Transport::WebSocket => HeaderValue::from_str(&versions.join(", ")).map(|versions| {
            request
                .method(Method::GET)
                .header(header::UPGRADE, "websocket")
                .header(header::SEC_WEBSOCKET_VERSION, "13")
                .header(header::SEC_WEBSOCKET_KEY, &key)
                .header(header::SEC_WEBSOCKET_PROTOCOL, versions)
        }),
    }
    .map_err(|error| Error::Command(error.to_string()))?;
    let request = request.body(Empty::new());
    let request = request.map_err(|error| Error::Command(error.to_string()))?;
    Ok((request, key))
}

/// Sends the request and reads the answer's head.
async fn exchange(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!("connection to a stream: {error}");
        }
    });
    sender.send_request(request).await.map_err(broken)
}

fn broken(error: hyper::Error) -> Error {
    Error::Io(io::Error::other(error))
}

/// The connection behind an answer that agrees.
async fn agreed(
    mut response: Response<Incoming>,
    transport: Transport,
    key: &str,
) -> Result<(Upgrade, String), Error> {
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let body = Limited::new(response.into_body(), WORDS).collect().await;
        let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
        return Err(Error::Refused {
            status: status.as_u16(),
            words: String::from_utf8_lossy(&bytes).trim().to_owned(),
        });
    }
    let text = |name: &HeaderName| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let (version, wanted) = match transport {
        Transport::Spdy => (text(&VERSION), "spdy/3.1"),
        Transport::WebSocket => (text(&header::SEC_WEBSOCKET_PROTOCOL), "websocket"),
    };
    let refused = |words: &str| Error::Refused {
        status: status.as_u16(),
        words: words.to_owned(),
    };
    if !text(&header::UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case(wanted)) {
        return Err(refused("the server changes to another protocol"));
    }
    if transport == Transport::WebSocket {
        let accept = text(&header::SEC_WEBSOCKET_ACCEPT);
        if accept.as_deref() != Some(derive_accept_key(key.as_bytes()).as_str()) {
            return Err(refused("the server's answer is to another request"));
        }
    }
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(broken)?;
    Ok((TokioIo::new(upgraded), version.unwrap_or_default()))
}
