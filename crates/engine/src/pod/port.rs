//! PortForward: a port of a pod, wherever the pod's network is.

use std::os::fd::OwnedFd;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{Ability, Pending};

impl Engine {
    /// A flow of bytes to and from a TCP port of the pod, at its loopback address: a descriptor whose calls do
    /// not wait. To be waited for in a tokio runtime; dropping it gives up.
    ///
    /// # Errors
    /// `NotFound`, an ambiguous beginning, a pod that is not ready, a handler that reaches no ports, or a port
    /// where nobody listens.
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
        handler.port(record.at(&self.layout().pod(&full)), port)
    }
}
