//! The inspect endpoints: HTTP/1 on the CRI socket, with CRI-O's paths and answers (its server/inspect.go),
//! for `crio status`, cAdvisor and people with curl.
//!
//! One request per connection, each limited in size, time and number: who is slow or many gets no more of
//! the engine than that.

mod answers;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Response, StatusCode};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use crate::http::{self, Limits};
use crate::work::Work;

/// Clients that are served at once.
const CLIENTS: usize = 64;
/// How long request and answer may take together: a pause waits for its supervisor.
const WHOLE: Duration = Duration::from_secs(150);
const LIMITS: Limits = Limits {
    request: Duration::from_secs(30),
    head: 16 << 10,
};

/// Serves the endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Inspect {
    work: Work,
    free: Arc<Semaphore>,
}

/// What is answered: a type and a text, or a status and why.
type Answer = Result<(&'static str, String), (StatusCode, String)>;

impl Inspect {
    pub(crate) fn new(work: Work) -> Self {
        Self {
            work,
            free: Arc::new(Semaphore::new(CLIENTS)),
        }
    }

    /// Serves one client; one too many is disconnected.
    pub(crate) async fn serve(&self, client: UnixStream) {
        let Ok(_place) = self.free.try_acquire() else {
            tracing::warn!("too many clients of the inspect endpoints: one is disconnected");
            return;
        };
        let served = http::serve_one(client, LIMITS, |request| async move {
            response(self.answer(request.method(), request.uri().path()).await)
        });
        match tokio::time::timeout(WHOLE, served).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a client of the inspect endpoints failed"),
            Err(_) => tracing::debug!("a client of the inspect endpoints was too slow"),
        }
    }

    async fn answer(&self, method: &Method, path: &str) -> Answer {
        if method != Method::GET {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "only GET".to_owned()));
        }
        let words: Vec<&str> = path.trim_matches('/').splitn(3, '/').collect();
        let work = &self.work;
        match words[..] {
            ["config"] => answers::config(&work.engine()),
            ["info"] => Ok(answers::info(&work.engine())),
            ["containers", id] if !id.is_empty() => answers::container(work, id).await,
            ["pods", id] if !id.is_empty() => answers::pod(work, id).await,
            ["pulls"] => Ok(answers::pulls(&work.engine())),
            ["pause", id] if !id.is_empty() => answers::pause(work, id).await,
            ["unpause", id] if !id.is_empty() => answers::resume(work, id).await,
            ["debug", "goroutines" | "threads"] => Ok(answers::threads()),
            ["debug", "heap"] | ["debug", "pprof", ..] => Err((
                StatusCode::NOT_FOUND,
                "floe is not written in Go: there is no such dump".to_owned(),
            )),
            _ => Err((
                StatusCode::NOT_FOUND,
                "no such endpoint: /config, /info, /containers/ID, /pods/ID, /pulls, /pause/ID, /unpause/ID, \
                 /debug/threads"
                    .to_owned(),
            )),
        }
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let (status, kind, text) = match answer {
        Ok((kind, text)) => (StatusCode::OK, kind, text),
        Err((status, why)) => (status, "text/plain; charset=utf-8", format!("{why}\n")),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// An RPC's status in HTTP's terms, as CRI-O answers.
fn refused(status: &Status) -> (StatusCode, String) {
    let code = match status.code() {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable | Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, status.message().to_owned())
}
