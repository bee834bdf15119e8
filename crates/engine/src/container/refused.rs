//! Calls of containers that their seccomp profiles refused, where their supervisor is the profile's agent:
//! what it has written down of them, and what becomes of the state of a container that was killed for them.

use std::collections::BTreeMap;
use std::path::Path;

use supervisor::SeccompRecord;

use super::{ContainerFilter, ContainerSpec, ContainerState};
use crate::engine::Engine;
use crate::pod::PodSpec;

/// The exit code of a process that was killed: 128 and SIGKILL.
const KILLED: i32 = 137;
/// As CRI-O calls it.
const REASON: &str = "seccomp killed";

/// The state of a container, with why it was killed if that was for refused calls.
pub(super) fn told(state: ContainerState, bundle: &Path) -> ContainerState {
    let ContainerState::Exited {
        started_at,
        finished_at,
        exit_code: KILLED,
        reason: "Error",
        message,
    } = state
    else {
        return state;
    };
    let (reason, message) = match SeccompRecord::read(bundle) {
        Ok(Some(record)) if record.stopped => {
            let calls = record.words();
            (REASON, format!("Used forbidden syscalls: {calls}"))
        }
        _ => ("Error", message),
    };
    ContainerState::Exited {
        started_at,
        finished_at,
        exit_code: KILLED,
        reason,
        message,
    }
}

/// A container's name and its pod's as docker put them together, and CRI-O still does:
/// `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`.
pub(crate) fn full_name(pod: &PodSpec, of: &ContainerSpec) -> String {
    format!(
        "k8s_{}_{}_{}_{}_{}",
        of.name, pod.name, pod.namespace, pod.uid, of.attempt
    )
}

impl Engine {
    /// How often each call was refused of the containers that are there and have the notifier, by
    /// `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT` and the call's name.
    #[must_use]
    pub fn refused_calls(&self) -> BTreeMap<(String, String), u64> {
        let mut all = BTreeMap::new();
        for container in self
            .containers(&ContainerFilter::default())
            .unwrap_or_default()
        {
            let Ok(Some(record)) = SeccompRecord::read(&container.bundle) else {
                continue;
            };
            let Ok(pod) = self.pod(&container.pod_id) else {
                continue;
            };
            let name = full_name(&pod.spec, &container.spec);
            for (call, count) in record.calls {
                *all.entry((name.clone(), call)).or_default() += count;
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit_code: i32) -> ContainerState {
        ContainerState::Exited {
            started_at: 1,
            finished_at: 2,
            exit_code,
            reason: "Error",
            message: String::new(),
        }
    }

    #[test]
    fn only_a_container_that_was_killed_for_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let reason = |state, record: &str| {
            std::fs::write(dir.path().join("seccomp.json"), record).unwrap();
            match told(state, dir.path()) {
                ContainerState::Exited {
                    reason, message, ..
                } => (reason, message),
                other => panic!("{other:?}"),
            }
        };
        let stopped = r#"{"version":1,"stopped":true,"calls":{"swapoff":2}}"#;
        let counted = r#"{"version":1,"stopped":false,"calls":{"swapoff":2}}"#;
        let words = "Used forbidden syscalls: swapoff (2x)".to_owned();
        assert_eq!(reason(ended(137), stopped), ("seccomp killed", words));
        assert_eq!(reason(ended(137), counted), ("Error", String::new()));
        assert_eq!(reason(ended(1), stopped), ("Error", String::new()));
        assert_eq!(reason(ended(137), "{"), ("Error", String::new()));
    }
}
