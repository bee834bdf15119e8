//! Routes. rtnetlink(7) RTM_*ROUTE, linux/rtnetlink.h.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address::family;
use crate::Result;
use netlink::attribute::{Attributes, u32_of};
use netlink::{Message, Request, Socket};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
/// Length of `struct rtmsg`.
const ROUTE: usize = 12;

/// A route to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    /// Destination.
    pub(crate) to: IpNet,
    /// Next hop; `None` when the destination is on the link itself.
    pub(crate) via: Option<IpAddr>,
    /// Largest packet on this path (CNI 1.1).
    pub(crate) mtu: Option<u32>,
    /// Largest TCP segment to announce on this path (CNI 1.1).
    pub(crate) advmss: Option<u32>,
    /// Metric (CNI 1.1).
    pub(crate) priority: Option<u32>,
}

impl Route {
    /// A route with no special wishes.
    pub(crate) fn new(to: IpNet, via: Option<IpAddr>) -> Self {
        Route {
            to,
            via,
            mtu: None,
            advmss: None,
            priority: None,
        }
    }
}

fn header(to: IpNet, scope: u8) -> [u8; ROUTE] {
    let mut bytes = [0; ROUTE];
    bytes[0] = family(to.addr());
    bytes[1] = to.prefix_len();
    bytes[4] = RT_TABLE_MAIN;
    bytes[5] = RTPROT_STATIC;
    bytes[6] = scope;
    bytes[7] = RTN_UNICAST;
    bytes
}

/// Adds a route over the link with this number. The same route there already counts as added.
pub(crate) fn add(index: u32, name: &str, route: &Route) -> Request {
    let scope = if route.via.is_some() {
        RT_SCOPE_UNIVERSE
    } else {
        RT_SCOPE_LINK
    };
    let mut message = Message::create(RTM_NEWROUTE).header(&header(route.to, scope));
    if route.to.prefix_len() > 0 {
        message.ip(RTA_DST, route.to.network());
    }
    message.u32(RTA_OIF, index);
    if let Some(via) = route.via {
        message.ip(RTA_GATEWAY, via);
    }
    if let Some(priority) = route.priority {
        message.u32(RTA_PRIORITY, priority);
    }
    if route.mtu.is_some() || route.advmss.is_some() {
        message.nest(RTA_METRICS, |metrics| {
            for (kind, value) in [(RTAX_MTU, route.mtu), (RTAX_ADVMSS, route.advmss)] {
                if let Some(value) = value {
                    metrics.u32(kind, value);
                }
            }
        });
    }
    let via = route
        .via
        .map(|via| format!(" via {via}"))
        .unwrap_or_default();
    let object = format!("to {}{via} on {name}", route.to);
    Request::new("add route", object, message).accept(libc::EEXIST)
}

/// Removes the route to a destination over a link; one that is not there counts as removed.
pub(crate) fn delete(index: u32, name: &str, to: IpNet) -> Request {
    let mut bytes = header(to, RT_SCOPE_NOWHERE);
    // Whoever made it: the kernel makes one of its own for an address's prefix.
    bytes[5] = 0;
    let mut message = Message::change(RTM_DELROUTE).header(&bytes);
    message.ip(RTA_DST, to.network()).u32(RTA_OIF, index);
    Request::new("delete route", format!("to {to} on {name}"), message).accept(libc::ESRCH)
}

/// "Any scope" in a deletion.
const RT_SCOPE_NOWHERE: u8 = 255;

/// The number of the link over which packets to `ip` leave.
pub(crate) fn link_to(socket: &mut Socket, ip: IpAddr) -> Result<u32> {
    let mut bytes = [0; ROUTE];
    bytes[0] = family(ip);
    bytes[1] = if ip.is_ipv4() { 32 } else { 128 };
    let mut message = Message::get(RTM_GETROUTE).header(&bytes);
    message.ip(RTA_DST, ip);
    let request = Request::new("look up route", format!("to {ip}"), message);
    Ok(socket.get(request, |payload| {
        Attributes::after(payload, ROUTE)
            .get(RTA_OIF)
            .and_then(u32_of)
    })?)
}
