//! HTTP/1 for what answers one request per connection: the inspect endpoints and the metrics. A client is
//! limited in what it may send and how slowly; how long it may take for all of it is the caller's to say.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

/// What a request may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long a client may take to send its head.
    pub(crate) request: Duration,
    /// The longest head, in bytes.
    pub(crate) head: usize,
}

/// Serves a client's only request.
///
/// # Errors
/// A client that is gone, is too slow or speaks no HTTP/1.
pub(crate) async fn serve_one<A: Future<Output = Response<Full<Bytes>>>>(
    client: impl AsyncRead + AsyncWrite + Unpin,
    limits: Limits,
    answer: impl Fn(Request<Incoming>) -> A,
) -> hyper::Result<()> {
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .max_buf_size(limits.head)
        .keep_alive(false)
        .serve_connection(TokioIo::new(client), service)
        .await
}
