//! StopPodSandbox and RemovePodSandbox. Both succeed on what is gone, and both can be asked
//! again after a failure or a kill in the middle: every step tolerates being done already.

use std::path::Path;
use std::time::Duration;

use super::NamespaceMode;
use super::record::{PodRecord, Stage, live_supervisor, namespace};
use crate::container::record::ContainerRecord;
use crate::disk::{self, Lock, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Result};

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
        self.halt_pod(&record)?;
        record.stage = Stage::Stopped;
        record.write(&self.layout().pod(&record.id))
    }

    /// Stops the pod if need be and removes it with its containers. A pod that does not exist is fine.
    ///
    /// # Errors
    /// As [`Engine::stop_pod`].
    pub fn remove_pod(&self, id: &str) -> Result<()> {
        let Some((record, _lock)) = self.pod_for_change(id)? else {
            return Ok(());
        };
        let parts = PodRecord::name_parts(&record.spec);
        self.destroy_pod(&record)?;
        let mut name = Reservation::lock(&self.layout().names(), &parts)?;
        if name.holder()?.is_some_and(|holder| holder == record.id) {
            name.release()?;
        }
        Ok(())
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
        let lock = match Lock::exclusive(&dir.join("lock")) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        Ok(PodRecord::read(&dir)?.map(|record| (record, lock)))
    }

    /// Everything of a pod, made or half made, goes: processes, network, cgroups, layers, files.
    /// The name stays with the caller.
    pub(crate) fn destroy_pod(&self, record: &PodRecord) -> Result<()> {
        self.halt_pod(record)?;
        let dir = self.layout().pod(&record.id);
        for id in disk::entries(&dir.join("containers"))? {
            self.discard_container(&record.id, &id)?;
        }
        remove_cgroup(&record.id, &format!("{}/crio-{}", record.cgroup, record.id))?;
        if record.owns_cgroup {
            remove_cgroup(&record.id, &record.cgroup)?;
        }
        disk::remove_tree(&dir)
    }

    /// No process and no network is left; files and layers stay.
    fn halt_pod(&self, record: &PodRecord) -> Result<()> {
        let dir = self.layout().pod(&record.id);
        let supervisor = live_supervisor(&record.id, &dir)?;
        if supervisor.is_some() {
            self.kill_containers(record)?;
        }
        if record.spec.namespaces.network != NamespaceMode::Node {
            let netns = supervisor.as_ref().map(|info| namespace(info.pid, "net"));
            self.detach_network(record, netns.as_deref())?;
        }
        match supervisor {
            Some(_) => self.shut_supervisor_down(record, &dir),
            None => self.clear_after_dead_supervisor(record, &dir),
        }
    }

    fn kill_containers(&self, record: &PodRecord) -> Result<()> {
        let dir = self.layout().pod(&record.id);
        for id in disk::entries(&dir.join("containers"))? {
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
        for id in disk::entries(&dir.join("containers"))? {
            if let Some(container) =
                ContainerRecord::read(&self.layout().container(&record.id, &id))?
            {
                remove_cgroup(&id, &container.cgroup)?;
            } else {
                remove_cgroup(&id, &ContainerRecord::cgroup_of(record, &id))?;
            }
        }
        supervisor::clean_after_death(dir).map_err(|source| Error::Supervisor {
            verb: "clean up after the supervisor of pod",
            id: record.id.clone(),
            source,
        })
    }
}

/// Kills what is in a cgroup and removes it; one that is not there is fine.
pub(crate) fn remove_cgroup(id: &str, path: &str) -> Result<()> {
    let failed = |source| Error::Cgroup {
        id: id.to_owned(),
        source,
    };
    let cgroup = match runtime::cgroup::Cgroup::open(path) {
        Err(error) if error.is_not_found() => return Ok(()),
        other => other.map_err(failed)?,
    };
    cgroup.kill_all().map_err(failed)?;
    cgroup.delete().map_err(failed)
}
