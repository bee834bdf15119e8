//! What Prometheus scrapes: requests by method and code, their durations, bytes, connections, uploads.
//!
//! Must never have a label whose values a client chooses.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use hyper::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What `/metrics` answers with.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    code: u16,
}

/// The figures of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    seconds: Histogram,
    sent: Counter,
    received: Counter,
    connections: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("floe_registry");
        let requests = Family::default();
        // 0.5 ms to 8 s.
        let bounds = prometheus_client::metrics::histogram::exponential_buckets(0.0005, 4.0, 8);
        let seconds = Histogram::new(bounds);
        let (sent, received) = (Counter::default(), Counter::default());
        let connections = Gauge::default();
        registry.register(
            "requests",
            "Requests by method and status code",
            requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time until an answer began",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register_with_unit("sent", "Bytes of blobs sent", Unit::Bytes, sent.clone());
        registry.register_with_unit(
            "received",
            "Bytes of blobs and manifests received",
            Unit::Bytes,
            received.clone(),
        );
        registry.register("connections", "Open connections", connections.clone());
        Metrics {
            registry,
            requests,
            seconds,
            sent,
            received,
            connections,
        }
    }

    pub(crate) fn request(&self, method: &Method, code: StatusCode, took: Duration) {
        // A client may invent methods.
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PATCH" => "PATCH",
            "PUT" => "PUT",
            "DELETE" => "DELETE",
            _ => "other",
        };
        let code = code.as_u16();
        self.requests.get_or_create(&Request { method, code }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    pub(crate) fn connected(&self) {
        self.connections.inc();
    }

    pub(crate) fn disconnected(&self) {
        self.connections.dec();
    }

    /// All figures as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
