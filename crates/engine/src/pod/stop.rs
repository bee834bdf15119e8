//! StopPodSandbox and RemovePodSandbox. Both succeed on what is gone, and both can be asked
//! again after a failure or a kill in the middle: every step tolerates being done already.

use std::path::{Path, PathBuf};

use runtime::cgroup::{Cgroup, Unit};

use super::record::{PodRecord, Stage};
use super::{NamespaceMode, Origin};
use crate::container::ContainerState;
use crate::container::record::ContainerRecord;
use crate::disk::{self, Lock, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::handler::{self, ContainerRef, LIMIT, PodRef, Sandbox};
use crate::node::cgroups;
use crate::steps::step;

impl Engine {
    /// Kills the pod's containers and gives its network back. A pod that does not exist or is
    /// stopped is fine.
    ///
    /// # Errors
    /// An empty or ambiguous id, or a step that failed; it may be asked again.
    pub fn stop_pod(&self, id: &str) -> Result<()> {
        let Some((record, _lock)) = self.pod_for_change(id)? else {
            return Ok(());
        };
        if matches!(record.stage, Stage::Stopped | Stage::Defined) {
            return Ok(());
        }
        self.halt_pod(&self.with_true_cgroup(&record)?)?;
        if matches!(record.stage, Stage::Failed | Stage::Other | Stage::Damaged) {
            // What it is stays to be seen until it is removed.
            return Ok(());
        }
        self.note_stopped(record)
    }

    /// Writes down that a pod is stopped, where there is space for it.
    fn note_stopped(&self, mut record: PodRecord) -> Result<()> {
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

    /// Stops a person's pod of which no container runs, or is about to; was it so?
    ///
    /// # Errors
    /// As [`Engine::stop_pod`].
    pub fn stop_ended_pod(&self, id: &str) -> Result<bool> {
        let Some((record, _lock)) = self.pod_for_change(id)? else {
            return Ok(true);
        };
        if record.spec.origin != Origin::Cli || !matches!(record.stage, Stage::Made { .. }) {
            return Ok(false);
        }
        let sandbox = self.sandbox(&record)?;
        for container in self.layout().container_ids(&record.id)? {
            let of = self.container_record(&record.id, &container)?;
            let view = of.map(|of| self.view_container(&record, of, sandbox.as_ref()));
            let view = view.transpose()?;
            let has_ended = |state: &ContainerState| matches!(state, ContainerState::Exited { .. });
            if !view.is_some_and(|view| has_ended(&view.state) || view.pid.is_none()) {
                return Ok(false);
            }
        }
        self.halt_pod(&record)?;
        self.note_stopped(record)?;
        Ok(true)
    }

    /// Stops the pod if need be and removes it with its containers. A pod that does not exist is fine.
    ///
    /// # Errors
    /// As [`Engine::stop_pod`].
    pub fn remove_pod(&self, id: &str) -> Result<()> {
        let Some((record, _lock)) = self.pod_for_change(id)? else {
            return Ok(());
        };
        let seen_by_plugins = self.plugins_see_pod_go(&record);
        self.destroy_pod(&record)?;
        if let Some(removal) = seen_by_plugins {
            removal.done();
        }
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
    pub(crate) fn pod_for_change(&self, id: &str) -> Result<Option<(PodRecord, Lock)>> {
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
        if record.is_damaged() || self.handlers().of(&record.handler).is_err() {
            handler::release_all(&dir)?;
        }
        if record.spec.origin == Origin::Cli {
            self.forget_pod_definition(&record.id)?;
        }
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
        let handler = self.handlers().to_end(&record.handler);
        handler.remove_pod(record.at(&dir), LIMIT)?;
        if record.owns_cgroup {
            remove_cgroup(&record.id, &record.cgroup)?;
        }
        self.remove_own_logs(record);
        self.gauges().forget(&record.id);
        disk::remove_object(&dir, handler::release)
    }

    /// No process and no network is left; files and layers stay. A network that cannot be taken down
    /// is an error as long as the pod's namespace is there, which it is not for long: then whoever
    /// asks again gets a pod that is stopped, and the next start of the engine tries the network again.
    pub(crate) fn halt_pod(&self, record: &PodRecord) -> Result<()> {
        let dir = self.layout().pod(&record.id);
        let pod = record.at(&dir);
        let places = self.container_places(record)?;
        let containers: Vec<ContainerRef<'_>> = places.iter().map(|place| place.at(pod)).collect();
        let handler = self.handlers().to_end(&record.handler);
        let sandbox = step("stop", || handler.stop_pod(pod, &containers, LIMIT))?;
        super::link_logs::unmount_of(&record.spec);
        self.plugins_saw_pod_stop(record, sandbox.as_ref());
        let Some(sandbox) = sandbox else {
            if let Err(error) = self.leave_network(record, None) {
                tracing::warn!(pod = %record.id, %error, "the network keeps what it has of a pod that is gone; tried again at the next start");
            }
            return end_resolver(record);
        };
        let left = step("network", || self.leave_network(record, Some(&sandbox)));
        step("supervisor", || handler.end_pod(pod, &containers, LIMIT))?;
        end_resolver(record)?;
        left
    }

    /// Where the pod's containers are, half-made ones included.
    pub(crate) fn container_places(&self, record: &PodRecord) -> Result<Vec<Place>> {
        let ids = self.layout().container_ids(&record.id)?;
        let place = |id: String| {
            let dir = self.layout().container(&record.id, &id);
            let cgroup = ContainerRecord::cgroup_at(record, &id, &dir);
            Place { id, dir, cgroup }
        };
        Ok(ids.into_iter().map(place).collect())
    }

    fn leave_network(&self, record: &PodRecord, sandbox: Option<&Sandbox>) -> Result<()> {
        // A pod of which nothing can be read may be on the node's network: that is not its own.
        let netns = sandbox
            .and_then(|sandbox| sandbox.namespaces.network.clone())
            .filter(|path| !is_own(path));
        if record.is_damaged() {
            return self.detach_gone(&record.id, netns.as_deref());
        }
        if record.spec.namespaces.network == NamespaceMode::Node {
            return Ok(());
        }
        self.detach_network(record, netns.as_deref())
    }
}

/// Where a container is, which may have no record.
pub(crate) struct Place {
    id: String,
    dir: PathBuf,
    cgroup: String,
}

impl Place {
    pub(crate) fn at<'a>(&'a self, pod: PodRef<'a>) -> ContainerRef<'a> {
        ContainerRef {
            pod,
            id: &self.id,
            dir: &self.dir,
            cgroup: &self.cgroup,
        }
    }
}

/// A resolver ends with the supervisor; here it has ended, as another one needs its cgroup without processes.
fn end_resolver(record: &PodRecord) -> Result<()> {
    if record.spec.networks.is_empty() {
        return Ok(());
    }
    let cgroup = cgroups::member(&record.cgroup, &record.cgroup_prefix, &record.id);
    remove_cgroup(&record.id, &cgroup)
}

/// Kills what is in a cgroup and removes it; one that is not there is fine. systemd is told of the end
/// of a unit: it does not always see that a scope is empty whose directory goes as soon as it is.
pub(crate) fn remove_cgroup(id: &str, path: &str) -> Result<()> {
    let removed = kill_and_remove(id, path);
    if let Some(unit) = Unit::at(path)
        && let Err(error) = unit.stop()
    {
        // It holds nothing; without it nothing is missing but its name in a list.
        tracing::warn!(%id, unit = unit.name(), %error, "it stays known to systemd");
    }
    removed
}

fn kill_and_remove(id: &str, path: &str) -> Result<()> {
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
