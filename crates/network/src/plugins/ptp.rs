//! The ptp plugin: a veth pair between the pod and the host, without a bridge. The host routes each
//! pod's address to its link. CNI plugins: main/ptp.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::pod_link::{self, HostEnd};
use super::{Built, unknown_key};
use crate::cni::List;
use crate::cni::plugin::{Call, Plugin, Valid};
use crate::cni::result::{CniResult, IpConfig};
use crate::host::{forwarding, link_name, link_settings};
use crate::ipam::Ipam;
use crate::rtnetlink::link::Link;
use crate::rtnetlink::route::Route;
use crate::rtnetlink::{address, link, route, settle};
use crate::{Dns, Error, Interface, Result};
use netlink::Request;

/// The configuration keys that are built in.
const KNOWN: [&str; 3] = ["ipMasq", "ipMasqBackend", "mtu"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    ip_masq: bool,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    dns: Dns,
}

/// A checked ptp configuration.
#[derive(Debug)]
struct Ptp {
    network: String,
    config: Config,
    ipam: Ipam,
}

/// Checks a configuration of type ptp.
pub(crate) fn build(config: &Map<String, Value>, list: &List) -> Result<Built> {
    if let Some(key) = unknown_key(config, &KNOWN) {
        return Ok(Built::Lacks(key));
    }
    let parsed = Config::deserialize(Value::Object(config.clone()))
        .map_err(|error| Error::config(&list.name, "ptp", error.to_string()))?;
    let ipam = Ipam::parse(config, list)?;
    Ok(Built::Yes(Box::new(Ptp {
        network: list.name.clone(),
        config: parsed,
        ipam,
    })))
}

impl Ptp {
    fn link_name(&self, call: &Call<'_>) -> String {
        link_name(&self.network, call.attachment.id, call.attachment.ifname)
    }
}

/// The address alone: prefix length 32 or 128.
fn alone(ip: IpAddr) -> IpNet {
    IpNet::from(ip)
}

/// The pod's side: its address, and everything, its own subnet too, through the gateway.
fn inside(link: &Link, result: &CniResult) -> Vec<Request> {
    let (index, name) = (link.index, link.name.as_str());
    let mut requests = vec![link::up(index, name)];
    for IpConfig {
        address, gateway, ..
    } in &result.ips
    {
        requests.push(address::add(index, name, *address));
        if let Some(gateway) = gateway {
            requests.push(route::delete(index, name, address.trunc()));
            requests.push(route::add(index, name, &Route::new(alone(*gateway), None)));
            requests.push(route::add(
                index,
                name,
                &Route::new(address.trunc(), Some(*gateway)),
            ));
        }
    }
    requests.extend(
        pod_link::routes(result)
            .iter()
            .map(|one| route::add(index, name, one)),
    );
    requests
}

/// The host's side: the gateway's address on the link, and the pod's address behind it.
fn outside(link: &Link, result: &CniResult) -> Vec<Request> {
    let (index, name) = (link.index, link.name.as_str());
    let mut requests = vec![link::up(index, name)];
    for ip in &result.ips {
        if let Some(gateway) = ip.gateway {
            requests.push(address::add(index, name, alone(gateway)));
        }
        requests.push(route::add(
            index,
            name,
            &Route::new(alone(ip.address.addr()), None),
        ));
    }
    requests
}

impl Plugin for Ptp {
    fn kind(&self) -> &str {
        "ptp"
    }

    fn runs_programs(&self) -> bool {
        matches!(self.ipam, Ipam::External(_))
    }

    fn add(&self, call: &Call<'_>, _previous: Option<CniResult>) -> Result<CniResult> {
        let mut result = self.ipam.add(call)?;
        if !self.config.dns.is_empty() {
            result.dns = self.config.dns.clone();
        }
        forwarding(&pod_link::gateways(&result))?;
        if self.config.ip_masq {
            call.host.masquerade(&pod_link::subnets(&result))?;
        }
        let mut host = call.host.route()?;
        let name = self.link_name(call);
        let end = HostEnd {
            name: &name,
            master: None,
            hairpin: false,
            mtu: self.config.mtu,
            mac: None,
        };
        let pod_end = pod_link::create(call, &mut host, end)?;
        let host_end = link::by_name(&mut host, &name)?
            .ok_or_else(|| Error::answer("create veth", name.clone(), "it is not there"))?;
        link_settings(&name)?;
        host.send(outside(&host_end, &result))?;
        call.pod()?.socket()?.send(inside(&pod_end, &result))?;
        settle(&host, &name)?;

        let sandbox = call.pod()?.path().to_string_lossy().into_owned();
        result.interfaces = vec![
            Interface {
                name,
                mac: host_end.mac,
                mtu: None,
                sandbox: None,
            },
            Interface {
                name: pod_end.name,
                mac: pod_end.mac,
                mtu: None,
                sandbox: Some(sandbox),
            },
        ];
        for ip in &mut result.ips {
            ip.interface = Some(1);
        }
        Ok(result)
    }

    fn del(&self, call: &Call<'_>, result: Option<&CniResult>) -> Result<()> {
        pod_link::remove(call, &self.link_name(call), &self.ipam, result)
    }

    fn status(&self) -> Result<()> {
        self.ipam.status()
    }

    fn gc(&self, valid: &[Valid]) -> Result<()> {
        self.ipam.gc(valid)
    }

    fn check(&self, call: &Call<'_>, _result: &CniResult) -> Result<()> {
        pod_link::must_exist(&mut *call.host.route()?, &self.link_name(call))?;
        pod_link::must_exist(&mut *call.pod()?.socket()?, call.attachment.ifname)
    }
}
