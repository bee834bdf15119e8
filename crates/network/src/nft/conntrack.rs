//! Forgetting connections that the kernel tracks. A host port only redirects new connections; for
//! UDP, whatever keeps sending to the port from before it was mapped, or after it went to another
//! pod, counts as old. linux/netfilter/nfnetlink_conntrack.h.

use std::collections::HashSet;

use super::batch::header;
use crate::{PortMapping, Protocol, Result};
use netlink::attribute::Attributes;
use netlink::{Message, Request, Socket};

const IPCTNL_MSG_CT_GET: u16 = (1 << 8) | 1;
const IPCTNL_MSG_CT_DELETE: u16 = (1 << 8) | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// Forgets all UDP connections to the host ports of these mappings.
pub(crate) fn forget_udp(socket: &mut Socket, mappings: &[PortMapping]) -> Result<()> {
    let udp = |one: &&PortMapping| one.protocol == Protocol::Udp && one.host_port != 0;
    let ports: HashSet<u16> = mappings
        .iter()
        .filter(udp)
        .map(|one| one.host_port)
        .collect();
    if ports.is_empty() {
        return Ok(());
    }
    let mut requests = Vec::new();
    for family in [NFPROTO_IPV4, NFPROTO_IPV6] {
        let message = Message::dump(IPCTNL_MSG_CT_GET).header(&header(family, 0));
        let request = Request::new("list", "tracked connections", message);
        requests.extend(socket.dump(request, |payload| {
            let tuple = Attributes::after(payload, 4).get(CTA_TUPLE_ORIG)?;
            let ours = udp_port(tuple).is_some_and(|port| ports.contains(&port));
            ours.then(|| delete(family, tuple))
        })?);
    }
    Ok(socket.send(requests)?)
}

/// The destination port of a connection's first packet, if that is UDP.
fn udp_port(tuple: &[u8]) -> Option<u16> {
    let protocol = Attributes::nested(Attributes::nested(tuple).get(CTA_TUPLE_PROTO)?);
    if protocol.get(CTA_PROTO_NUM)? != [Protocol::Udp.number()] {
        return None;
    }
    Some(u16::from_be_bytes(
        protocol.get(CTA_PROTO_DST_PORT)?.try_into().ok()?,
    ))
}

/// The connection is named by its first packet, as the kernel wrote it.
fn delete(family: u8, tuple: &[u8]) -> Request {
    let mut message = Message::change(IPCTNL_MSG_CT_DELETE).header(&header(family, 0));
    message.nest(CTA_TUPLE_ORIG, |nest| {
        nest.raw(tuple);
    });
    // It may have ended meanwhile.
    Request::new("forget", "a tracked connection", message).accept(libc::ENOENT)
}
