//! From a request to an answer: who asks, what for, and which file answers it.
//!
//! Every answer passes [`answer`], which logs it, counts it and puts the headers on it that keep
//! browsers from running what clients have pushed.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName,
    HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use crate::auth::{Action, Gate, Need};
use crate::contents::Contents;
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::peers::PeerGate;
use crate::route::Route;

mod body;
mod discovery;
mod management;
mod page;
mod problem;
mod pull;
mod push;
mod query;
mod range;
mod upload;

pub(crate) use body::{Room, Waiting};

use body::Coming;
use query::Query;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer.
pub(crate) type Answer = Response<Body>;

/// No script, no frame, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// A registry that is being served.
pub(crate) struct App {
    pub(crate) contents: Arc<dyn Contents>,
    /// Where clients may write; `None` when the registry is read-only.
    pub(crate) writable: Option<Arc<Directory>>,
    /// Whether `ns` says which registry a name is of.
    pub(crate) mirror: bool,
    /// What peers get besides, if it is them that are served.
    pub(crate) peers: Option<PeerGate>,
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
    pub(crate) room: Room,
    pub(crate) metrics: Metrics,
}

/// A request, taken apart.
struct Asked<'a> {
    peer: SocketAddr,
    method: Method,
    headers: HeaderMap,
    query: Query,
    body: &'a mut Coming,
}

/// Answers a request, whatever it is.
pub(crate) async fn answer(app: Arc<App>, peer: SocketAddr, request: Request<Incoming>) -> Answer {
    let begun = Instant::now();
    let (mut parts, body) = request.into_parts();
    let mut coming = Coming {
        body,
        waiting: parts.extensions.remove::<Waiting>().unwrap_or_default(),
    };
    let path = parts.uri.path().to_owned();
    let waits = parts.headers.contains_key(EXPECT);
    let asked = Asked {
        peer,
        method: parts.method.clone(),
        headers: parts.headers,
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        body: &mut coming,
    };
    let answered = dispatch(&app, &path, asked).await;
    if answered.is_err() && !waits {
        body::discard(coming.body).await;
    }
    let (mut answer, error) = match answered {
        Ok(answer) => (answer, None),
        Err(error) => (problem::answer(&error, &parts.method), Some(error)),
    };
    if parts.method == Method::HEAD {
        answer = without_body(answer);
    }
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if path.starts_with("/v2") {
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    let (code, took) = (answer.status(), begun.elapsed());
    app.metrics.request(&parts.method, code, took);
    // Peers ask often, and it is the engine's log.
    if app.peers.is_none() || code.is_server_error() {
        log(&parts.method, &path, peer, code, took, error);
    }
    answer
}

fn log(
    method: &Method,
    path: &str,
    peer: SocketAddr,
    code: StatusCode,
    took: std::time::Duration,
    error: Option<Error>,
) {
    let ms = took.as_millis() as u64;
    let code = code.as_u16();
    // What a client wrote is shown escaped and not at any length.
    let path: String = path.escape_default().take(400).collect();
    let method: String = method.as_str().chars().take(20).collect();
    match error {
        Some(error) if code >= 500 => {
            let error = plain(&error.to_string(), 2000);
            tracing::error!(%method, path, code, ms, %peer, "request failed: {error}");
        }
        Some(error) => {
            let reason = plain(&error.to_string(), 400);
            tracing::info!(%method, path, code, ms, %peer, reason, "request");
        }
        None => tracing::info!(%method, path, code, ms, %peer, "request"),
    }
}

/// Text without what moves a terminal's cursor or turns the direction of writing around.
fn plain(text: &str, most: usize) -> String {
    let mut plain = String::new();
    for c in text.chars().take(most) {
        match c {
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                plain.extend(c.escape_unicode());
            }
            c => plain.push(c),
        }
    }
    plain
}

async fn dispatch(app: &Arc<App>, path: &str, asked: Asked<'_>) -> Result<Answer> {
    let host = app.mirror.then(|| asked.query.get("ns")).flatten();
    let route = Route::parse(path, host)?;
    app.gate
        .check(&asked.headers, &need(&route, &asked.method))
        .await?;
    let namespace = host.map(value);
    let mut answer = endpoint(app, route, &asked.method.clone(), asked).await?;
    if let Some(namespace) = namespace {
        answer.headers_mut().insert(NAMESPACE, namespace);
    }
    Ok(answer)
}

async fn endpoint(
    app: &Arc<App>,
    route: Route,
    method: &Method,
    asked: Asked<'_>,
) -> Result<Answer> {
    let read = *method == Method::GET || *method == Method::HEAD;
    let refused = || Error::Method(method.as_str().chars().take(20).collect());
    match route {
        Route::Home if read => page::home(app, &asked).await,
        Route::Page(name) if read => page::repository(app, name, &asked).await,
        Route::Style if read => Ok(page::style()),
        Route::Base if read => Ok(json(StatusCode::OK, "application/json", b"{}".to_vec())),
        Route::Catalog if read => discovery::catalog(app, &asked).await,
        Route::Tags(name) if read => discovery::tags(app, name, &asked).await,
        Route::Referrers(name, digest) if read => {
            discovery::referrers(app, name, digest, &asked).await
        }
        Route::Manifest(name, target) => match *method {
            Method::GET | Method::HEAD => pull::manifest(app, name, target, &asked).await,
            Method::PUT => push::manifest(app, name, target, asked).await,
            Method::DELETE => management::manifest(app, name, target).await,
            _ => Err(refused()),
        },
        Route::Blob(name, digest) => match *method {
            Method::GET | Method::HEAD => pull::blob(app, name, digest, &asked).await,
            Method::DELETE => management::blob(app, name, digest).await,
            _ => Err(refused()),
        },
        Route::Uploads(name) if *method == Method::POST => upload::begin(app, name, asked).await,
        Route::Upload(name, id) => match *method {
            Method::GET | Method::HEAD => upload::status(app, name, id).await,
            Method::PATCH => upload::chunk(app, name, id, asked).await,
            Method::PUT => upload::finish(app, name, id, asked).await,
            Method::DELETE => upload::cancel(app, name, id).await,
            _ => Err(refused()),
        },
        _ => Err(refused()),
    }
}

fn need(route: &Route, method: &Method) -> Need {
    let name = match route {
        Route::Base | Route::Style => return Need::Entry,
        Route::Catalog | Route::Home => return Need::Catalog,
        Route::Manifest(name, _)
        | Route::Blob(name, _)
        | Route::Uploads(name)
        | Route::Upload(name, _)
        | Route::Tags(name)
        | Route::Referrers(name, _)
        | Route::Page(name) => name,
    };
    let upload = matches!(route, Route::Uploads(_) | Route::Upload(..));
    let action = match *method {
        Method::GET | Method::HEAD if !upload => Action::Pull,
        Method::DELETE if !upload => Action::Delete,
        _ => Action::Push,
    };
    Need::Repository(name.path().to_owned(), action)
}

impl App {
    /// Where to write. Errors with `ReadOnly`.
    fn writable(&self) -> Result<&Arc<Directory>> {
        self.writable.as_ref().ok_or(Error::ReadOnly)
    }

    /// Asks for contents on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Contents) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let contents = Arc::clone(&self.contents);
        blocking(move || call(contents.as_ref())).await
    }

    /// Writes on a thread that may wait for the disk. Errors with `ReadOnly`.
    async fn write<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Directory) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let directory = Arc::clone(self.writable()?);
        blocking(move || call(&directory)).await
    }
}

fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let task = tokio::task::spawn_blocking(call);
    async { task.await? }
}

/// An answer without a body.
fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// An answer with these bytes.
fn json(status: StatusCode, content_type: &str, bytes: Vec<u8>) -> Answer {
    let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, value(content_type));
    answer
}

/// A header's value. What cannot be one, such as a line end, is left out; callers pass only
/// what was checked.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// The same for HEAD: the length stays, the body goes.
fn without_body(answer: Answer) -> Answer {
    let (mut parts, body) = answer.into_parts();
    let length = body.size_hint().exact();
    if let (Some(length), false) = (length, parts.headers.contains_key(CONTENT_LENGTH)) {
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    Response::from_parts(parts, body)
}

/// Answers on the address of the metrics.
pub(crate) fn metrics<B>(request: &Request<B>, metrics: &Metrics) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => json(
            StatusCode::OK,
            crate::metrics::CONTENT_TYPE,
            metrics.text().into_bytes(),
        ),
        _ => empty(StatusCode::NOT_FOUND),
    }
}
