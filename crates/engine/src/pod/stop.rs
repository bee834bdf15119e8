//! StopPodSandbox and RemovePodSandbox. Both succeed on what is gone, and both can be asked
//! again after a failure or a kill in the middle: every step tolerates being done already.

use std::path::Path;
use std::time::{Duration, Instant};

use runtime::cgroup::Cgroup;
use supervisor::SupervisorInfo;

use super::NamespaceMode;
use super::record::{PodRecord, Stage, namespace};
use crate::container::lost::Ended;
use crate::container::record::ContainerRecord;
use crate::disk::{self, Lock, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// How long a supervisor may take to start before it is killed for it.
const STARTS: Duration = Duration::from_secs(10);
/// How long a process that is killed may take to end.
const ENDS: Duration = Duration::from_secs(5);

impl Engine {
    /// Kills the pod's containers and gives its network back. A pod that does not exist or is
    /// stopped is fine.
    ///
    /// # Errors
    /// An empty or ambiguous id, or a step that failed; it may be asked again.
    pub fn stop_pod(&self, id: &str) -> Result<()> {
        let Some((mut record, _lock)) = self.pod_for_change(id)? else {
            return Ok(());
        };
        if matches!(record.stage, Stage::Stopped) {
            return Ok(());
        }
        self.halt_pod(&self.with_true_cgroup(&record)?)?;
        if matches!(record.stage, Stage::Failed | Stage::Other | Stage::Damaged) {
            // What it is stays to be seen until it is removed.
            return Ok(());
        }
        record.stage = Stage::Stopped;
        match record.write(&self.layout().pod(&record.id)) {
            // A pod without a supervisor is not ready, whatever its record says.
            Err(error) if error.kind() == Kind::ResourceExhausted => {
                tracing::warn!(pod = %record.id, %error, "stopped, and not written down");
                Ok(())
            }
            other => other,
        }
    }

    /// Stops the pod if need be and removes it with its containers. A pod that does not exist is fine.
    ///
    /// # Errors
    /// As [`Engine::stop_pod`].
    pub fn remove_pod(&self, id: &str) -> Result<()> {
        let Some((record, _lock)) = self.pod_for_change(id)? else {
            return Ok(());
        };
        self.destroy_pod(&record)?;
        let names = self.layout().names();
        if record.is_damaged() {
            // Its name is known only by who has it.
            return Reservation::release_all(&names, &[&record.id]);
        }
        let name = Reservation::lock(&names, &PodRecord::name_parts(&record.spec))?;
        match name.holder() {
            Some(holder) if holder == record.id => name.release(),
            _ => Ok(()),
        }
    }

    /// The record of a made pod, locked against other changes.
    fn pod_for_change(&self, id: &str) -> Result<Option<(PodRecord, Lock)>> {
        if id.is_empty() {
            return Err(Error::invalid("pod_sandbox_id", "must not be empty"));
        }
        let Some(id) = self.find_pod_id(id)? else {
            return Ok(None);
        };
        let dir = self.layout().pod(&id);
        let Some(lock) = Lock::exclusive_if_there(&dir.join("lock"))? else {
            return Ok(None);
        };
        Ok(self.pod_record(&id)?.map(|record| (record, lock)))
    }

    /// Everything of a pod, made or half made, goes: processes, network, cgroups, layers, files.
    /// The name stays with the caller.
    pub(crate) fn destroy_pod(&self, record: &PodRecord) -> Result<()> {
        let record = &self.with_true_cgroup(record)?;
        self.halt_pod(record)?;
        let dir = self.layout().pod(&record.id);
        let mut nameless = Vec::new();
        for id in self.layout().container_ids(&record.id)? {
            let bundle = self.layout().container(&record.id, &id);
            if !matches!(ContainerRecord::read(&bundle), Ok(Some(_))) {
                nameless.push(id.clone());
            }
            self.discard_container(&record.id, &id)?;
        }
        if !nameless.is_empty() {
            let ids: Vec<&str> = nameless.iter().map(String::as_str).collect();
            Reservation::release_all(&self.layout().names(), &ids)?;
        }
        remove_cgroup(&record.id, &format!("{}/crio-{}", record.cgroup, record.id))?;
        if record.owns_cgroup {
            remove_cgroup(&record.id, &record.cgroup)?;
        }
        self.remove_own_logs(record);
        disk::remove_object(&dir)
    }

    /// No process and no network is left; files and layers stay. A network that cannot be taken down
    /// is an error as long as the pod's namespace is there, which it is not for long: then whoever
    /// asks again gets a pod that is stopped, and the next start of the engine tries the network again.
    fn halt_pod(&self, record: &PodRecord) -> Result<()> {
        let dir = self.layout().pod(&record.id);
        let Some(supervisor) = self.find_supervisor(record, &dir)? else {
            if let Err(error) = self.leave_network(record, None) {
                tracing::warn!(pod = %record.id, %error, "the network keeps what it has of a pod that is gone; tried again at the next start");
            }
            return self.clear_after_dead_supervisor(record, &dir);
        };
        let listens = |outcome: Result<()>| match outcome {
            Err(error) if is_gone(&error) => Ok(false),
            other => other.map(|()| true),
        };
        let killed = listens(self.kill_containers(record))?;
        let left = self.leave_network(record, Some(&supervisor));
        // One whose socket was taken away lives, and cannot be asked.
        if !killed || !listens(self.shut_supervisor_down(record, &dir))? {
            self.kill_supervisor(record, &supervisor)?;
            self.clear_after_dead_supervisor(record, &dir)?;
        }
        left
    }

    /// The pod's supervisor, whatever can be read of it. One that starts is waited for; one that
    /// does not come up is killed with its cgroup.
    fn find_supervisor(&self, record: &PodRecord, dir: &Path) -> Result<Option<SupervisorInfo>> {
        let failed = |source| Error::Supervisor {
            verb: "look for the supervisor of pod",
            id: record.id.clone(),
            source,
        };
        supervisor::find(dir, STARTS).or_else(|error| {
            tracing::warn!(pod = %record.id, %error, "the supervisor is killed");
            self.clear_after_dead_supervisor(record, dir)?;
            remove_cgroup(&record.id, &format!("{}/crio-{}", record.cgroup, record.id))?;
            supervisor::find(dir, ENDS).map_err(failed)
        })
    }

    /// A supervisor that does not listen any more is ended by its process id.
    fn kill_supervisor(&self, record: &PodRecord, supervisor: &SupervisorInfo) -> Result<()> {
        let failed = |source| Error::Supervisor {
            verb: "kill the supervisor of pod",
            id: record.id.clone(),
            source,
        };
        supervisor.kill().map_err(failed)?;
        let until = Instant::now() + ENDS;
        while supervisor.is_alive() {
            if Instant::now() > until {
                return Err(Error::State {
                    verb: "stop",
                    what: "pod",
                    id: record.id.clone(),
                    state: format!("held up: its supervisor {} does not die", supervisor.pid),
                });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn leave_network(&self, record: &PodRecord, supervisor: Option<&SupervisorInfo>) -> Result<()> {
        // A pod of which nothing can be read may be on the node's network: that is not its own.
        let netns = supervisor
            .map(|info| namespace(info.pid, "net"))
            .filter(|path| !is_own(path));
        if record.is_damaged() {
            return self.detach_gone(&record.id, netns.as_deref());
        }
        if record.spec.namespaces.network == NamespaceMode::Node {
            return Ok(());
        }
        self.detach_network(record, netns.as_deref())
    }

    fn kill_containers(&self, record: &PodRecord) -> Result<()> {
        for id in self.layout().container_ids(&record.id)? {
            let mut client = self.supervisor(&record.id)?;
            match client.stop(&id, libc::SIGKILL, Duration::ZERO) {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(source) => {
                    return Err(Error::Supervisor {
                        verb: "stop container",
                        id,
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    fn shut_supervisor_down(&self, record: &PodRecord, dir: &Path) -> Result<()> {
        let mut client = self.supervisor(&record.id)?;
        client.shutdown().map_err(|source| Error::Supervisor {
            verb: "end the supervisor of pod",
            id: record.id.clone(),
            source,
        })?;
        supervisor::clean_after_death(dir).map_err(|source| Error::Supervisor {
            verb: "clean up after the supervisor of pod",
            id: record.id.clone(),
            source,
        })
    }

    /// The supervisor was killed: its containers' processes are orphans of ours.
    fn clear_after_dead_supervisor(&self, record: &PodRecord, dir: &Path) -> Result<()> {
        for id in self.layout().container_ids(&record.id)? {
            let bundle = self.layout().container(&record.id, &id);
            match ContainerRecord::read(&bundle) {
                Ok(Some(container)) => {
                    let end = Ended::now(&container);
                    remove_cgroup(&id, &container.cgroup)?;
                    if !has_ended(&bundle) {
                        end.write(&bundle);
                    }
                }
                _ => remove_cgroup(&id, &ContainerRecord::cgroup_of(record, &id))?,
            }
        }
        supervisor::clean_after_death(dir).map_err(|source| Error::Supervisor {
            verb: "clean up after the supervisor of pod",
            id: record.id.clone(),
            source,
        })
    }
}

/// Has the supervisor seen the container's end?
fn has_ended(bundle: &Path) -> bool {
    let state = supervisor::ContainerState::read(bundle);
    matches!(state, Ok(Some(state)) if state.status.is_exited())
}

/// Kills what is in a cgroup and removes it; one that is not there is fine.
pub(crate) fn remove_cgroup(id: &str, path: &str) -> Result<()> {
    let failed = |source| Error::Cgroup {
        id: id.to_owned(),
        source,
    };
    let cgroup = match Cgroup::open(path) {
        // What could never be made is not there.
        Err(runtime::cgroup::Error::InvalidPath { .. }) => return Ok(()),
        Err(error) if error.is_not_found() => return Ok(()),
        other => other.map_err(failed)?,
    };
    cgroup.kill_all().map_err(failed)?;
    cgroup.delete().map_err(failed)
}

/// Is it the network namespace of this process?
fn is_own(netns: &Path) -> bool {
    let identity = |path: &Path| rustix::fs::stat(path).map(|at| (at.st_dev, at.st_ino));
    identity(netns).is_ok_and(|it| identity(Path::new("/proc/self/ns/net")) == Ok(it))
}

fn is_gone(error: &Error) -> bool {
    matches!(
        error,
        Error::Supervisor {
            source: supervisor::Error::Gone { .. },
            ..
        }
    )
}
