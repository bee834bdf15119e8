//! A person's container that is only defined, and one that is made again after its end: the same id, record,
//! writable layer and log. Must never remove its writable layer: whatever fails leaves a container that is created
//! or has ended, and can be tried again.

use super::create::{Making, validate};
use super::record::ContainerRecord;
use super::{Container, ContainerSpec, ContainerState};
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{self, LIMIT, Sandbox};
use crate::pod::Origin;
use crate::pod::record::{PodRecord, Stage};

impl Engine {
    /// Writes down what a container of a person's pod is to be, and makes its writable layer: no process of it is
    /// made before [`Engine::make_again`].
    ///
    /// # Errors
    /// As [`Engine::create_container`].
    pub fn define_container(&self, pod: &str, mut spec: ContainerSpec) -> Result<String> {
        validate(&spec)?;
        let missing = || Error::NotFound {
            what: "pod",
            name: pod.to_owned(),
        };
        let id = self.find_pod_id(pod)?.ok_or_else(missing)?;
        let pod = self.pod_record(&id)?.ok_or_else(missing)?;
        let admitted = match self.admit(&pod, &spec)? {
            Ok(admitted) => admitted,
            Err(holder) => return Ok(holder),
        };
        let image = self.image_to_run(&pod, &spec)?;
        self.volume_images(&pod, &mut spec)?;
        let making = Making::begin(self, admitted, &pod)?;
        let config = self.image_config(&image)?.config;
        let record = making.record(spec, &image, &config)?;
        self.store().create_writable_layer(&making.id, &image)?;
        making.commit(&record, None)
    }

    /// Brings a person's container that is only defined, or has ended, to the gate before its program, where
    /// [`Engine::create_container`] leaves a new one; its pod's sandbox is made again if need be. One that is
    /// there already, or runs, stays as it is.
    ///
    /// # Errors
    /// An unknown container, one that kubelet has made, an image that is gone, or a step that failed.
    pub fn make_again(&self, id: &str) -> Result<()> {
        let found = self.container(id)?;
        let missing = || Error::NotFound {
            what: "container",
            name: id.to_owned(),
        };
        let (pod, _alone) = self.pod_for_change(&found.pod_id)?.ok_or_else(missing)?;
        if pod.spec.origin != Origin::Cli {
            return Err(super::life::state_error("start", &found));
        }
        let record = self.container_record(&pod.id, &found.id)?;
        let record = record.ok_or_else(missing)?;
        if self.is_at_its_gate_or_runs(&pod, &record)? {
            return Ok(());
        }
        let (pod, sandbox) = self.standing_pod(pod)?;
        self.remake(&pod, &sandbox, record)
    }

    fn is_at_its_gate_or_runs(&self, pod: &PodRecord, record: &ContainerRecord) -> Result<bool> {
        let Some(sandbox) = self.sandbox(pod)? else {
            return Ok(false);
        };
        let made = matches!(pod.stage, Stage::Made { .. });
        let view = self.view_container(pod, record.clone(), Some(&sandbox))?;
        Ok(made
            && match view.state {
                ContainerState::Created => is_made(&view),
                ContainerState::Running { .. } => true,
                ContainerState::Exited { .. } | ContainerState::Unknown => false,
            })
    }

    fn remake(
        &self,
        pod: &PodRecord,
        sandbox: &Sandbox,
        mut record: ContainerRecord,
    ) -> Result<()> {
        let (dir, id) = (self.layout().pod(&pod.id), record.id.clone());
        let bundle = self.layout().container(&pod.id, &id);
        let handler = self.may_be_in(pod, &record.spec)?;
        handler.remove(record.at(&dir, &bundle), LIMIT)?;
        self.discard_volumes(&bundle, &id)?;
        handler::release(&bundle)?;
        for left in ["state.json", "ended.json", "config.json"] {
            disk::remove_tree(&bundle.join(left))?;
        }
        record.spec.image.clone_from(&record.image_id);
        let image = self.image_to_run(pod, &record.spec)?;
        let volumes = self.volume_images(pod, &mut record.spec)?;
        let lost = || Error::NotFound {
            what: "writable layer of container",
            name: id.clone(),
        };
        let root = self.store().container_root(&id)?.ok_or_else(lost)?;
        root.forget_volatile()?;
        let config = self.image_config(&image)?.config;
        let making = Making::again(self, handler, pod, &id);
        let new = making.build(&mut record, (sandbox, &root), &config, (&volumes, None))?;
        making.commit(&record, new).map(drop)
    }
}

/// Has whatever runs its pod made it?
fn is_made(container: &Container) -> bool {
    container.pid.is_some()
}
