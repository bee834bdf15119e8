//! Networks that people make, as pods join them: what one is, as a list of the built-in plugins. A pod may be on
//! several, each by an interface of its own; what is kept of each stands below `joined/POD/NETWORK.json` in the
//! state directory, in the same form as that of a pod's own network, and its addresses below `joined-networks/`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::cni::{List, Places};
use crate::config::NetworkConfig;
use crate::plugins::{isolation, macvlan};
use crate::{Error, Result};

/// The metric of a default route where none is said, as podman has it.
const METRIC: u32 = 100;

/// A network of its own, by a bridge on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnNetwork {
    /// Its name: that of a plain file.
    pub name: String,
    /// The bridge's name, at most 15 bytes.
    pub bridge: String,
    /// Its subnets; a pod gets an address in each.
    pub subnets: Vec<OwnSubnet>,
    /// Further routes of its pods.
    pub routes: Vec<OwnRoute>,
    /// Nothing leads out of it.
    pub internal: bool,
    /// How much its pods have to do with those of other networks.
    pub isolation: Isolation,
    /// Largest packet in bytes; 0 for the kernel's default.
    pub mtu: u32,
    /// Its pods' way to everywhere leads through it.
    pub default_route: bool,
    /// Metric of that route.
    pub metric: Option<u32>,
    /// The mode of macvlan interfaces beside the link of the name `bridge`, instead of a bridge.
    pub macvlan: Option<String>,
}

/// A subnet of such a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSubnet {
    /// The subnet.
    pub subnet: IpNet,
    /// The bridge's own address in it.
    pub gateway: Option<IpAddr>,
    /// The first and the last address that is given out; `None`: all.
    pub range: Option<(IpAddr, IpAddr)>,
}

/// A route of such a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRoute {
    /// Destination.
    pub to: IpNet,
    /// The next hop.
    pub via: IpAddr,
    /// Metric.
    pub metric: Option<u32>,
}

/// How much a network has to do with others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// With none.
    #[default]
    Strict,
    /// With those that are not isolated themselves.
    Normal,
    /// With all that are open as well.
    Open,
}

impl OwnNetwork {
    /// As the built-in plugins are configured for it.
    pub(crate) fn list(&self, config: &NetworkConfig, places: &Arc<Places>) -> Result<List> {
        let ranges = self.subnets.iter().map(|one| {
            let mut range = json!({ "subnet": one.subnet.trunc() });
            for (key, ip) in [
                ("gateway", one.gateway),
                ("rangeStart", one.range.map(|range| range.0)),
                ("rangeEnd", one.range.map(|range| range.1)),
            ] {
                if let Some(ip) = ip {
                    range[key] = json!(ip);
                }
            }
            json!([range])
        });
        let apart = match (self.internal, self.isolation) {
            (true, _) => "internal",
            (false, Isolation::Strict) => "strict",
            (false, Isolation::Normal) => "normal",
            (false, Isolation::Open) => "open",
        };
        let ipam = json!({
            "type": "host-local",
            "ranges": ranges.collect::<Vec<_>>(),
            "routes": self.routes_as_configured(),
            "dataDir": leases(config),
        });
        if let Some(mode) = &self.macvlan {
            let list = json!({
                "cniVersion": "1.1.0",
                "name": self.name,
                "plugins": [{
                    "type": macvlan::KIND,
                    "parent": self.bridge,
                    "mode": mode,
                    "mtu": self.mtu,
                    "ipam": ipam,
                }],
            });
            return List::parse(list, &self.name, places);
        }
        let with_gateway = self.subnets.iter().any(|one| one.gateway.is_some());
        let list = json!({
            "cniVersion": "1.1.0",
            "name": self.name,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self.bridge,
                    "isGateway": with_gateway,
                    "ipMasq": !self.internal,
                    "hairpinMode": true,
                    "mtu": self.mtu,
                    "ipam": ipam,
                },
                { "type": isolation::KIND, "bridge": self.bridge, "apart": apart },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        });
        List::parse(list, &self.name, places)
    }

    fn routes_as_configured(&self) -> Vec<Value> {
        let mut routes = Vec::new();
        if self.default_route && !self.internal {
            for one in &self.subnets {
                let Some(gateway) = one.gateway else { continue };
                let to = match gateway {
                    IpAddr::V4(_) => "0.0.0.0/0",
                    IpAddr::V6(_) => "::/0",
                };
                let metric = self.metric.unwrap_or(METRIC);
                routes.push(json!({ "dst": to, "gw": gateway, "priority": metric }));
            }
        }
        for route in &self.routes {
            let metric = route.metric.or(self.metric).unwrap_or(METRIC);
            routes.push(json!({ "dst": route.to, "gw": route.via, "priority": metric }));
        }
        routes
    }

    /// Its subnets alone.
    pub(crate) fn nets(&self) -> Vec<IpNet> {
        self.subnets.iter().map(|one| one.subnet.trunc()).collect()
    }
}

/// Where the addresses of such networks are kept.
pub(crate) fn leases(config: &NetworkConfig) -> PathBuf {
    config.state_dir.join("joined-networks")
}

/// What one attachment asks for, in the configuration of the bridge that is the first plugin of `list`.
///
/// # Errors
/// Another plugin, which may not know of it.
pub(crate) fn ask(list: &mut List, ips: &[IpAddr], mac: Option<crate::Mac>) -> Result<()> {
    let own = list.plugins.first_mut().filter(|plugin| {
        let is = |plugin: &serde_json::Map<String, Value>, key: &str, value: &str| {
            plugin.get(key).and_then(Value::as_str) == Some(value)
        };
        let ipam = plugin.get("ipam").and_then(Value::as_object);
        let kind = is(plugin, "type", "bridge") || is(plugin, "type", macvlan::KIND);
        kind && ipam.is_some_and(|ipam| is(ipam, "type", "host-local"))
    });
    let Some(plugin) = own else {
        let reason = "static addresses need a bridge with addresses of host-local";
        return Err(Error::config(&list.name, "plugins[0]", reason));
    };
    let mut cni = serde_json::Map::new();
    if !ips.is_empty() {
        cni.insert("ips".to_owned(), json!(ips));
    }
    if let Some(mac) = mac {
        cni.insert("mac".to_owned(), json!(mac));
    }
    plugin.insert("args".to_owned(), json!({ "cni": cni }));
    Ok(())
}
