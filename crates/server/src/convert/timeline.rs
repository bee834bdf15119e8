//! How a pod's start went: what was done when, for `crictl inspectp` and `floe status pods`. The pod's own steps
//! are in its record, those of its containers in theirs; pulls are known while the engine lives that made them.

use std::sync::Arc;

use engine::image::Pulled;
use engine::{Container, ContainerState, Pod};
use serde_json::{Value, json};

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// Nanoseconds since 1970.
    at: i64,
    what: String,
    /// How long it took, in nanoseconds, where that is known.
    took: Option<i64>,
}

/// All of it, in the order of time: `at` in RFC 3339, `after` and `took` in seconds, `after` from the pod's beginning.
pub(crate) fn timeline(pod: &Pod, containers: &[Arc<Container>], pulls: &[Pulled]) -> Value {
    let line = |at, what: &str| Line {
        at,
        what: what.to_owned(),
        took: None,
    };
    let mut lines: Vec<Line> = pod
        .steps
        .iter()
        .map(|one| line(one.at, &one.what))
        .collect();
    if lines.is_empty() {
        // One that a former floe made.
        lines.push(line(pod.created_at, "directory"));
    }
    for pull in pulls {
        let outcome = if pull.succeeded {
            "pulled"
        } else {
            "not pulled:"
        };
        lines.push(Line {
            at: pull.ended,
            what: format!("{outcome} {} ({} bytes)", pull.image, pull.bytes),
            took: Some(pull.ended.saturating_sub(pull.asked)),
        });
    }
    for one in containers {
        let name = &one.spec.name;
        lines.push(line(one.created_at, &format!("container {name} created")));
        if let ContainerState::Running { started_at } | ContainerState::Exited { started_at, .. } =
            one.state
            && started_at != 0
        {
            lines.push(line(started_at, &format!("container {name} started")));
        }
    }
    lines.sort_by_key(|line| line.at);
    let began = lines.first().map_or(0, |line| line.at);
    let seconds = |ns: i64| ns as f64 / 1e9;
    let shown = lines.iter().map(|line| {
        json!({
            "at": String::from_utf8_lossy(&base::time::rfc3339_nanos(line.at)),
            "after": seconds(line.at.saturating_sub(began)),
            "what": line.what,
            "took": line.took.map(seconds),
        })
    });
    Value::Array(shown.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::pod::Step;

    #[test]
    fn steps_and_pulls_are_in_the_order_of_time() {
        let pod = Pod {
            steps: vec![
                Step {
                    what: "asked".into(),
                    at: 1_000_000_000,
                },
                Step {
                    what: "ready".into(),
                    at: 1_500_000_000,
                },
            ],
            ..super::super::pod::tests::pod()
        };
        let pull = |ended, succeeded| Pulled {
            image: "x:1".into(),
            asked: 1_600_000_000,
            ended,
            bytes: 7,
            succeeded,
        };
        let told = timeline(
            &pod,
            &[],
            &[pull(3_600_000_000, true), pull(2_000_000_000, false)],
        );
        let of = |key: &str| -> Vec<Value> {
            let lines = told.as_array().unwrap().iter();
            lines.map(|line| line[key].clone()).collect()
        };
        assert_eq!(
            of("what"),
            [
                "asked",
                "ready",
                "not pulled: x:1 (7 bytes)",
                "pulled x:1 (7 bytes)"
            ]
        );
        assert_eq!(of("after"), [0.0, 0.5, 1.0, 2.6]);
        assert_eq!(of("took")[3], 2.0);
        assert_eq!(of("at")[1], "1970-01-01T00:00:01.500000000Z");
        let former = Pod {
            steps: Vec::new(),
            ..pod
        };
        assert_eq!(timeline(&former, &[], &[])[0]["what"], "directory");
    }
}
