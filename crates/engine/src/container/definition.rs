//! Definitions: what people's pods and containers are to be, beside the images, where it outlives a reboot. The
//! records in the run directory are what everything else works on; a definition is a copy of those, brought back
//! once after the node has started. A pod without a definition goes with the reboot, as kubelet's do.
//!
//! ```text
//! root/definitions/POD/pod.json
//! root/definitions/POD/containers/CID/container.json
//! ```

use std::path::{Path, PathBuf};

use super::ContainerSpec;
use super::record::ContainerRecord;
use crate::disk::{self, Lock, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::Origin;
use crate::pod::record::{PodRecord, Stage};

impl Engine {
    fn definitions(&self) -> PathBuf {
        self.config().root_table.root.join("definitions")
    }

    /// Keeps a container of a person's, and its pod, over a reboot: as they are recorded now.
    ///
    /// # Errors
    /// An unknown container, one of kubelet's, or files that cannot be written.
    pub fn keep_definition(&self, container: &str) -> Result<()> {
        let missing = || Error::NotFound {
            what: "container",
            name: container.to_owned(),
        };
        let pod = self.pod_of_container(container)?.ok_or_else(missing)?;
        let record = self.container_record(&pod, container)?;
        let record = record.ok_or_else(missing)?;
        self.keep_pod_definition(&pod)?;
        let bundle = definition_of(&self.definitions(), &pod, &record.id);
        disk::make_dir(&bundle)?;
        record.write(&bundle)
    }

    /// Changes what a person's container is to be when it is made again; what runs stays as it is.
    ///
    /// # Errors
    /// An unknown container, or one of kubelet's.
    pub fn redefine_container(
        &self,
        id: &str,
        change: impl FnOnce(&mut ContainerSpec),
    ) -> Result<()> {
        let missing = || Error::NotFound {
            what: "container",
            name: id.to_owned(),
        };
        let pod = self.pod_of_container(id)?.ok_or_else(missing)?;
        let (pod, _alone) = self.pod_for_change(&pod)?.ok_or_else(missing)?;
        if pod.spec.origin != Origin::Cli {
            return Err(Error::invalid("container", "kubelet says what its own are"));
        }
        let record = self.container_record(&pod.id, id)?;
        let mut record = record.ok_or_else(missing)?;
        change(&mut record.spec);
        record.write(&self.layout().container(&pod.id, id))?;
        match is_kept(self, &pod.id, id) {
            true => self.keep_definition(id),
            false => Ok(()),
        }
    }

    /// The same of a pod alone.
    ///
    /// # Errors
    /// As [`Engine::keep_definition`].
    pub fn keep_pod_definition(&self, pod: &str) -> Result<()> {
        let record = self.pod_record(pod)?.ok_or_else(|| Error::NotFound {
            what: "pod",
            name: pod.to_owned(),
        })?;
        if record.spec.origin != Origin::Cli {
            return Err(Error::invalid("pod", "kubelet keeps its own"));
        }
        let dir = self.definitions().join(&record.id);
        disk::make_dir(&dir)?;
        let kept = PodRecord {
            stage: Stage::Defined,
            maker: None,
            steps: Vec::new(),
            ..record
        };
        kept.write(&dir)
    }

    /// Forgets what is kept of a container; that nothing is kept is fine.
    ///
    /// # Errors
    /// What cannot be removed.
    pub fn forget_definition(&self, pod: &str, container: &str) -> Result<()> {
        disk::remove_tree(&definition_of(&self.definitions(), pod, container))
    }

    /// The same of a pod with all of its containers.
    pub(crate) fn forget_pod_definition(&self, pod: &str) -> Result<()> {
        disk::remove_tree(&self.definitions().join(pod))
    }

    /// Brings the definitions into the run directory, once since the node was started.
    pub(crate) fn restore_definitions(&self) -> Result<()> {
        let done = self.layout().restored();
        if done.exists() {
            return Ok(());
        }
        let _alone = Lock::exclusive(&self.layout().names().join("restoring"))?;
        let ids = disk::entries(&self.definitions())?;
        for id in ids.iter().filter(|id| disk::is_id(id)) {
            if let Err(error) = self.restore_definition(id) {
                tracing::warn!(pod = %id, %error, "its definition is left as it is");
            }
        }
        let _ = std::fs::remove_file(self.layout().names().join("restoring"));
        disk::write_file(&done, b"", 0o600)
    }

    fn restore_definition(&self, pod: &str) -> Result<()> {
        let (from, to) = (self.definitions().join(pod), self.layout().pod(pod));
        let Some(record) = PodRecord::read(&from)?.filter(|_| !to.exists()) else {
            return Ok(());
        };
        let names = self.layout().names();
        let mut name = Reservation::lock(&names, &PodRecord::name_parts(&record.spec))?;
        if name.holder().is_some() {
            let what = Error::NameTaken {
                what: "pod",
                name: record.spec.name,
                holder: name.holder().unwrap_or_default(),
            };
            return Err(what);
        }
        let staging = to.with_extension(disk::NEW);
        disk::remove_tree(&staging)?;
        disk::make_dir(&staging.join("containers"))?;
        record.write(&staging)?;
        for id in disk::entries(&from.join("containers"))? {
            let kept = ContainerRecord::read(&definition_of(&self.definitions(), pod, &id))?;
            let Some(container) = kept.filter(|_| disk::is_id(&id)) else {
                continue;
            };
            let bundle = staging.join("containers").join(&id);
            disk::make_dir(&bundle)?;
            container.write(&bundle)?;
            let parts = ContainerRecord::name_parts(pod, &container.spec);
            Reservation::lock(&names, &parts)?.hold(&id)?;
        }
        name.hold(pod)?;
        std::fs::rename(&staging, &to).map_err(Error::io("rename", &staging))
    }
}

impl Engine {
    /// Is a pod kept over a reboot?
    pub(crate) fn is_pod_kept(&self, pod: &str) -> bool {
        self.definitions().join(pod).is_dir()
    }
}

/// Is a container kept over a reboot?
pub(super) fn is_kept(engine: &Engine, pod: &str, container: &str) -> bool {
    definition_of(&engine.definitions(), pod, container).is_dir()
}

fn definition_of(definitions: &Path, pod: &str, container: &str) -> PathBuf {
    definitions.join(pod).join("containers").join(container)
}
