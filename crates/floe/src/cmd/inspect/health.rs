//! A container's health in `floe inspect`: how it is checked, and what that came to, with Docker's and podman's names.

use base::time::nanoseconds;
use engine::Container;
use engine::container::{HealthCheck, HealthRecord, OnUnhealthy, StartupCheck};
use serde_json::{Map, Value, json};

/// What its checks came to; nothing is known of one that is not checked.
pub(super) fn state(container: &Container) -> Value {
    let record = container.health().ok().flatten();
    let is_checked = container.health_check().is_some();
    let record = record.or(is_checked.then(HealthRecord::default));
    let time = |nanoseconds| {
        let text = base::time::rfc3339_nanos(nanoseconds);
        String::from_utf8_lossy(&text).into_owned()
    };
    let log = record.iter().flat_map(|record| &record.log);
    let log = log.map(|one| {
        json!({
            "Start": time(one.started_at_ns),
            "End": time(one.ended_at_ns),
            "ExitCode": one.exit_code,
            "Output": one.output,
        })
    });
    json!({
        "Status": record.as_ref().map_or("", |record| record.status.word()),
        "FailingStreak": record.as_ref().map_or(0, |record| record.failing_streak),
        "Log": log.collect::<Vec<_>>(),
    })
}

/// How it is checked, as Docker writes it.
fn healthcheck(check: &HealthCheck) -> Value {
    json!({
        "Test": check.test,
        "Interval": nanoseconds(check.interval.unwrap_or_default()),
        "Timeout": nanoseconds(check.timeout),
        "StartPeriod": nanoseconds(check.start_period),
        "StartInterval": nanoseconds(check.start_interval.unwrap_or_default()),
        "Retries": check.retries,
    })
}

fn startup_healthcheck(check: &StartupCheck) -> Value {
    json!({
        "Test": check.test,
        "Interval": nanoseconds(check.interval),
        "Timeout": nanoseconds(check.timeout),
        "Retries": check.retries,
        "Successes": check.successes,
    })
}

fn on_failure(action: OnUnhealthy) -> &'static str {
    match action {
        OnUnhealthy::Nothing => "none",
        OnUnhealthy::Kill => "kill",
        OnUnhealthy::Restart => "restart",
        OnUnhealthy::Stop => "stop",
    }
}

/// What `Config` says of it.
pub(super) fn config(container: &Container) -> Map<String, Value> {
    let Some(check) = container.health_check() else {
        return Map::new();
    };
    let startup = check.startup.as_ref().map(startup_healthcheck);
    let fields = [
        ("Healthcheck", healthcheck(check)),
        ("StartupHealthCheck", json!(startup)),
        (
            "HealthcheckOnFailureAction",
            json!(on_failure(check.on_unhealthy)),
        ),
        ("HealthLogDestination", json!("local")),
        ("HealthcheckMaxLogCount", json!(check.log_entries)),
        ("HealthcheckMaxLogSize", json!(check.log_bytes)),
    ];
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}
