//! CNI results: read in any version from 0.3.0 to 1.1.0, kept in one form, written in the version of
//! the configuration. CNI specification, section 5.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Attached, Dns, Interface};

/// What plugins have done so far, in the form of version 1.1. Fields that floe does not know are
/// passed on to the next plugin untouched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CniResult {
    /// Interfaces made, inside and outside the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) interfaces: Vec<Interface>,
    /// Addresses given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ips: Vec<IpConfig>,
    /// Routes made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<RouteConfig>,
    /// Name service.
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    pub(crate) dns: Dns,
    /// The rest.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// An address of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IpConfig {
    /// Address with prefix length.
    pub(crate) address: IpNet,
    /// The subnet's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<IpAddr>,
    /// Index into the result's interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<usize>,
    /// The rest ("version" of results before 1.0).
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

impl IpConfig {
    /// An address that belongs to no interface yet.
    pub(crate) fn new(address: IpNet, gateway: Option<IpAddr>) -> Self {
        IpConfig {
            address,
            gateway,
            interface: None,
            rest: Map::new(),
        }
    }
}

/// A route of a configuration or a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RouteConfig {
    /// Destination.
    pub(crate) dst: IpNet,
    /// Next hop; the gateway of the address's subnet when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gw: Option<IpAddr>,
    /// Path MTU (1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// Announced maximum segment size (1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) advmss: Option<u32>,
    /// Metric (1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    /// The rest.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

impl RouteConfig {
    /// A route through the subnet's gateway.
    pub(crate) fn to(dst: IpNet, gw: Option<IpAddr>) -> Self {
        RouteConfig {
            dst,
            gw,
            mtu: None,
            advmss: None,
            priority: None,
            rest: Map::new(),
        }
    }
}

impl CniResult {
    /// Reads what a plugin printed.
    pub(crate) fn parse(bytes: &[u8]) -> serde_json::Result<CniResult> {
        let mut result: CniResult = serde_json::from_slice(bytes)?;
        result.rest.remove("cniVersion");
        for ip in &mut result.ips {
            ip.rest.remove("version");
        }
        Ok(result)
    }

    /// Writes it for a plugin that speaks `version`.
    pub(crate) fn write(&self, version: &str) -> serde_json::Result<Value> {
        let mut result = self.clone();
        result
            .rest
            .insert("cniVersion".to_owned(), Value::from(version));
        if version.starts_with("0.") {
            for ip in &mut result.ips {
                let family = if ip.address.addr().is_ipv4() {
                    "4"
                } else {
                    "6"
                };
                ip.rest.insert("version".to_owned(), Value::from(family));
            }
        }
        serde_json::to_value(result)
    }

    /// The addresses of interfaces inside the pod, and those that belong to no interface.
    pub(crate) fn pod_ips(&self) -> impl Iterator<Item = &IpConfig> {
        self.ips.iter().filter(|ip| {
            let interface = ip.interface.and_then(|index| self.interfaces.get(index));
            interface.is_none_or(|interface| interface.sandbox.is_some())
        })
    }

    /// The pod's view of the result.
    pub(crate) fn attached(&self, network: &str, ifname: &str) -> Attached {
        let mut gateways: Vec<IpAddr> = Vec::new();
        for gateway in self.pod_ips().filter_map(|ip| ip.gateway) {
            if gateways
                .iter()
                .all(|known| known.is_ipv4() != gateway.is_ipv4())
            {
                gateways.push(gateway);
            }
        }
        let own = |interface: &&Interface| interface.name == ifname && interface.sandbox.is_some();
        Attached {
            network: network.to_owned(),
            ips: self.pod_ips().map(|ip| ip.address).collect(),
            mac: self
                .interfaces
                .iter()
                .find(own)
                .and_then(|interface| interface.mac),
            gateways,
            dns: self.dns.clone(),
            interfaces: self.interfaces.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"cniVersion":"0.4.0",
        "interfaces":[{"name":"cni0","mac":""},{"name":"eth0","mac":"0a:58:0a:01:00:02","sandbox":"/n"}],
        "ips":[{"version":"4","interface":1,"address":"10.1.0.2/24","gateway":"10.1.0.1"}],
        "routes":[{"dst":"0.0.0.0/0","scope":4}],"dns":{"nameservers":["10.0.0.1"]}}"#;

    #[test]
    fn an_old_result_is_passed_on_in_each_version_with_what_floe_does_not_know() {
        let result = CniResult::parse(OLD.as_bytes()).unwrap();
        assert_eq!(result.ips[0].address.to_string(), "10.1.0.2/24");
        let old = result.write("0.3.1").unwrap();
        assert_eq!(old["ips"][0]["version"], "4");
        assert_eq!(old["cniVersion"], "0.3.1");
        assert_eq!(old["routes"][0]["scope"], 4);
        let new = result.write("1.1.0").unwrap();
        assert_eq!(new["ips"][0].get("version"), None);
        assert_eq!(
            CniResult::parse(new.to_string().as_bytes()).unwrap(),
            result
        );
    }

    #[test]
    fn the_pod_sees_its_own_address_gateway_and_mac() {
        let result = CniResult::parse(OLD.as_bytes()).unwrap();
        let attached = result.attached("net", "eth0");
        assert_eq!(attached.ips.len(), 1);
        assert_eq!(attached.mac.unwrap().to_string(), "0a:58:0a:01:00:02");
        assert_eq!(attached.gateways, ["10.1.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(attached.dns.nameservers, ["10.0.0.1"]);
    }

    #[test]
    fn nonsense_is_an_error() {
        for bad in [
            "",
            "[]",
            r#"{"ips":[{"address":"10.1.0.2/99"}]}"#,
            r#"{"routes":[{}]}"#,
        ] {
            assert!(CniResult::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
