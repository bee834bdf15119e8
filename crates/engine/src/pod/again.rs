//! A person's pod that is only defined, and one that is made again: the same id, record and containers, in the
//! same directory, with a new sandbox. Must never remove what is a container's: whatever fails leaves a pod that
//! is not ready and can be tried again.

use super::record::{PodRecord, Stage};
use super::run::{Making, validate_pod};
use super::{Origin, PodSpec, Step};
use crate::disk::{self, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::Sandbox;

impl Engine {
    /// Writes down what a person's pod is to be, and makes nothing of it.
    ///
    /// # Errors
    /// As [`Engine::run_pod`], whose checks it has to pass.
    pub fn define_pod(&self, mut spec: PodSpec) -> Result<String> {
        let asked = Step::now("asked");
        let handler = self.handlers().chosen(&spec.runtime_handler)?;
        validate_pod(&spec, handler, self.node())?;
        self.validate_users(&spec)?;
        self.check_annotations(&spec)?;
        self.check_networks(&mut spec.networks)?;
        let parts = PodRecord::name_parts(&spec);
        let mut name = Reservation::lock(&self.layout().names(), &parts)?;
        if let Some(holder) = name.holder() {
            // One that is ready is no answer: a person's second pod of a name is another one.
            self.ready_pod_or_clear(&holder, &spec)?;
            name.forget();
        }
        let id = disk::new_id()?;
        name.hold(&id)?;
        let making = Making::begin(self, handler, name, id, spec, asked)?;
        Ok(making.define()?.id)
    }

    /// Lets a person's pod stand: its namespaces and its network, for the containers that come.
    ///
    /// # Errors
    /// An unknown pod, one of kubelet's that has ended, or a step that failed.
    pub fn start_pod(&self, id: &str) -> Result<()> {
        let missing = || Error::NotFound {
            what: "pod",
            name: id.to_owned(),
        };
        let (record, _alone) = self.pod_for_change(id)?.ok_or_else(missing)?;
        self.standing_pod(record).map(drop)
    }

    /// The sandbox of a person's pod: that which lives, or else a new one. The caller has the pod's lock.
    ///
    /// # Errors
    /// A pod that is not a person's, or a step that failed: the pod is not ready then.
    pub(crate) fn standing_pod(&self, record: PodRecord) -> Result<(PodRecord, Sandbox)> {
        if matches!(record.stage, Stage::Made { .. })
            && let Some(sandbox) = self.sandbox(&record)?
        {
            return Ok((record, sandbox));
        }
        let known = matches!(
            record.stage,
            Stage::Made { .. } | Stage::Stopped | Stage::Defined
        );
        if record.spec.origin != Origin::Cli || !known {
            return Err(Error::State {
                verb: "start",
                what: "pod",
                id: record.id,
                state: "not ready, and not one that is made again".into(),
            });
        }
        self.make_pod_again(record)
    }

    fn make_pod_again(&self, mut record: PodRecord) -> Result<(PodRecord, Sandbox)> {
        let handler = self.handler_of(&record)?;
        validate_pod(&record.spec, handler, self.node())?;
        self.validate_users(&record.spec)?;
        let (id, dir) = (record.id.clone(), self.layout().pod(&record.id));
        // What a supervisor or an engine that was killed has left.
        self.halt_pod(&record)?;
        record.stage = Stage::Defined;
        record.steps.clear();
        record.write(&dir)?;
        let making = Making::again(self, handler, record.clone());
        let made = making.stand().and_then(|ips| making.commit(ips));
        if let Err(error) = made {
            if let Err(left) = self.halt_pod(&record) {
                tracing::warn!(pod = %id, error = %left, "undo of a pod that was not made again");
            }
            record.write(&dir)?;
            return Err(error);
        }
        let gone = || Error::NotFound {
            what: "pod",
            name: id.clone(),
        };
        let record = self.pod_record(&id)?.ok_or_else(gone)?;
        let sandbox = self.sandbox(&record)?.ok_or_else(gone)?;
        Ok((record, sandbox))
    }
}
