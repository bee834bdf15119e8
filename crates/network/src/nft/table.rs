//! floe's own nftables table: masquerading per subnet, host ports as elements of four maps, and a
//! guard for 127.0.0.0/8. Made once; a pod adds elements and no rules.
//!
//! ```text
//! table inet floe-BRIDGE {
//!   map host_ports_v4    { protocol . port : pod address . port }               any host address
//!   map host_ports_ip_v4 { protocol . host address . port : pod address . port }   (and both for v6)
//!   chain guard       prerouting, raw:   from outside to 127.0.0.0/8: drop
//!   chain prerouting  nat: to a local address: jump host_ports
//!   chain output      nat: the same for what the host itself sends
//!   chain host_ports  dnat to the pod that the maps name
//!   chain postrouting nat: from 127.0.0.0/8 to a host port's pod: masquerade
//!   chain layout_N     empty: the version of this layout
//!   chain masquerade_SUBNET  nat: from the subnet to elsewhere, or to a host port of its own: masquerade
//! }
//! ```
//! The guard is needed because `route_localnet`, which host ports on 127.0.0.1 rest on, would
//! otherwise let pods talk to what listens on the host's loopback.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;

use super::batch::{
    Batch, Element, Hook, NFT_MSG_GETCHAIN, NFT_MSG_GETSETELEM, NFT_MSG_GETTABLE, NFTA_CHAIN_NAME,
    NFTA_CHAIN_TABLE, NFTA_LIST_ELEM, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET,
    NFTA_SET_ELEM_LIST_TABLE, NFTA_TABLE_NAME, inet, kind,
};
use super::expression::{Base, Expression, Meta};
use super::forward::{Forward, MAPS, element, owner_of, read_element};
use crate::{Error, Result};
use netlink::attribute::Attributes;
use netlink::{Message, Request, Socket};

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const RTN_LOCAL: [u8; 4] = 2u32.to_ne_bytes();
const IPS_DST_NAT: [u8; 4] = 32u32.to_ne_bytes();

/// An empty chain that tells which version of this file made the table; to be renamed when the rules
/// below change. Chains that masquerade have a name of their own to change.
const LAYOUT: &str = "layout_1";

const GUARD: Hook = Hook {
    kind: "filter",
    number: 0,
    priority: -300,
};
const PREROUTING: Hook = Hook {
    kind: "nat",
    number: 0,
    priority: -100,
};
const OUTPUT: Hook = Hook {
    kind: "nat",
    number: 3,
    priority: -100,
};
const POSTROUTING: Hook = Hook {
    kind: "nat",
    number: 4,
    priority: 100,
};

/// How often the removal of a pod's host ports is tried while others change them.
const ATTEMPTS: usize = 5;

/// The table of one engine.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    name: String,
}

impl Table {
    /// The table with this name; touches nothing.
    pub(crate) fn new(name: String) -> Self {
        Table { name }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is there, in this version's layout: somebody may have flushed the rule set, and an
    /// older floe may have made it.
    pub(crate) fn is_current(&self, socket: &mut Socket) -> Result<bool> {
        self.has_chain(socket, LAYOUT)
    }

    fn has_chain(&self, socket: &mut Socket, name: &str) -> Result<bool> {
        let mut message = Message::get(kind(NFT_MSG_GETCHAIN)).header(&inet());
        message
            .text(NFTA_CHAIN_TABLE, &self.name)
            .text(NFTA_CHAIN_NAME, name);
        let object = format!("{name} in nftables table {}", self.name);
        match socket.get(Request::new("look up chain", object, message), |_| Some(())) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether packets from `subnet` are masqueraded.
    pub(crate) fn masquerades(&self, socket: &mut Socket, subnet: IpNet) -> Result<bool> {
        self.has_chain(socket, &masquerade_chain(subnet))
    }

    fn exists(&self, socket: &mut Socket) -> Result<bool> {
        let mut message = Message::get(kind(NFT_MSG_GETTABLE)).header(&inet());
        message.text(NFTA_TABLE_NAME, &self.name);
        match socket.get(
            Request::new("look up nftables table", &self.name, message),
            |_| Some(()),
        ) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the table and all that does not depend on pods; harmless when it is there.
    pub(crate) fn ensure(&self, socket: &mut Socket) -> Result<()> {
        let mut batch = Batch::new(&self.name);
        batch.table();
        for map in &MAPS {
            batch.map(map);
        }
        guard(&mut batch);
        host_ports(&mut batch);
        batch.empty_chain("postrouting", Some(POSTROUTING));
        let mut rule = from(NFPROTO_IPV4, &LOOPBACK_MASK, &LOOPBACK).to_vec();
        rule.extend_from_slice(&TRANSLATED);
        rule.push(Expression::Masquerade);
        batch.rule("postrouting", &rule);
        batch.empty_chain(LAYOUT, None);
        batch.commit(socket)
    }

    /// Makes packets from `subnet` to elsewhere leave with the host's address. Needs `ensure`.
    pub(crate) fn masquerade(&self, socket: &mut Socket, subnet: IpNet) -> Result<()> {
        let (family, net, mask, multicast, multicast_mask): (u8, _, _, &[u8], &[u8]) =
            match subnet.trunc() {
                IpNet::V4(net) => (
                    NFPROTO_IPV4,
                    net.addr().octets().to_vec(),
                    net.netmask().octets().to_vec(),
                    &[224, 0, 0, 0],
                    &[240, 0, 0, 0],
                ),
                IpNet::V6(net) => (
                    NFPROTO_IPV6,
                    net.addr().octets().to_vec(),
                    net.netmask().octets().to_vec(),
                    &MULTICAST_V6,
                    &MULTICAST_V6,
                ),
            };
        let chain = masquerade_chain(subnet);
        let destination = destination(family);
        let mut batch = Batch::new(&self.name);
        batch.empty_chain(&chain, Some(POSTROUTING));

        let mut away = from(family, &mask, &net).to_vec();
        away.extend([
            destination,
            Expression::Mask(0, &mask),
            Expression::Differs(0, &net),
        ]);
        away.extend([destination, Expression::Mask(0, multicast_mask)]);
        away.extend([Expression::Differs(0, multicast), Expression::Masquerade]);
        batch.rule(&chain, &away);

        // A pod that asks for a host port of a pod on its own bridge must get the answer through the
        // host, or it would not recognise the sender.
        let mut around = from(family, &mask, &net).to_vec();
        around.extend([
            destination,
            Expression::Mask(0, &mask),
            Expression::Equal(0, &net),
        ]);
        around.extend_from_slice(&TRANSLATED);
        around.push(Expression::Masquerade);
        batch.rule(&chain, &around);
        batch.commit(socket)
    }

    /// Forgets that packets from `subnet` are masqueraded; nothing may be there.
    pub(crate) fn forget_masquerade(&self, socket: &mut Socket, subnet: IpNet) -> Result<()> {
        let chain = masquerade_chain(subnet);
        if !self.has_chain(socket, &chain)? {
            return Ok(());
        }
        let mut batch = Batch::new(&self.name);
        batch.empty_chain(&chain, Some(POSTROUTING));
        batch.delete_chain(&chain);
        batch.commit(socket)
    }

    /// Forwards host ports for `owner`, all or none.
    pub(crate) fn forward(
        &self,
        socket: &mut Socket,
        owner: &str,
        forwards: &[Forward],
    ) -> Result<()> {
        let elements: Vec<Element> = forwards
            .iter()
            .filter_map(|forward| element(owner, forward))
            .collect();
        let mut batch = Batch::new(&self.name);
        batch.add_elements(&elements);
        if batch.is_empty() {
            Ok(())
        } else {
            batch.commit(socket)
        }
    }

    /// Who has the host port of each of these mappings, if anybody.
    pub(crate) fn owners(
        &self,
        socket: &mut Socket,
        forwards: &[Forward],
    ) -> Result<Vec<Option<String>>> {
        let taken: HashMap<_, _> = self
            .elements(socket)?
            .into_iter()
            .map(|one| ((one.map, one.key.clone()), one))
            .collect();
        let owner = |forward| {
            let wanted = element("", forward)?;
            owner_of(taken.get(&(wanted.map, wanted.key))?)
        };
        Ok(forwards.iter().map(owner).collect())
    }

    /// Everybody who has a host port.
    pub(crate) fn all_owners(&self, socket: &mut Socket) -> Result<BTreeSet<String>> {
        let elements = self.elements(socket)?;
        Ok(elements.iter().filter_map(owner_of).collect())
    }

    /// Removes all host ports of `owner`.
    pub(crate) fn release(&self, socket: &mut Socket, owner: &str) -> Result<()> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut own = self.elements(socket)?;
            own.retain(|element| owner_of(element).as_deref() == Some(owner));
            let mut batch = Batch::new(&self.name);
            batch.delete_elements(&own);
            if batch.is_empty() {
                return Ok(());
            }
            match batch.commit(socket) {
                // Somebody else removes them too.
                Err(error) if error.errno() == Some(libc::ENOENT) && attempts < ATTEMPTS => {}
                other => return other,
            }
        }
    }

    /// Removes the table, if it is there.
    pub(crate) fn delete(&self, socket: &mut Socket) -> Result<()> {
        if !self.exists(socket)? {
            return Ok(());
        }
        let mut batch = Batch::new(&self.name);
        batch.delete_table();
        batch.commit(socket)
    }

    /// All elements of all maps; none when there is no table.
    fn elements(&self, socket: &mut Socket) -> Result<Vec<Element>> {
        let mut all = Vec::new();
        for map in &MAPS {
            let mut message = Message::dump(kind(NFT_MSG_GETSETELEM)).header(&inet());
            message
                .text(NFTA_SET_ELEM_LIST_TABLE, &self.name)
                .text(NFTA_SET_ELEM_LIST_SET, map.name);
            let object = format!(
                "elements of map {} in nftables table {}",
                map.name, self.name
            );
            let listed = socket.dump(Request::new("list", object, message), |payload| {
                let list = Attributes::after(payload, 4).get(NFTA_SET_ELEM_LIST_ELEMENTS)?;
                let elements = Attributes::nested(list)
                    .filter(|(kind, _)| *kind == NFTA_LIST_ELEM)
                    .filter_map(|(_, value)| read_element(map.name, value));
                Some(elements.collect::<Vec<_>>())
            });
            match listed {
                Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
                other => all.extend(other?.into_iter().flatten()),
            }
        }
        Ok(all)
    }
}

const LOOPBACK: [u8; 4] = [127, 0, 0, 0];
const LOOPBACK_MASK: [u8; 4] = [255, 0, 0, 0];
const MULTICAST_V6: [u8; 16] = [0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Goes on for connections that a host port redirected.
const TRANSLATED: [Expression<'static>; 3] = [
    Expression::Status(0),
    Expression::Mask(0, &IPS_DST_NAT),
    Expression::Differs(0, &[0, 0, 0, 0]),
];

/// Goes on for all others.
pub(super) const NOT_TRANSLATED: [Expression<'static>; 3] = [
    Expression::Status(0),
    Expression::Mask(0, &IPS_DST_NAT),
    Expression::Equal(0, &[0, 0, 0, 0]),
];

/// Goes on for packets of this family from this network.
fn from<'a>(family: u8, mask: &'a [u8], net: &'a [u8]) -> [Expression<'a>; 5] {
    let source = match family {
        NFPROTO_IPV4 => Expression::Payload(Base::Network, 12, 4, 0),
        _ => Expression::Payload(Base::Network, 8, 16, 0),
    };
    let [meta, is] = family_is(family);
    [
        meta,
        is,
        source,
        Expression::Mask(0, mask),
        Expression::Equal(0, net),
    ]
}

fn family_is<'a>(family: u8) -> [Expression<'a>; 2] {
    let value: &'static [u8] = if family == NFPROTO_IPV4 {
        &[NFPROTO_IPV4]
    } else {
        &[NFPROTO_IPV6]
    };
    [
        Expression::Meta(Meta::Family, 0),
        Expression::Equal(0, value),
    ]
}

/// Loads the destination address into register 0.
fn destination<'a>(family: u8) -> Expression<'a> {
    match family {
        NFPROTO_IPV4 => Expression::Payload(Base::Network, 16, 4, 0),
        _ => Expression::Payload(Base::Network, 24, 16, 0),
    }
}

/// "masquerade_10_87_0_0_16": nft(8) wants names of letters, digits and underscores.
fn masquerade_chain(subnet: IpNet) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!(
        "masquerade_{}",
        subnet
            .trunc()
            .to_string()
            .chars()
            .map(plain)
            .collect::<String>()
    )
}

/// Packets for 127.0.0.0/8 that do not come from the host itself end here.
fn guard(batch: &mut Batch<'_>) {
    const LO: [u8; 4] = 1u32.to_ne_bytes();
    let [meta, is] = family_is(NFPROTO_IPV4);
    batch.empty_chain("guard", Some(GUARD));
    batch.rule(
        "guard",
        &[
            meta,
            is,
            Expression::Meta(Meta::InputInterface, 0),
            Expression::Differs(0, &LO),
            destination(NFPROTO_IPV4),
            Expression::Mask(0, &LOOPBACK_MASK),
            Expression::Equal(0, &LOOPBACK),
            Expression::Drop,
        ],
    );
}

/// The chains that redirect host ports.
fn host_ports(batch: &mut Batch<'_>) {
    batch.empty_chain("host_ports", None);
    for (family, words, plain, with_ip) in [
        (NFPROTO_IPV4, 1, "host_ports_v4", "host_ports_ip_v4"),
        (NFPROTO_IPV6, 4, "host_ports_v6", "host_ports_ip_v6"),
    ] {
        let [meta, is] = family_is(family);
        let protocol = Expression::Meta(Meta::Protocol, 0);
        let port = |to| Expression::Payload(Base::Transport, 2, 2, to);
        let address = match family {
            NFPROTO_IPV4 => Expression::Payload(Base::Network, 16, 4, 1),
            _ => Expression::Payload(Base::Network, 24, 16, 1),
        };
        let send = Expression::Destination(family, 0, words);
        let exact = Expression::Lookup(with_ip, 0, 0);
        batch.rule(
            "host_ports",
            &[meta, is, protocol, address, port(1 + words), exact, send],
        );
        let any = Expression::Lookup(plain, 0, 0);
        batch.rule("host_ports", &[meta, is, protocol, port(1), any, send]);
    }
    for (chain, hook) in [("prerouting", PREROUTING), ("output", OUTPUT)] {
        batch.empty_chain(chain, Some(hook));
        let local = [
            Expression::DestinationKind(0),
            Expression::Equal(0, &RTN_LOCAL),
        ];
        batch.rule(chain, &[local[0], local[1], Expression::Jump("host_ports")]);
    }
}

/// [`Error::PortTaken`] for the first of the forwards whose port another owner has, if that is why
/// adding them failed.
pub(crate) fn explain_taken(
    table: &Table,
    socket: &mut Socket,
    forwards: &[Forward],
    error: Error,
) -> Error {
    if error.errno() != Some(libc::EEXIST) {
        return error;
    }
    let owners = table.owners(socket, forwards).unwrap_or_default();
    let taken = forwards
        .iter()
        .zip(owners)
        .find_map(|(forward, owner)| Some((forward.mapping, owner?)));
    match taken {
        Some((mapping, owner)) => Error::PortTaken { mapping, owner },
        None => error,
    }
}
