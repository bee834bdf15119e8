//! Host ports as elements of nftables maps: which map, which key, which value, and whose. Only the
//! encoding; `table` adds and removes them.

use std::net::IpAddr;

use super::batch::{
    Element, Map, NFTA_DATA_VALUE, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_USERDATA,
};
use crate::PortMapping;
use netlink::attribute::Attributes;

/// nft(8) data type numbers.
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;

/// For each family: any host address, and one.
pub(super) const MAPS: [Map; 4] = [
    Map {
        name: "host_ports_v4",
        key_types: &[PROTOCOL, PORT],
        key_length: 8,
        data_types: &[IPV4, PORT],
        data_length: 8,
    },
    Map {
        name: "host_ports_ip_v4",
        key_types: &[PROTOCOL, IPV4, PORT],
        key_length: 12,
        data_types: &[IPV4, PORT],
        data_length: 8,
    },
    Map {
        name: "host_ports_v6",
        key_types: &[PROTOCOL, PORT],
        key_length: 8,
        data_types: &[IPV6, PORT],
        data_length: 20,
    },
    Map {
        name: "host_ports_ip_v6",
        key_types: &[PROTOCOL, IPV6, PORT],
        key_length: 24,
        data_types: &[IPV6, PORT],
        data_length: 20,
    },
];

/// A host port and where it leads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forward {
    /// What the pod asked for.
    pub(crate) mapping: PortMapping,
    /// The pod's address.
    pub(crate) to: IpAddr,
}

/// The map element of a forward; `None` when host and pod address are of different families, where
/// nothing can be forwarded, or no host port is asked for.
pub(super) fn element(owner: &str, forward: &Forward) -> Option<Element> {
    let mapping = &forward.mapping;
    if mapping.host_port == 0 || !forward.is_possible() {
        return None;
    }
    let host = mapping.host_ip.filter(|ip| !ip.is_unspecified());
    let map = match (forward.to, host) {
        (IpAddr::V4(_), None) => MAPS[0].name,
        (IpAddr::V4(_), Some(_)) => MAPS[1].name,
        (IpAddr::V6(_), None) => MAPS[2].name,
        (IpAddr::V6(_), Some(_)) => MAPS[3].name,
    };
    let mut key = vec![mapping.protocol.number(), 0, 0, 0];
    if let Some(host) = host {
        push_ip(&mut key, host);
    }
    push_port(&mut key, mapping.host_port);
    let mut data = Vec::new();
    push_ip(&mut data, forward.to);
    push_port(&mut data, mapping.container_port);
    Some(Element {
        map,
        key,
        data,
        comment: comment(owner),
    })
}

impl Forward {
    /// Whether the host's and the pod's address are of the same family.
    pub(crate) fn is_possible(&self) -> bool {
        self.mapping
            .host_ip
            .is_none_or(|ip| ip.is_ipv4() == self.to.is_ipv4())
    }
}

fn push_ip(bytes: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
    }
}

/// A port, padded to a register.
fn push_port(bytes: &mut Vec<u8>, port: u16) {
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
}

/// The owner as `nft list` shows it: a comment (type 0, length, text with NUL).
fn comment(owner: &str) -> Vec<u8> {
    let text = owner
        .as_bytes()
        .get(..COMMENT_MAX)
        .unwrap_or(owner.as_bytes());
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}

/// Longest owner that fits into a comment.
const COMMENT_MAX: usize = 127;

/// Whose it is.
pub(super) fn owner_of(element: &Element) -> Option<String> {
    let text = element
        .comment
        .get(2..element.comment.len().checked_sub(1)?)?;
    String::from_utf8(text.to_vec()).ok()
}

/// An element as the kernel lists it.
pub(super) fn read_element(map: &'static str, value: &[u8]) -> Option<Element> {
    let attributes = Attributes::nested(value);
    let inner = |kind| {
        attributes
            .get(kind)
            .and_then(|nest| Attributes::nested(nest).get(NFTA_DATA_VALUE))
    };
    Some(Element {
        map,
        key: inner(NFTA_SET_ELEM_KEY)?.to_vec(),
        data: inner(NFTA_SET_ELEM_DATA).unwrap_or_default().to_vec(),
        comment: attributes
            .get(NFTA_SET_ELEM_USERDATA)
            .unwrap_or_default()
            .to_vec(),
    })
}
