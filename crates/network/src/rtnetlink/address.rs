//! Addresses on links. rtnetlink(7) RTM_*ADDR, linux/if_addr.h.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::Result;
use netlink::attribute::Attributes;
use netlink::{Message, Request, Socket};

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
/// Length of `struct ifaddrmsg`.
const ADDRESS: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// Usable at once: floe gave the address, so there is no duplicate to look for.
const IFA_F_NODAD: u8 = 0x02;

/// The kernel's number of an address's family.
pub(super) fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// Adds an address to the link with this number. One that is there already counts as added.
pub(crate) fn add(index: u32, name: &str, address: IpNet) -> Request {
    let flags = if address.addr().is_ipv6() {
        IFA_F_NODAD
    } else {
        0
    };
    let mut header = [
        family(address.addr()),
        address.prefix_len(),
        flags,
        0,
        0,
        0,
        0,
        0,
    ];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::create(RTM_NEWADDR).header(&header);
    message
        .ip(IFA_LOCAL, address.addr())
        .ip(IFA_ADDRESS, address.addr());
    if let IpNet::V4(net) = address
        && net.prefix_len() < 31
    {
        message.ip(IFA_BROADCAST, IpAddr::V4(net.broadcast()));
    }
    Request::new("add address", format!("{address} on {name}"), message).accept(libc::EEXIST)
}

/// All addresses of the namespace's links, with their prefixes.
pub(crate) fn all(socket: &mut Socket) -> Result<Vec<IpNet>> {
    let message = Message::dump(RTM_GETADDR).header(&[0; ADDRESS]);
    let listed = socket.dump(Request::new("list", "addresses", message), |payload| {
        let attributes = Attributes::after(payload, ADDRESS);
        // Of IPv6, and of links that lead to one peer, there may be but one of them.
        let bytes = Attributes::after(payload, ADDRESS)
            .get(IFA_LOCAL)
            .or_else(|| attributes.get(IFA_ADDRESS))?;
        let ip = match bytes.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        };
        Some(IpNet::new(ip, *payload.get(1)?).ok())
    })?;
    Ok(listed.into_iter().flatten().collect())
}
