//! `container.json`: what the engine remembers of a container, and how it becomes a
//! [`Container`] together with the supervisor's `state.json`. The record is written last, so a
//! directory without one is a container that is half made.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use supervisor::Status;

use super::{Container, ContainerSpec, ContainerState, ResolvedUser};
use crate::disk;
use crate::error::{Error, Result};
use crate::pod::record::PodRecord;

/// The stored form of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    pub(crate) pod_id: String,
    pub(crate) created_at: i64,
    pub(crate) image_id: String,
    pub(crate) image_ref: String,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) user: ResolvedUser,
    pub(crate) stop_signal: i32,
    pub(crate) cgroup: String,
    pub(crate) spec: ContainerSpec,
}

impl ContainerRecord {
    pub(crate) fn read(bundle: &Path) -> Result<Option<Self>> {
        disk::read_json(&bundle.join("container.json"))
    }

    pub(crate) fn write(&self, bundle: &Path) -> Result<()> {
        disk::write_json(&bundle.join("container.json"), self)
    }

    /// The parts of the name that is unique among the pod's containers.
    pub(crate) fn name_parts(pod: &str, spec: &ContainerSpec) -> [String; 4] {
        [
            "container".into(),
            pod.to_owned(),
            spec.name.clone(),
            spec.attempt.to_string(),
        ]
    }

    /// The cgroup of a container: CRI-O's name for it, by which cAdvisor and kubelet know it.
    pub(crate) fn cgroup_of(pod: &PodRecord, id: &str) -> String {
        format!("{}/crio-{id}", pod.cgroup)
    }

    /// The container as callers see it. `supervised`: does the pod's supervisor live?
    pub(crate) fn view(self, bundle: PathBuf, supervised: bool) -> Result<Container> {
        let recorded =
            supervisor::ContainerState::read(&bundle).map_err(|source| Error::Supervisor {
                verb: "read the state of container",
                id: self.id.clone(),
                source,
            })?;
        let pid = recorded
            .as_ref()
            .and_then(|state| state.pid)
            .filter(|_| supervised);
        let state = recorded.map_or(ContainerState::Unknown, |state| {
            state_of(state.status, supervised)
        });
        Ok(Container {
            id: self.id,
            pod_id: self.pod_id,
            state,
            created_at: self.created_at,
            pid,
            image_id: self.image_id,
            image_ref: self.image_ref,
            log_path: self.log_path,
            user: self.user,
            stop_signal: self.stop_signal,
            cgroup: self.cgroup,
            bundle,
            spec: self.spec,
        })
    }
}

/// The exit code of a process that the kernel has killed: 128 and SIGKILL.
const OOM_KILLED: i32 = 137;

fn state_of(status: Status, supervised: bool) -> ContainerState {
    match status {
        Status::Exited {
            started_at,
            finished_at,
            exit_code,
            oom_killed,
            message,
        } => {
            let reason = match (&message, exit_code) {
                // A child of the first process was killed, if that one ended otherwise.
                (_, OOM_KILLED) if oom_killed => "OOMKilled",
                (Some(_), _) if started_at.is_none() => "StartError",
                (_, 0) => "Completed",
                _ => "Error",
            };
            ContainerState::Exited {
                started_at: started_at.unwrap_or(0),
                finished_at,
                exit_code,
                reason,
                message: message.unwrap_or_default(),
            }
        }
        _ if !supervised => ContainerState::Unknown,
        Status::Created => ContainerState::Created,
        Status::Running { started_at } | Status::Paused { started_at } => {
            ContainerState::Running { started_at }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_died_of_it_is_oom_killed() {
        let reason = |exit_code, oom_killed| {
            let status = Status::Exited {
                started_at: Some(1),
                finished_at: 2,
                exit_code,
                oom_killed,
                message: None,
            };
            match state_of(status, true) {
                ContainerState::Exited { reason, .. } => reason,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason(137, true), "OOMKilled");
        assert_eq!(reason(137, false), "Error");
        assert_eq!(reason(143, true), "Error");
        assert_eq!(reason(1, true), "Error");
        assert_eq!(reason(0, true), "Completed");
    }
}
