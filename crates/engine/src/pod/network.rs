//! The network of a pod: given once its namespace is there, and taken back.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use ::network::{Attachment, Dns, Network, NetworkConfig};

use super::record::{PodRecord, Stage};
use super::{NamespaceMode, PodSpec, PortMapping, files};
use crate::config::Config;
use crate::disk::Layout;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::steps::step;

impl Engine {
    /// Gives the pod its interface and addresses.
    pub(crate) fn attach_network(&self, record: &PodRecord, netns: &Path) -> Result<Vec<IpAddr>> {
        let failed = |source| network_error(&record.id, source);
        let dir = self.layout().pod(&record.id);
        if record.spec.network_none {
            Network::loopback_only(netns).map_err(failed)?;
            files::write_hosts(&dir, &record.id, &record.spec, &[])?;
            return Ok(Vec::new());
        }
        let dns = dns_wish(&record.spec);
        let wanted = Attachment {
            port_mappings: self.forwarded(&record.spec),
            dns: Some(&dns),
            cgroup: &record.cgroup,
            ..attachment(record, Some(netns))
        };
        let ips: Vec<IpAddr> = match record.spec.networks.is_empty() {
            true => {
                let attached = step("network", || self.network().setup(&wanted)).map_err(failed)?;
                attached.ips.iter().map(ipnet::IpNet::addr).collect()
            }
            false => step("network", || self.join_networks(record, &wanted))?,
        };
        files::write_hosts(&dir, &record.id, &record.spec, &ips)?;
        Ok(ips)
    }

    /// The host ports of a pod that are forwarded here.
    fn forwarded<'a>(&self, spec: &'a PodSpec) -> &'a [PortMapping] {
        match self.config().runtime.disable_hostport_mapping {
            true => &[],
            false => &spec.port_mappings,
        }
    }

    /// The pods that the network knows, half-made ones included. What cannot be read is a warning.
    pub(crate) fn attached_pods(&self) -> BTreeSet<String> {
        let network = self.network();
        let mut pods = BTreeSet::new();
        match network.attachments() {
            Ok(attached) => pods.extend(attached),
            Err(error) => tracing::warn!(%error, "networks of pods that are gone stay"),
        }
        match network.port_owners() {
            Ok(owners) => pods.extend(owners),
            Err(error) => tracing::warn!(%error, "host ports of pods that are gone stay"),
        }
        pods
    }

    /// Takes back what the network keeps for a pod of which nothing else is known.
    pub(crate) fn detach_gone(&self, id: &str, netns: Option<&Path>) -> Result<()> {
        let failed = |source| network_error(id, source);
        let attachment = Attachment {
            netns,
            ..Attachment::of(id)
        };
        self.network().teardown(&attachment).map_err(failed)
    }

    /// Takes the pod's interface and addresses back; what is gone is fine.
    pub(crate) fn detach_network(&self, record: &PodRecord, netns: Option<&Path>) -> Result<()> {
        if record.spec.network_none || record.spec.namespaces.network == NamespaceMode::Node {
            return Ok(());
        }
        let failed = |source| network_error(&record.id, source);
        let network = self.network();
        // What its stop has left has a record, and what nobody can know of is found at the next start.
        let is_off = matches!(record.stage, Stage::Stopped | Stage::Defined) && netns.is_none();
        if is_off && !network.remembers(&record.id).map_err(failed)? {
            return Ok(());
        }
        let attachment = attachment(record, netns);
        network.teardown(&attachment).map_err(failed)
    }
}

pub(crate) fn network_error(pod: &str, source: network::Error) -> Error {
    Error::Network {
        pod: pod.to_owned(),
        source: Box::new(source),
    }
}

fn attachment<'a>(record: &'a PodRecord, netns: Option<&'a Path>) -> Attachment<'a> {
    Attachment {
        netns,
        name: &record.spec.name,
        namespace: &record.spec.namespace,
        uid: &record.spec.uid,
        ifname: "eth0",
        port_mappings: &record.spec.port_mappings,
        annotations: &record.spec.annotations,
        ..Attachment::of(&record.id)
    }
}

/// The name service that the pod asks for, as plugins are told.
fn dns_wish(spec: &PodSpec) -> Dns {
    let wish = spec.dns.as_ref();
    wish.map_or_else(Dns::default, |wish| Dns {
        nameservers: wish.servers.clone(),
        search: wish.searches.clone(),
        options: wish.options.clone(),
        ..Dns::default()
    })
}

/// What the configuration says of pods' networks.
pub(crate) fn config(config: &Config, layout: &Layout) -> Result<NetworkConfig> {
    let network = &config.network;
    let subnets = network
        .subnets
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|_| Error::invalid("crio.network.subnets", format!("{text:?}")))
        })
        .collect::<Result<_>>()?;
    Ok(NetworkConfig {
        conf_dir: network.network_dir.clone(),
        plugin_dirs: network.plugin_dirs.clone(),
        state_dir: layout.network(),
        host_local_dir: Some(network.host_local_dir.clone())
            .filter(|dir| !dir.as_os_str().is_empty()),
        bridge: network.bridge.clone(),
        subnets,
        default_network: Some(network.cni_default_network.clone()).filter(|name| !name.is_empty()),
    })
}
