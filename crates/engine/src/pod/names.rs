//! Names of people's containers on the networks that they share: told to the network (`::network::Network::tell_names`),
//! and answered in each pod by a resolver of its own, which its handler begins. A pod that is on no network with names
//! has neither.

use std::net::IpAddr;

use super::network::network_error;
use super::record::PodRecord;
use super::{PodSpec, files};
use crate::container::record::ContainerRecord;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{LIMIT, NamesPlan};
use crate::networks::DEFAULT_NETWORK;
use crate::steps::step;

/// No resolv.conf is longer.
const FILE_MAX: u64 = 1 << 20;
/// As many characters of an id are a name.
const SHORT: usize = 12;

impl Engine {
    /// Is a pod to be on a network whose containers have names?
    pub(super) fn has_names(&self, spec: &PodSpec) -> Result<bool> {
        for one in &spec.networks {
            if one.network != DEFAULT_NETWORK
                && self
                    .own_network(&one.network)?
                    .is_some_and(|network| network.spec.dns)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Has names answered in a pod that stands, if it is on such a network.
    pub(super) fn begin_names(&self, record: &PodRecord) -> Result<()> {
        if !self.has_names(&record.spec)? {
            return Ok(());
        }
        let servers = match &record.spec.dns {
            Some(dns) if dns.servers != files::node_servers()? => &dns.servers[..],
            // Those of the node, whichever they are at the time.
            _ => &[],
        };
        let servers: Vec<IpAddr> = servers
            .iter()
            .filter_map(|server| server.parse().ok())
            .collect();
        let plan = NamesPlan {
            state: self.network().names_dir(),
            servers: &servers,
        };
        let dir = self.layout().pod(&record.id);
        let handler = self.handler_of(record)?;
        step("names", || {
            handler.resolve_names(record.at(&dir), &plan, LIMIT)
        })
    }

    /// The same of a pod that stands, and has come to such a network or has left one. The file that its containers
    /// see is written as it lies, as they have it as a mount.
    pub(crate) fn names_have_changed(&self, record: &PodRecord) -> Result<()> {
        let resolves = self.has_names(&record.spec)?;
        let path = self.layout().pod(&record.id).join("resolv.conf");
        let text = files::resolv(&record.spec, resolves)?;
        if base::file::read_text(&path, FILE_MAX)
            .ok()
            .flatten()
            .as_ref()
            != Some(&text)
        {
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        self.begin_names(record)
    }

    /// Says on its networks which names a pod and its containers have now.
    ///
    /// # Errors
    /// What cannot be written.
    pub(crate) fn tell_names(&self, record: &PodRecord) -> Result<()> {
        if record.spec.networks.is_empty() {
            return Ok(());
        }
        let failed = |source| network_error(&record.id, source);
        for attached in self.network().joined(&record.id).map_err(failed)? {
            let Some(network) = self.own_network(&attached.network)? else {
                continue;
            };
            if !network.spec.dns {
                continue;
            }
            let ips: Vec<IpAddr> = attached.ips.iter().map(ipnet::IpNet::addr).collect();
            let names = self.names_of_pod(record, &attached.network)?;
            let (own, servers) = (network.as_joined(), &network.spec.dns_servers);
            self.network()
                .tell_names(&own, servers, &record.id, &names, &ips)
                .map_err(failed)?;
        }
        Ok(())
    }

    /// The same of a pod whose containers have changed; one that is on no network of people's costs next to nothing.
    pub(crate) fn tell_names_again(&self, pod: &str) -> Result<()> {
        let failed = |source| network_error(pod, source);
        if self.network().joined(pod).map_err(failed)?.is_empty() {
            return Ok(());
        }
        match self.pod_record(pod)? {
            Some(record) => self.tell_names(&record),
            None => Ok(()),
        }
    }

    /// The pod's own name first: it is what an address is called.
    fn names_of_pod(&self, record: &PodRecord, network: &str) -> Result<Vec<String>> {
        let short = |id: &str| id.chars().take(SHORT).collect::<String>();
        let spec = &record.spec;
        let mut names = vec![spec.name.clone()];
        for id in self.layout().container_ids(&record.id)? {
            if let Ok(Some(container)) =
                ContainerRecord::read(&self.layout().container(&record.id, &id))
            {
                names.extend([container.spec.name, short(&id)]);
            }
        }
        names.extend([short(&record.id), spec.hostname.clone()]);
        let joined = spec.networks.iter().find(|one| one.network == network);
        names.extend(joined.into_iter().flat_map(|one| one.aliases.clone()));
        Ok(names)
    }
}
