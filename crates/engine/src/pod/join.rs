//! A pod on the networks that people have made: joined in their order as the pod comes to stand, each by an interface
//! of its own. Host ports lead to the first one that leads out.

use std::net::IpAddr;

use ::network::Attachment;

use super::network::network_error;
use super::record::PodRecord;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::networks::{DEFAULT_NETWORK, Driver, Joining, Network, interfaces};

impl Engine {
    /// Puts a pod on its networks; its addresses, those of the first network first. What fails leaves what was
    /// done before it to whoever undoes the pod.
    pub(super) fn join_networks(
        &self,
        record: &PodRecord,
        wanted: &Attachment<'_>,
    ) -> Result<Vec<IpAddr>> {
        let joined = &record.spec.networks;
        let names = interfaces(joined)?;
        let known = joined.iter().map(|one| self.network_to_join(&one.network));
        let known: Vec<Option<Network>> = known.collect::<Result<_>>()?;
        let leads_out = |network: &Option<Network>| {
            network.as_ref().is_none_or(|network| {
                !network.spec.internal && network.spec.driver == Driver::Bridge
            })
        };
        let with_ports = known.iter().position(leads_out);
        let mut ips = Vec::new();
        for (index, one) in joined.iter().enumerate() {
            let attachment = Attachment {
                ifname: &names[index],
                ips: &one.ips,
                mac: one.mac,
                port_mappings: match with_ports == Some(index) {
                    true => wanted.port_mappings,
                    false => &[],
                },
                ..*wanted
            };
            ips.extend(self.join_one(&record.id, &attachment, known[index].as_ref())?);
        }
        self.tell_names(record)?;
        Ok(ips)
    }

    /// Puts a pod on one network; `None`: the configuration's.
    pub(crate) fn join_one(
        &self,
        pod: &str,
        attachment: &Attachment<'_>,
        network: Option<&Network>,
    ) -> Result<Vec<IpAddr>> {
        let failed = |source| network_error(pod, source);
        let attached = match network {
            None => self.network().setup(attachment).map_err(failed)?,
            Some(network) => {
                let own = network.as_joined();
                let attached = self.network().join(attachment, &own).map_err(failed)?;
                // Whoever has removed it meanwhile did not see this pod on it.
                if self.own_network(&network.spec.name)?.is_none() {
                    let left = self.network().leave(pod, attachment.netns, &own.name);
                    left.and_then(|()| self.network().destroy_network(&own))
                        .map_err(failed)?;
                    return Err(no_network(&own.name));
                }
                attached
            }
        };
        Ok(attached.ips.iter().map(ipnet::IpNet::addr).collect())
    }

    /// The network of that name, if it is not the configuration's.
    pub(crate) fn network_to_join(&self, name: &str) -> Result<Option<Network>> {
        match name {
            DEFAULT_NETWORK => Ok(None),
            name => self
                .own_network(name)?
                .map(Some)
                .ok_or_else(|| no_network(name)),
        }
    }

    /// Are there the networks that a pod is to be on, and may it be on them so? They are called by their names then,
    /// where they were by an id.
    pub(crate) fn check_networks(&self, joined: &mut [Joining]) -> Result<()> {
        for one in joined.iter_mut() {
            if one.network != DEFAULT_NETWORK
                && self.own_network(&one.network)?.is_none()
                && let Some(found) = self.find_network(&one.network)?
            {
                one.network = found.spec.name;
            }
        }
        interfaces(joined)?;
        for one in joined {
            let Some(network) = self.network_to_join(&one.network)? else {
                continue;
            };
            for ip in &one.ips {
                let mut subnets = network.spec.subnets.iter();
                if !subnets.any(|subnet| subnet.subnet.contains(ip)) {
                    let reason = format!(
                        "requested static ip {ip} not in any subnet on network {}",
                        one.network
                    );
                    return Err(Error::Refused(reason));
                }
            }
        }
        Ok(())
    }
}

/// In podman's words.
pub(crate) fn no_network(name: &str) -> Error {
    Error::Refused(format!(
        "unable to find network with name or ID {name}: network not found"
    ))
}
