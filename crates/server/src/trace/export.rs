//! OTLP over gRPC (opentelemetry-proto, `TraceService/Export`): the few messages that spans need, written by
//! hand. One request at a time, of what has gathered; a collector that is not there, or slow, costs the spans
//! and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::Span;

const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// How long spans gather.
const GATHER: Duration = Duration::from_millis(500);
/// Spans of one request.
const BATCH: usize = 512;
/// How long a collector has to take them.
const LIMIT: Duration = Duration::from_secs(5);
/// How often the log says that spans are lost.
const TELL: Duration = Duration::from_secs(60);

/// Sends spans to a collector.
pub(super) struct Exporter {
    channel: Channel,
    resource: Resource,
    dropped: Arc<AtomicU64>,
    told: Option<Instant>,
}

impl Exporter {
    /// For the collector at `HOST:PORT`, which need not be there yet.
    ///
    /// # Errors
    /// What is no address.
    pub(super) fn new(
        endpoint: &str,
        dropped: Arc<AtomicU64>,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?;
        let channel = endpoint
            .connect_timeout(LIMIT)
            .timeout(LIMIT)
            .connect_lazy();
        Ok(Self {
            channel,
            resource: resource(),
            dropped,
            told: None,
        })
    }

    /// Sends until nobody makes spans any more.
    pub(super) async fn run(mut self, mut spans: mpsc::Receiver<Vec<Span>>) {
        while let Some(first) = spans.recv().await {
            let mut batch = first;
            let gathered = tokio::time::sleep(GATHER);
            tokio::pin!(gathered);
            while batch.len() < BATCH {
                tokio::select! {
                    more = spans.recv() => match more {
                        Some(more) => batch.extend(more),
                        None => break,
                    },
                    () = &mut gathered => break,
                }
            }
            let count = batch.len() as u64;
            let sent = tokio::time::timeout(LIMIT, self.send(batch)).await;
            let sent = sent.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
            let rejected = match sent {
                Ok(answer) => answer.partial_success.map_or(0, |part| part.rejected_spans),
                Err(status) => {
                    self.tell(&status);
                    i64::try_from(count).unwrap_or(i64::MAX)
                }
            };
            let rejected = u64::try_from(rejected).unwrap_or(0).min(count);
            self.dropped.fetch_add(rejected, Ordering::Relaxed);
        }
    }

    async fn send(&self, batch: Vec<Span>) -> Result<ExportResponse, Status> {
        let request = ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    spans: batch.into_iter().map(OtlpSpan::of).collect(),
                }],
            }],
        };
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        let unready = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        client.ready().await.map_err(unready)?;
        let path = PathAndQuery::from_static(PATH);
        let codec = ProstCodec::<ExportRequest, ExportResponse>::default();
        let answer = client.unary(Request::new(request), path, codec).await?;
        Ok(answer.into_inner())
    }

    fn tell(&mut self, status: &Status) {
        if self.told.is_none_or(|told| told.elapsed() > TELL) {
            self.told = Some(Instant::now());
            let lost = self.dropped.load(Ordering::Relaxed);
            tracing::warn!(%status, lost, "the collector of traces does not take spans: they are dropped");
        }
    }
}

/// Who sends.
fn resource() -> Resource {
    let node = rustix::system::uname();
    let attributes = [
        ("service.name", "floe".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("host.name", node.nodename().to_string_lossy().into_owned()),
        ("process.pid", std::process::id().to_string()),
    ];
    Resource {
        attributes: attributes.into_iter().map(KeyValue::of).collect(),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<OtlpSpan>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OtlpSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SpanStatus {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

/// Of all that a value can be, a text.
#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

impl KeyValue {
    fn of((key, value): (&str, String)) -> Self {
        Self {
            key: key.to_owned(),
            value: Some(AnyValue {
                string_value: Some(value),
            }),
        }
    }
}

/// `SPAN_KIND_INTERNAL`, `SPAN_KIND_SERVER`, and `STATUS_CODE_ERROR`.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const ERROR: i32 = 2;

impl OtlpSpan {
    fn of(span: Span) -> Self {
        let failed = span.code.filter(|code| *code != Code::Ok);
        Self {
            trace_id: span.trace.to_vec(),
            span_id: span.id.to_be_bytes().to_vec(),
            trace_state: span.state,
            parent_span_id: span
                .parent
                .map_or(Vec::new(), |id| id.to_be_bytes().to_vec()),
            kind: match span.code {
                Some(_) => SERVER,
                None => INTERNAL,
            },
            name: span.name,
            start_time_unix_nano: span.begun,
            end_time_unix_nano: span.ended,
            attributes: span.attributes.into_iter().map(KeyValue::of).collect(),
            status: failed.map(|code| SpanStatus {
                message: code.description().to_owned(),
                code: ERROR,
            }),
        }
    }
}
