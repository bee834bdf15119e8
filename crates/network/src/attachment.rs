//! What a pod asks of the network and what it got: the values that cross this crate's border.
//! No behaviour beyond parsing and printing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One pod's wish to be on the network.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// The pod's id: CNI's container id. Must be a plain file name.
    pub id: &'a str,
    /// Path of the pod's network namespace (`/proc/PID/ns/net`, `/run/netns/NAME`). Needed by
    /// `setup`; `None` in `teardown` means that it is gone.
    pub netns: Option<&'a Path>,
    /// Name of the interface inside the pod, `eth0` as a rule.
    pub ifname: &'a str,
    /// The pod's name (`K8S_POD_NAME`).
    pub name: &'a str,
    /// The pod's Kubernetes namespace (`K8S_POD_NAMESPACE`).
    pub namespace: &'a str,
    /// The pod's Kubernetes uid (`K8S_POD_UID`).
    pub uid: &'a str,
    /// Host ports to forward to the pod.
    pub port_mappings: &'a [PortMapping],
    /// The pod's annotations; `kubernetes.io/{ingress,egress}-bandwidth` are passed to plugins with
    /// the `bandwidth` capability.
    pub annotations: &'a BTreeMap<String, String>,
    /// Name service settings that the pod asks for, for plugins with the `dns` capability.
    pub dns: Option<&'a Dns>,
    /// The pod's cgroup, for plugins with the `cgroupPath` capability; empty: unknown.
    pub cgroup: &'a str,
    /// Addresses that the pod is to have, at most one of each subnet; the others are chosen. Not remembered:
    /// what was given is in the result.
    pub ips: &'a [IpAddr],
    /// The hardware address that its interface is to have.
    pub mac: Option<Mac>,
}

static NO_ANNOTATIONS: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Attachment<'a> {
    /// An attachment known by the pod's id only: all that `teardown` needs.
    pub fn of(id: &'a str) -> Self {
        Attachment {
            id,
            netns: None,
            ifname: "eth0",
            name: "",
            namespace: "",
            uid: "",
            port_mappings: &[],
            annotations: &NO_ANNOTATIONS,
            dns: None,
            cgroup: "",
            ips: &[],
            mac: None,
        }
    }

    /// Is anything of its interface said that a network of floe's own can do?
    pub(crate) fn is_particular(&self) -> bool {
        !self.ips.is_empty() || self.mac.is_some()
    }
}

/// What `setup` gave a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Name of the network (of the configuration list).
    pub network: String,
    /// The pod's addresses with their prefix length, in the order of the configuration: the first is
    /// the pod's primary address.
    pub ips: Vec<IpNet>,
    /// Hardware address of the pod's interface, when a plugin told it.
    pub mac: Option<Mac>,
    /// Gateways of the addresses, at most one per family, the primary one first.
    pub gateways: Vec<IpAddr>,
    /// Name service settings, when a plugin gave some.
    pub dns: Dns,
    /// All interfaces that were made, inside and outside the pod.
    pub interfaces: Vec<Interface>,
}

/// Name service settings, as a CNI result has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers, in order of preference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Domains to search, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

/// An interface of a CNI result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address. One that is empty, or not an Ethernet one, reads as none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "ethernet_or_none"
    )]
    pub mac: Option<Mac>,
    /// Its maximum packet size in bytes (CNI 1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Path of the network namespace it is in; absent for the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
}

/// Plugins write an empty text for "none", and InfiniBand's addresses are longer.
fn ethernet_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mac>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| text.parse().ok()))
}

/// An Ethernet hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not six hexadecimal bytes separated by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a hardware address: {0:?}")]
pub struct BadMac(String);

impl FromStr for Mac {
    type Err = BadMac;
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            *byte = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| BadMac(text.to_owned()))?;
        }
        match parts.next() {
            None => Ok(Mac(bytes)),
            Some(_) => Err(BadMac(text.to_owned())),
        }
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Transport protocol of a port mapping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, also when nothing is said.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port on the host; 0 means that the port is only declared, not forwarded.
    pub host_port: u16,
    /// Port in the pod.
    pub container_port: u16,
    /// Transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Address of the host to listen on. `None`: all, of both families; `0.0.0.0` or `::`: all of
    /// that family.
    #[serde(default, rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            None => {}
        }
        write!(f, "{}/{}", self.host_port, self.protocol)
    }
}

/// Counters of one interface since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// The interface's name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Packets dropped on receiving.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped on sending.
    pub tx_dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_reads_what_it_prints_and_refuses_the_rest() {
        let mac: Mac = "0a:58:0A:57:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "0a:58:0a:57:00:02");
        for bad in [
            "",
            "0a:58:0a:57:00",
            "0a:58:0a:57:00:02:03",
            "0a:58:0a:57:00:zz",
            "a:b:c:d:e:f",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn port_mapping_has_the_names_of_the_cni_capability() {
        let json = r#"{"hostPort":8080,"containerPort":80,"protocol":"udp","hostIP":"::1"}"#;
        let mapping: PortMapping = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&mapping).unwrap(), json);
        assert_eq!(mapping.to_string(), "[::1]:8080/udp");
    }
}
