//! Another name for a person's container.

use super::definition;
use super::record::ContainerRecord;
use crate::disk::Reservation;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::Origin;
use crate::pod::record::PodRecord;

impl Engine {
    /// Gives a person's container another name, and its pod with it, if that is its own and has the same.
    ///
    /// # Errors
    /// An unknown container, one of kubelet's, or a name that is taken.
    pub fn rename_container(&self, id: &str, name: &str) -> Result<()> {
        let missing = || Error::NotFound {
            what: "container",
            name: id.to_owned(),
        };
        let pod_id = self.pod_of_container(id)?.ok_or_else(missing)?;
        let (mut pod, _alone) = self.pod_for_change(&pod_id)?.ok_or_else(missing)?;
        let full = self.container(id)?.id;
        let record = self.container_record(&pod_id, &full)?;
        let mut record = record.ok_or_else(missing)?;
        if pod.spec.origin != Origin::Cli {
            return Err(Error::invalid(
                "name",
                "kubelet names its containers itself",
            ));
        }
        let former = ContainerRecord::name_parts(&pod_id, &record.spec);
        let former_of_pod = PodRecord::name_parts(&pod.spec);
        let with_pod = pod.spec.name == record.spec.name;
        name.clone_into(&mut record.spec.name);
        let new = self.free_name(&ContainerRecord::name_parts(&pod_id, &record.spec), &full)?;
        if with_pod {
            name.clone_into(&mut pod.spec.name);
            let new_of_pod = self.free_name(&PodRecord::name_parts(&pod.spec), &pod_id)?;
            pod.write(&self.layout().pod(&pod_id))?;
            drop(new_of_pod);
        }
        record.write(&self.layout().container(&pod_id, &full))?;
        drop(new);
        self.give_free(&former, &full)?;
        if with_pod {
            self.give_free(&former_of_pod, &pod_id)?;
        }
        self.tell_names(&pod)?;
        match definition::is_kept(self, &pod_id, &full) {
            true => self.keep_definition(&full),
            false => Ok(()),
        }
    }

    /// Reserves a name that nobody has.
    fn free_name(&self, parts: &[impl AsRef<str>], id: &str) -> Result<Reservation> {
        let mut name = Reservation::lock(&self.layout().names(), parts)?;
        if let Some(holder) = name.holder() {
            return Err(Error::NameTaken {
                what: "container",
                name: parts
                    .get(2)
                    .map(|name| name.as_ref().to_owned())
                    .unwrap_or_default(),
                holder,
            });
        }
        name.hold(id)?;
        Ok(name)
    }

    fn give_free(&self, parts: &[impl AsRef<str>], id: &str) -> Result<()> {
        let name = Reservation::lock(&self.layout().names(), parts)?;
        match name.holder() {
            Some(holder) if holder == id => name.release(),
            _ => Ok(()),
        }
    }
}
