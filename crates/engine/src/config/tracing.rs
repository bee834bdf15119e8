//! `[crio.tracing]`: traces of what the engine is asked, by OpenTelemetry's protocol.

use serde::{Deserialize, Serialize};

/// Where collectors usually are.
const ENDPOINT: &str = "127.0.0.1:4317";
/// All of a million.
const ALL: i64 = 1_000_000;

/// `[crio.tracing]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tracing {
    /// RPCs and their steps are told to a collector.
    pub enable_tracing: bool,
    /// The collector's `HOST:PORT`, which speaks OTLP over gRPC without TLS.
    pub tracing_endpoint: String,
    /// How many of a million RPCs are told whose clients do not say; those of a client that does are as it says.
    pub tracing_sampling_rate_per_million: i64,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            enable_tracing: false,
            tracing_endpoint: ENDPOINT.to_owned(),
            tracing_sampling_rate_per_million: 0,
        }
    }
}

impl Tracing {
    /// The collector, `HOST:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        match self.tracing_endpoint.as_str() {
            "" => ENDPOINT,
            endpoint => endpoint.strip_prefix("http://").unwrap_or(endpoint),
        }
    }

    /// Checks what types cannot say.
    pub(super) fn check(&self) -> Result<(), String> {
        let rate = self.tracing_sampling_rate_per_million;
        if !(0..=ALL).contains(&rate) {
            return Err(format!(
                "crio.tracing.tracing_sampling_rate_per_million: {rate} is not 0 to {ALL}"
            ));
        }
        let endpoint = self.endpoint();
        let port = endpoint.rsplit_once(':').map(|(_, port)| port);
        let is_one = port.is_some_and(|port| port.parse::<u16>().is_ok());
        match is_one && !endpoint.contains("://") {
            true => Ok(()),
            false => Err(format!(
                "crio.tracing.tracing_endpoint: {endpoint:?} is not HOST:PORT"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_host_and_a_port() {
        let of = |endpoint: &str, rate: i64| {
            let tracing = Tracing {
                tracing_endpoint: endpoint.into(),
                tracing_sampling_rate_per_million: rate,
                ..Tracing::default()
            };
            tracing.check().map(|()| tracing.endpoint().to_owned())
        };
        assert_eq!(of("", 0).unwrap(), ENDPOINT);
        assert_eq!(of("http://[::1]:4317", ALL).unwrap(), "[::1]:4317");
        for (endpoint, rate, word) in [
            ("host", 0, "tracing_endpoint"),
            ("https://host:1", 0, "tracing_endpoint"),
            ("host:x", 0, "tracing_endpoint"),
            ("host:1", ALL + 1, "sampling_rate"),
            ("host:1", -1, "sampling_rate"),
        ] {
            let error = of(endpoint, rate).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
