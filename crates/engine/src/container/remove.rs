//! The end of a container: all of it goes, made or half made, and its name is given free.

use super::record::ContainerRecord;
use crate::disk::{self, Lock, Reservation};
use crate::engine::Engine;
use crate::error::Result;
use crate::handler::{self, ContainerRef, LIMIT};

impl Engine {
    /// Kills the container if it runs and removes all of it but its log. A container that does
    /// not exist is fine.
    ///
    /// # Errors
    /// An ambiguous id, or a step that failed; it may be asked again.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        let Some(container) = self.container_if_any(id)? else {
            return Ok(());
        };
        let lock = self.layout().pod(&container.pod_id).join("lock");
        let Some(_pod_stays) = Lock::shared_if_there(&lock)? else {
            // It went with its pod meanwhile.
            return Ok(());
        };
        let seen_by_plugins = self.plugins_see_container_go(&container);
        self.discard_container(&container.pod_id, &container.id)?;
        self.tell_names_again(&container.pod_id)?;
        if let Some(removal) = seen_by_plugins {
            removal.done();
        }
        Ok(())
    }

    /// All of a container, made or half made, goes; its name is given free. A log file that
    /// kubelet keeps stays.
    pub(crate) fn discard_container(&self, pod: &str, id: &str) -> Result<()> {
        let bundle = self.layout().container(pod, id);
        let record = ContainerRecord::read(&bundle);
        if matches!(record, Ok(None)) {
            // A request of its maker that is still on its way must find nothing to make.
            disk::remove_tree(&bundle.join("config.json"))?;
        }
        self.end_container(pod, id)?;
        // Of a supervisor that was killed.
        let _ = std::fs::remove_file(self.layout().seccomp_socket(id));
        self.gauges().forget(id);
        self.discard_volumes(&bundle, id)?;
        self.store().remove_writable_layer(id)?;
        disk::remove_object(&bundle, handler::release)?;
        let names = self.layout().names();
        match record {
            Ok(None) => Ok(()),
            Ok(Some(record)) => {
                let parts = ContainerRecord::name_parts(pod, &record.spec);
                let name = Reservation::lock(&names, &parts)?;
                match name.holder() {
                    Some(holder) if holder == id => name.release(),
                    _ => Ok(()),
                }
            }
            // Its name is known only by who has it.
            Err(_) => Reservation::release_all(&names, &[id]),
        }
    }

    /// No process and no cgroup of the container is left.
    fn end_container(&self, pod: &str, id: &str) -> Result<()> {
        let (dir, bundle) = (self.layout().pod(pod), self.layout().container(pod, id));
        if let Some(record) = self.container_record(pod, id)? {
            let handler = self.handlers().to_end(&record.handler);
            return handler.remove(record.at(&dir, &bundle), LIMIT);
        }
        let Some(pod) = self.pod_record(pod)? else {
            return Ok(());
        };
        let cgroup = ContainerRecord::cgroup_at(&pod, id, &bundle);
        let half_made = ContainerRef {
            pod: pod.at(&dir),
            id,
            dir: &bundle,
            cgroup: &cgroup,
        };
        self.handlers()
            .to_end(&pod.handler)
            .remove(half_made, LIMIT)
    }
}
