//! Giving out addresses: the host-local kind in-process, any other by its plugin.
//! CNI specification, section 4 (delegated plugins).

pub(crate) mod host_local;
pub(crate) mod range;
pub(crate) mod store;

use serde_json::{Map, Value};

use crate::cni::external::External;
use crate::cni::plugin::{Call, Plugin, Valid};
use crate::cni::result::CniResult;
use crate::{Error, Result};
use host_local::HostLocal;

/// Who gives out the addresses of a network.
#[derive(Debug)]
pub(crate) enum Ipam {
    /// Nobody: the interface gets no address.
    None,
    /// floe, from ranges in the configuration.
    HostLocal(HostLocal),
    /// A plugin program.
    External(External),
}

impl Ipam {
    /// Reads the `ipam` object of a plugin's configuration.
    pub(crate) fn parse(config: &Map<String, Value>, network: &crate::cni::List) -> Result<Ipam> {
        let Some(ipam) = config
            .get("ipam")
            .and_then(Value::as_object)
            .filter(|map| !map.is_empty())
        else {
            return Ok(Ipam::None);
        };
        match ipam.get("type").and_then(Value::as_str) {
            Some("host-local") => {
                let local = HostLocal::parse(ipam, &network.name, &network.places)?;
                local.asked(config.get("args")).map(Ipam::HostLocal)
            }
            Some(kind) => Ok(Ipam::External(External::find(
                kind,
                config.clone(),
                network,
                None,
            )?)),
            None => Err(Error::config(&network.name, "ipam.type", "is missing")),
        }
    }

    /// Gives the pod its addresses.
    pub(crate) fn add(&self, call: &Call<'_>) -> Result<CniResult> {
        match self {
            Ipam::None => Ok(CniResult::default()),
            Ipam::HostLocal(local) => local.add(call.attachment.id, call.attachment.ifname),
            Ipam::External(plugin) => plugin.delegate_add(call),
        }
    }

    /// Whether it can give addresses now.
    pub(crate) fn status(&self) -> Result<()> {
        match self {
            Ipam::None | Ipam::HostLocal(_) => Ok(()),
            Ipam::External(plugin) => plugin.status(),
        }
    }

    /// Takes addresses of other attachments back. Those of [`Ipam::HostLocal`] are taken back as their pods'
    /// records are found to be nobody's ([`crate::Network::attachments`]).
    pub(crate) fn gc(&self, valid: &[Valid]) -> Result<()> {
        match self {
            Ipam::None | Ipam::HostLocal(_) => Ok(()),
            Ipam::External(plugin) => plugin.gc(valid),
        }
    }

    /// Takes the pod's addresses back; those that are not out count as taken back.
    pub(crate) fn del(&self, call: &Call<'_>, result: Option<&CniResult>) -> Result<()> {
        match self {
            Ipam::None => Ok(()),
            Ipam::HostLocal(local) => local.del(call.attachment.id, result),
            Ipam::External(plugin) => plugin.delegate_del(call),
        }
    }
}
