//! CNI results: read in any version from 0.1.0 to 1.1.0, kept in one form, written in the version of
//! the configuration. CNI specification, section 5. What older versions say otherwise is in `old_result`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::list::VERSIONS;
use super::old_result;
use crate::{Attached, Dns, Interface};

/// What plugins have done so far, in the form of version 1.1. Fields that floe does not know are
/// passed on to the next plugin untouched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CniResult {
    /// Interfaces made, inside and outside the pod.
    #[serde(
        default,
        deserialize_with = "null_is_none",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) interfaces: Vec<Interface>,
    /// Addresses given.
    #[serde(
        default,
        deserialize_with = "null_is_none",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) ips: Vec<IpConfig>,
    /// Routes made.
    #[serde(
        default,
        deserialize_with = "null_is_none",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) routes: Vec<RouteConfig>,
    /// Name service.
    #[serde(
        default,
        deserialize_with = "null_is_none",
        skip_serializing_if = "Dns::is_empty"
    )]
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
    #[serde(
        default,
        deserialize_with = "address_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) gateway: Option<IpAddr>,
    /// Index into the result's interfaces.
    #[serde(
        default,
        deserialize_with = "index_or_none",
        skip_serializing_if = "Option::is_none"
    )]
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
    #[serde(
        default,
        deserialize_with = "address_or_none",
        skip_serializing_if = "Option::is_none"
    )]
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
    /// Reads what a plugin printed that was spoken to in `version`.
    pub(crate) fn parse(bytes: &[u8], version: &str) -> serde_json::Result<CniResult> {
        let mut object: Map<String, Value> = serde_json::from_slice(bytes)?;
        let told = object.remove("cniVersion");
        let told = told.as_ref().and_then(Value::as_str).unwrap_or_default();
        let version = if told.is_empty() { version } else { told };
        if !VERSIONS.contains(&version) {
            return Err(serde_json::Error::custom(format_args!(
                "{version:?} is not a known cniVersion"
            )));
        }
        if old_result::is_of(version) {
            return old_result::read(object);
        }
        let mut result = CniResult::deserialize(Value::Object(object))?;
        for ip in &mut result.ips {
            ip.rest.remove("version");
        }
        Ok(result)
    }

    /// Writes it for a plugin that speaks `version`.
    pub(crate) fn write(&self, version: &str) -> serde_json::Result<Value> {
        if old_result::is_of(version) {
            return old_result::write(self, version);
        }
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

    /// The addresses of interfaces inside the pod, and those that belong to no interface. All of them
    /// when none does: there are plugins that mix up their interfaces.
    pub(crate) fn pod_ips(&self) -> impl Iterator<Item = &IpConfig> {
        let is_inside = |ip: &IpConfig| {
            let interface = ip.interface.and_then(|index| self.interfaces.get(index));
            interface.is_none_or(|one| one.sandbox.as_ref().is_some_and(|path| !path.is_empty()))
        };
        let any = self.ips.iter().any(is_inside);
        self.ips.iter().filter(move |ip| !any || is_inside(ip))
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

/// What a plugin writes as null is not there.
fn null_is_none<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Plugins write "" for no address.
pub(super) fn address_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(D::Error::custom),
    }
}

/// Plugins write -1 for no interface.
fn index_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let index = Option::<i64>::deserialize(deserializer)?;
    Ok(index.and_then(|index| usize::try_from(index).ok()))
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
        let result = CniResult::parse(OLD.as_bytes(), "1.1.0").unwrap();
        assert_eq!(result.ips[0].address.to_string(), "10.1.0.2/24");
        let old = result.write("0.3.1").unwrap();
        assert_eq!(old["ips"][0]["version"], "4");
        assert_eq!(old["cniVersion"], "0.3.1");
        assert_eq!(old["routes"][0]["scope"], 4);
        let new = result.write("1.1.0").unwrap();
        assert_eq!(new["ips"][0].get("version"), None);
        assert_eq!(
            CniResult::parse(new.to_string().as_bytes(), "0.4.0").unwrap(),
            result
        );
    }

    #[test]
    fn the_pod_sees_its_own_address_gateway_and_mac() {
        let result = CniResult::parse(OLD.as_bytes(), "1.1.0").unwrap();
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
            r#"{"cniVersion":"9.0.0"}"#,
            r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.2"}}"#,
            r#"{"ips":[{"address":"10.1.0.2/24","gateway":"near"}]}"#,
        ] {
            assert!(CniResult::parse(bad.as_bytes(), "1.0.0").is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_as_null_or_empty_is_not_there() {
        let text = r#"{"cniVersion":"0.3.1","interfaces":null,"routes":null,"dns":null,
            "ips":[{"version":"4","address":"10.1.0.2/24","gateway":"","interface":-1}]}"#;
        let result = CniResult::parse(text.as_bytes(), "0.3.1").unwrap();
        let wanted = IpConfig::new("10.1.0.2/24".parse().unwrap(), None);
        assert_eq!(result.pod_ips().collect::<Vec<_>>(), [&wanted]);
        assert!(
            CniResult::parse(br#"{"ips":null}"#, "1.0.0")
                .unwrap()
                .ips
                .is_empty()
        );
    }

    #[test]
    fn an_address_that_is_said_to_be_the_hosts_is_the_pods_when_there_is_no_other() {
        let text = r#"{"interfaces":[{"name":"cali1","sandbox":""},{"name":"eth0","sandbox":"/n"}],
            "ips":[{"address":"10.1.0.2/24","interface":0}]}"#;
        let result = CniResult::parse(text.as_bytes(), "1.0.0").unwrap();
        assert_eq!(result.pod_ips().count(), 1);
        let text = text.replace(
            "\"ips\":[",
            "\"ips\":[{\"address\":\"10.1.0.3/24\",\"interface\":1},",
        );
        let result = CniResult::parse(text.as_bytes(), "1.0.0").unwrap();
        let ips: Vec<String> = result.pod_ips().map(|ip| ip.address.to_string()).collect();
        assert_eq!(ips, ["10.1.0.3/24"]);
    }
}
