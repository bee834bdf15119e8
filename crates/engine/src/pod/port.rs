//! PortForward: a port of a pod, wherever the pod's network is.

use std::os::fd::OwnedFd;

use super::{Pod, PodState};
use crate::calls::Purpose;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{Ability, Pending};

impl Engine {
    /// A flow of bytes to and from a TCP port of the pod, at its loopback address: a descriptor whose calls do
    /// not wait. To be waited for in a tokio runtime; dropping it gives up.
    ///
    /// # Errors
    /// `NotFound`, an ambiguous beginning, a pod that is not ready, a handler that reaches no ports, or a port
    /// where nobody listens, or [`Error::Busy`].
    pub fn port(&self, pod: &str, port: u16) -> Result<Pending<OwnedFd>> {
        let missing = || Error::NotFound {
            what: "pod",
            name: pod.to_owned(),
        };
        let full = self.find_pod_id(pod)?.ok_or_else(missing)?;
        let record = self.pod_record(&full)?.ok_or_else(missing)?;
        let handler = self.handler_of(&record)?;
        if !handler.abilities().has(Ability::Ports) {
            return Err(handler.lacks(Ability::Ports));
        }
        let place = self.calls().take(&full, Purpose::Command)?;
        let connection = handler.port(record.at(&self.layout().pod(&full)), port)?;
        Ok(Box::pin(async move {
            let _until_it_stands = place;
            connection.await
        }))
    }

    /// A pod that is ready, for what is to begin later; `verb` is that, for the error.
    ///
    /// # Errors
    /// An unknown pod, or one that is not ready.
    pub fn require_ready(&self, verb: &'static str, id: &str) -> Result<Pod> {
        let pod = self.pod(id)?;
        match pod.state {
            PodState::Ready => Ok(pod),
            PodState::NotReady => Err(Error::State {
                verb,
                what: "pod",
                id: pod.id,
                state: "not ready".to_owned(),
            }),
        }
    }
}
