//! `container.json`: what the engine remembers of a container, and how it becomes a
//! [`Container`] together with the supervisor's `state.json`. The record is written last, so a
//! directory without one is a container that is half made.

use std::path::{Path, PathBuf};

use super::{Container, ContainerSpec, ContainerState, ResolvedUser};
use crate::disk;
use crate::engine::Engine;
use crate::error::Result;
use crate::handler::{Cause, ContainerRef, LogLoss, PodRef, State, Status};
use crate::node::cgroups;
use crate::pod::record::PodRecord;
use crate::record::{self, UnknownFields};

/// What is remembered of a container. How it is written down: `record/container.rs`.
#[derive(Debug, Clone)]
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
    /// The name of its pod's handler; empty in a record of before this field was.
    pub(crate) handler: String,
    /// What is executed: the request's words or the image's.
    pub(crate) args: Vec<String>,
    pub(crate) spec: ContainerSpec,
    /// What a newer floe has written besides.
    pub(crate) kept: UnknownFields,
}

impl ContainerRecord {
    pub(crate) fn read(bundle: &Path) -> Result<Option<Self>> {
        record::container::read(bundle)
    }

    pub(crate) fn write(&self, bundle: &Path) -> Result<()> {
        record::container::write(bundle, self)
    }

    /// As its handler is told of it.
    pub(crate) fn at<'a>(&'a self, pod_dir: &'a Path, bundle: &'a Path) -> ContainerRef<'a> {
        let pod = PodRef {
            id: &self.pod_id,
            dir: pod_dir,
            cgroup: pod_cgroup(&self.cgroup),
            prefix: cgroups::prefix_of(&self.cgroup, &self.id),
        };
        ContainerRef {
            pod,
            id: &self.id,
            dir: bundle,
            cgroup: &self.cgroup,
        }
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

    /// The cgroup of a container.
    pub(crate) fn cgroup_of(pod: &PodRecord, id: &str) -> String {
        cgroups::member(&pod.cgroup, &pod.cgroup_prefix, id)
    }

    /// Where the cgroup is of a container that may be half made: plugins may have put it elsewhere than
    /// [`ContainerRecord::cgroup_of`] says.
    pub(crate) fn cgroup_at(pod: &PodRecord, id: &str, bundle: &Path) -> String {
        match Self::read(bundle) {
            Ok(Some(record)) => record.cgroup,
            Ok(None) | Err(_) => Self::stand_in(pod, id, bundle).cgroup,
        }
    }

    /// What stands in for a record that cannot be read: only the ids and the cgroup are true.
    fn stand_in(pod: &PodRecord, id: &str, bundle: &Path) -> Self {
        let state = supervisor::ContainerState::read(bundle).ok().flatten();
        Self {
            id: id.to_owned(),
            pod_id: pod.id.clone(),
            created_at: state.as_ref().map_or(0, |state| state.created_at_ns),
            image_id: String::new(),
            image_ref: String::new(),
            log_path: None,
            user: ResolvedUser::default(),
            stop_signal: libc::SIGTERM,
            cgroup: state.map_or_else(|| Self::cgroup_of(pod, id), |state| state.cgroup),
            handler: pod.handler.clone(),
            args: Vec::new(),
            spec: ContainerSpec::default(),
            kept: UnknownFields::default(),
        }
    }

    /// The container as callers see it; `state` is what its handler says, if it knows of it.
    pub(crate) fn view(self, bundle: PathBuf, state: Option<State>) -> Container {
        let pid = state.as_ref().and_then(|state| state.pid);
        let paused = |state: &State| matches!(state.status, Status::Paused { .. });
        let paused = state.as_ref().is_some_and(paused);
        let restarts = state.as_ref().map_or(0, |state| state.restarts);
        let (state, log_loss) = match state {
            Some(state) => (state_of(state.status), state.log_loss),
            None => (ContainerState::Unknown, LogLoss::default()),
        };
        let state = super::refused::told(state, &bundle);
        Container {
            id: self.id,
            pod_id: self.pod_id,
            state,
            created_at: self.created_at,
            paused,
            restarts,
            pid,
            image_id: self.image_id,
            image_ref: self.image_ref,
            log_path: self.log_path,
            log_loss,
            user: self.user,
            stop_signal: self.stop_signal,
            cgroup: self.cgroup,
            args: match self.args.is_empty() {
                // A record of before this field was.
                true => [&self.spec.command[..], &self.spec.args[..]].concat(),
                false => self.args,
            },
            bundle,
            handler: self.handler,
            spec: self.spec,
        }
    }
}

/// The exit code of a process that the kernel has killed: 128 and SIGKILL.
const OOM_KILLED: i32 = 137;

impl Engine {
    /// The record of a container that is made. One that cannot be read has a stand-in, so that the
    /// container can be seen and removed.
    pub(crate) fn container_record(&self, pod: &str, id: &str) -> Result<Option<ContainerRecord>> {
        let bundle = self.layout().container(pod, id);
        let damage = match ContainerRecord::read(&bundle) {
            Ok(None) => return Ok(None),
            Ok(Some(record)) if record.id == id && record.pod_id == pod => {
                return Ok(Some(record));
            }
            Ok(Some(_)) => "it is the record of another container".to_owned(),
            Err(error) if error.is_damage() => error.to_string(),
            Err(error) => return Err(error),
        };
        disk::warn_once(&bundle.join("container.json"), &damage);
        let pod = self.pod_record(pod)?;
        Ok(pod.map(|pod| ContainerRecord::stand_in(&pod, id, &bundle)))
    }
}

/// The cgroup above a container's is its pod's.
fn pod_cgroup(cgroup: &str) -> &str {
    cgroup.rsplit_once('/').map_or("", |(above, _)| above)
}

impl Container {
    /// As its handler is told of it; `pod_dir` is its pod's directory.
    pub(crate) fn at<'a>(&'a self, pod_dir: &'a Path) -> ContainerRef<'a> {
        let pod = PodRef {
            id: &self.pod_id,
            dir: pod_dir,
            cgroup: pod_cgroup(&self.cgroup),
            prefix: cgroups::prefix_of(&self.cgroup, &self.id),
        };
        ContainerRef {
            pod,
            id: &self.id,
            dir: &self.bundle,
            cgroup: &self.cgroup,
        }
    }
}

fn state_of(status: Status) -> ContainerState {
    match status {
        Status::Exited {
            started_at,
            finished_at,
            exit_code,
            oom_killed,
            cause,
        } => {
            let reason = match (&cause, exit_code) {
                // A child of the first process was killed, if that one ended otherwise.
                (_, OOM_KILLED) if oom_killed => super::OUT_OF_MEMORY,
                (Cause::NotExecuted(_), _) if started_at.is_none() => "StartError",
                (_, 0) => "Completed",
                _ => "Error",
            };
            let message = match cause {
                Cause::Program => String::new(),
                Cause::NotExecuted(why) | Cause::Unseen(why) => why,
            };
            ContainerState::Exited {
                started_at: started_at.unwrap_or(0),
                finished_at,
                exit_code,
                reason,
                message,
            }
        }
        Status::Created => ContainerState::Created,
        Status::Running { started_at } | Status::Paused { started_at } => {
            ContainerState::Running { started_at }
        }
        Status::Lost | Status::Other(_) => ContainerState::Unknown,
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
                cause: Cause::Program,
            };
            match state_of(status) {
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
