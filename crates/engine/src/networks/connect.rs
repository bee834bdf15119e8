//! A pod that people made comes to a network, or leaves one, while it runs or not; and what the host has of its
//! networks is made again where it was lost. The pod's record says first what is to be, so that a kill leaves a pod
//! that comes to it with its next start.

use std::net::IpAddr;

use ::network::Attachment;

use super::{DEFAULT_NETWORK, Joining, interfaces};
use crate::disk::Lock;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::network::network_error;
use crate::pod::record::{PodRecord, Stage};
use crate::pod::{NamespaceMode, Origin};

impl Engine {
    /// Puts a container's pod on a further network, at once if it stands.
    ///
    /// # Errors
    /// A network that there is not, or that it is on; a pod that is not the container's alone; what
    /// [`Engine::run_pod`] says of networks.
    pub fn connect_network(&self, container: &str, joining: Joining) -> Result<()> {
        let (mut record, _alone) = self.pod_to_connect(container)?;
        let before = places(&record)?;
        let mut joined = before.clone();
        let mut new = [joining];
        self.check_networks(&mut new)?;
        let [new] = new;
        if joined.iter().any(|one| one.network == new.network) {
            return Err(Error::Refused(format!(
                "container {container} is already connected to network {}: network is already connected",
                new.network
            )));
        }
        joined.push(new);
        let names = interfaces(&joined)?;
        for (one, name) in joined.iter_mut().zip(names) {
            one.interface = name;
        }
        let new = joined.last().cloned().unwrap_or_default();
        self.change_networks(&mut record, joined)?;
        if let Err(error) = self.come_to(&mut record, &new) {
            self.change_networks(&mut record, before)?;
            return Err(error);
        }
        Ok(())
    }

    /// Takes a container's pod off a network, at once if it stands.
    ///
    /// # Errors
    /// A network that it is not on, or a pod that is not the container's alone.
    pub fn disconnect_network(&self, container: &str, network: &str) -> Result<()> {
        let (mut record, _alone) = self.pod_to_connect(container)?;
        let name = match self.find_network(network)? {
            Some(found) => found.spec.name,
            None => return Err(crate::pod::join::no_network(network)),
        };
        let mut joined = places(&record)?;
        let before = joined.len();
        joined.retain(|one| one.network != name);
        if joined.len() == before {
            return Err(Error::Refused(format!(
                "container {container} is not connected to network {name}"
            )));
        }
        self.change_networks(&mut record, joined)?;
        let netns = self.netns_of(&record)?;
        let failed = |source| network_error(&record.id, source);
        let left = match name.as_str() {
            DEFAULT_NETWORK => self
                .network()
                .leave_configured(&record.id, netns.as_deref()),
            name => self.network().leave(&record.id, netns.as_deref(), name),
        };
        left.map_err(failed)?;
        self.has_changed(&mut record)
    }

    /// Makes again what the host had of a container's networks, and has no longer: what leads its ports to it, and
    /// what keeps networks apart.
    ///
    /// # Errors
    /// An unknown container, or what the kernel refuses.
    pub fn reload_networks(&self, container: &str) -> Result<()> {
        let (record, _alone) = self.pod_of_person(container)?;
        let netns = self.netns_of(&record)?;
        let failed = |source| network_error(&record.id, source);
        match netns {
            Some(netns) => self.network().reload(&record.id, &netns).map_err(failed),
            None => Ok(()),
        }
    }

    fn pod_of_person(&self, container: &str) -> Result<(PodRecord, Lock)> {
        let missing = || Error::NotFound {
            what: "container",
            name: container.to_owned(),
        };
        let pod = self.pod_of_container(container)?.ok_or_else(missing)?;
        let (record, alone) = self.pod_for_change(&pod)?.ok_or_else(missing)?;
        match record.spec.origin {
            Origin::Cli => Ok((record, alone)),
            Origin::Cri => Err(Error::Refused(
                "kubelet says which networks its own containers are on".into(),
            )),
        }
    }

    /// The pod of a container, if it is the container's alone and has networks.
    fn pod_to_connect(&self, container: &str) -> Result<(PodRecord, Lock)> {
        let (record, alone) = self.pod_of_person(container)?;
        if record.spec.by_itself {
            return Err(Error::Refused(format!(
                "container {container} shares the network of pod {}: say its networks when the pod is created",
                record.spec.name
            )));
        }
        if record.spec.namespaces.network == NamespaceMode::Node {
            return Err(Error::Refused(
                "\"host\" is not supported: invalid network mode".into(),
            ));
        }
        Ok((record, alone))
    }

    /// Writes down on which networks a pod is to be.
    fn change_networks(&self, record: &mut PodRecord, mut joined: Vec<Joining>) -> Result<()> {
        record.spec.network_none = joined.is_empty();
        if let [only] = joined.as_slice()
            && *only == on_default()
        {
            joined.clear();
        }
        record.spec.networks = joined;
        record.write(&self.layout().pod(&record.id))?;
        match self.is_pod_kept(&record.id) {
            true => self.keep_pod_definition(&record.id),
            false => Ok(()),
        }
    }

    /// Puts a pod that stands on one more of its networks.
    fn come_to(&self, record: &mut PodRecord, new: &Joining) -> Result<()> {
        let Some(netns) = self.netns_of(record)? else {
            return Ok(());
        };
        let attachment = Attachment {
            netns: Some(&netns),
            name: &record.spec.name,
            namespace: &record.spec.namespace,
            ifname: &new.interface,
            ips: &new.ips,
            mac: new.mac,
            port_mappings: match self.attached_networks(&record.id)?.is_empty() {
                true => &record.spec.port_mappings,
                false => &[],
            },
            cgroup: &record.cgroup,
            ..Attachment::of(&record.id)
        };
        let network = self.network_to_join(&new.network)?;
        self.join_one(&record.id, &attachment, network.as_ref())?;
        self.has_changed(record)
    }

    /// A pod that stands has other addresses, and other names.
    fn has_changed(&self, record: &mut PodRecord) -> Result<()> {
        if !matches!(record.stage, Stage::Made { .. }) {
            return Ok(());
        }
        let attached = self.attached_networks(&record.id)?;
        let of = |name: &str| attached.iter().find(|one| one.network == name);
        let names = record.spec.networks.iter().map(|one| one.network.as_str());
        let ips: Vec<IpAddr> = match record.spec.networks.is_empty() {
            true => attached
                .iter()
                .flat_map(|one| &one.ips)
                .map(ipnet::IpNet::addr)
                .collect(),
            false => names
                .filter_map(of)
                .flat_map(|one| &one.ips)
                .map(ipnet::IpNet::addr)
                .collect(),
        };
        record.stage = Stage::Made { ips };
        record.write(&self.layout().pod(&record.id))?;
        self.tell_names(record)?;
        self.names_have_changed(record)
    }

    /// The network namespace of a pod that stands.
    fn netns_of(&self, record: &PodRecord) -> Result<Option<std::path::PathBuf>> {
        if !matches!(record.stage, Stage::Made { .. }) {
            return Ok(None);
        }
        let sandbox = self.sandbox(record)?;
        Ok(sandbox.and_then(|sandbox| sandbox.namespaces.network))
    }
}

fn on_default() -> Joining {
    Joining {
        network: DEFAULT_NETWORK.to_owned(),
        interface: "eth0".to_owned(),
        ..Joining::default()
    }
}

/// The places of a pod on its networks, each with the interface that it has.
fn places(record: &PodRecord) -> Result<Vec<Joining>> {
    let spec = &record.spec;
    if spec.network_none {
        return Ok(Vec::new());
    }
    if spec.networks.is_empty() {
        return Ok(vec![on_default()]);
    }
    let names = interfaces(&spec.networks)?;
    let mut joined = spec.networks.clone();
    for (one, name) in joined.iter_mut().zip(names) {
        one.interface = name;
    }
    Ok(joined)
}
