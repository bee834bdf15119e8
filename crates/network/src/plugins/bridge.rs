//! The bridge plugin: a veth pair between the pod and a bridge on the host, which is made with the
//! first pod and stays. CNI plugins: main/bridge.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::pod_link::{self, HostEnd, must_exist};
use super::{Args, Built, unknown_key};
use crate::cni::List;
use crate::cni::plugin::{Call, Plugin, Valid};
use crate::cni::result::CniResult;
use crate::host::{BridgeWish, link_name};
use crate::ipam::Ipam;
use crate::rtnetlink::{address, link, route, settle};
use crate::{Dns, Error, Interface, Result};
use netlink::Socket;

/// The configuration keys that are built in.
const KNOWN: [&str; 8] = [
    "bridge",
    "isGateway",
    "isDefaultGateway",
    "ipMasq",
    "ipMasqBackend",
    "mtu",
    "hairpinMode",
    "preserveDefaultVlan",
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default = "default_name")]
    bridge: String,
    #[serde(default)]
    is_gateway: bool,
    #[serde(default)]
    is_default_gateway: bool,
    #[serde(default)]
    ip_masq: bool,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    hairpin_mode: bool,
    #[serde(default)]
    dns: Dns,
    #[serde(default)]
    args: Args,
}

fn default_name() -> String {
    "cni0".to_owned()
}

/// A checked bridge configuration.
#[derive(Debug)]
struct Bridge {
    config: Config,
    ipam: Ipam,
}

/// Checks a configuration of type bridge.
pub(crate) fn build(config: &Map<String, Value>, list: &List) -> Result<Built> {
    if let Some(key) = unknown_key(config, &KNOWN) {
        return Ok(Built::Lacks(key));
    }
    let mut parsed = Config::deserialize(Value::Object(config.clone()))
        .map_err(|error| Error::config(&list.name, "bridge", error.to_string()))?;
    if parsed.bridge.is_empty() || parsed.bridge.len() > 15 {
        let reason = format!(
            "{:?} is not the name of a link (1 to 15 bytes)",
            parsed.bridge
        );
        return Err(Error::config(&list.name, "bridge", reason));
    }
    parsed.is_gateway |= parsed.is_default_gateway;
    let ipam = Ipam::parse(config, list)?;
    Ok(Built::Yes(Box::new(Bridge {
        config: parsed,
        ipam,
    })))
}

impl Bridge {
    fn link_name(&self, call: &Call<'_>) -> String {
        link_name(
            &self.config.bridge,
            call.attachment.id,
            call.attachment.ifname,
        )
    }

    /// The bridge and its surroundings, as all pods share them.
    fn prepare(&self, call: &Call<'_>, socket: &mut Socket, result: &CniResult) -> Result<u32> {
        let gateways = if self.config.is_gateway {
            pod_link::gateways(result)
        } else {
            Vec::new()
        };
        let wish = BridgeWish {
            name: &self.config.bridge,
            mtu: self.config.mtu,
            gateways: &gateways,
        };
        let index = call.host.bridge(socket, &wish)?;
        if self.config.ip_masq {
            call.host.masquerade(&pod_link::subnets(result))?;
        }
        Ok(index)
    }
}

impl Plugin for Bridge {
    fn kind(&self) -> &str {
        "bridge"
    }

    fn runs_programs(&self) -> bool {
        matches!(self.ipam, Ipam::External(_))
    }

    fn add(&self, call: &Call<'_>, _previous: Option<CniResult>) -> Result<CniResult> {
        let mut result = self.ipam.add(call)?;
        if self.config.is_default_gateway {
            pod_link::add_default_routes(&mut result);
        }
        if !self.config.dns.is_empty() {
            result.dns = self.config.dns.clone();
        }
        let mut host = call.host.route()?;
        let bridge = self.prepare(call, &mut host, &result)?;
        let name = self.link_name(call);
        let end = HostEnd {
            name: &name,
            master: Some(bridge),
            hairpin: self.config.hairpin_mode,
            mtu: self.config.mtu,
            mac: self.config.args.cni.mac,
        };
        let inside = pod_link::create(call, &mut host, end)?;
        let mut requests = vec![link::up(inside.index, &inside.name)];
        for ip in &result.ips {
            requests.push(address::add(inside.index, &inside.name, ip.address));
        }
        for one in pod_link::routes(&result) {
            requests.push(route::add(inside.index, &inside.name, &one));
        }
        call.pod()?.socket()?.send(requests)?;
        settle(&host, &name)?;
        settle(&host, &self.config.bridge)?;

        let sandbox = call.pod()?.path().to_string_lossy().into_owned();
        let on_host = |name: &str| Interface {
            name: name.to_owned(),
            ..Interface::default()
        };
        result.interfaces = vec![
            on_host(&self.config.bridge),
            on_host(&name),
            Interface {
                name: inside.name,
                mac: inside.mac,
                mtu: None,
                sandbox: Some(sandbox),
            },
        ];
        for ip in &mut result.ips {
            ip.interface = Some(2);
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

    fn reload(&self, call: &Call<'_>, result: &CniResult) -> Result<()> {
        let mut host = call.host.route()?;
        self.prepare(call, &mut host, result).map(drop)
    }

    fn check(&self, call: &Call<'_>, _result: &CniResult) -> Result<()> {
        let mut host = call.host.route()?;
        must_exist(&mut host, &self.config.bridge)?;
        must_exist(&mut host, &self.link_name(call))?;
        must_exist(&mut *call.pod()?.socket()?, call.attachment.ifname)
    }
}
