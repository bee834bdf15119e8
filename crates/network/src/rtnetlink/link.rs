//! Links: bridges, veth pairs, up and down, look-ups and counters. rtnetlink(7) RTM_*LINK,
//! linux/if_link.h. Only requests and their answers; which link a pod needs is the plugins' matter.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Error, InterfaceStats, Mac, Result};
use netlink::attribute::{Attributes, text_of, u32_of};
pub(crate) use netlink::link::up;
use netlink::link::{
    DELETE, EXT_MASK, GET, HEADER, NAME, NET_NS_FD, NEW, SET, SKIP_STATS, UP, header,
};
use netlink::{Message, Request, Socket};

const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_STATS64: u16 = 23;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_MACVLAN_MODE: u16 = 1;

const IFF_LOOPBACK: u32 = 8;

/// What a look-up tells about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Interface number.
    pub(crate) index: u32,
    /// Name.
    pub(crate) name: String,
    /// Hardware address, for Ethernet-like links.
    pub(crate) mac: Option<Mac>,
    /// Maximum packet size.
    pub(crate) mtu: u32,
    /// Driver name ("bridge", "veth"); empty for hardware.
    pub(crate) kind: String,
}

/// A veth pair to be made.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    /// Name of the host's end.
    pub(crate) name: &'a str,
    /// Bridge that the host's end becomes a port of. With one the host's end comes up at once.
    pub(crate) master: Option<u32>,
    /// Maximum packet size of both ends; 0 for the kernel's default.
    pub(crate) mtu: u32,
    /// Name of the pod's end.
    pub(crate) peer: &'a str,
    /// Where the pod's end goes.
    pub(crate) netns: BorrowedFd<'a>,
    /// Hardware address of the pod's end; `None`: the kernel's choice.
    pub(crate) mac: Option<Mac>,
}

/// An interface beside a link of the host, to be made.
#[derive(Debug)]
pub(crate) struct Macvlan<'a> {
    /// Its name in the pod.
    pub(crate) name: &'a str,
    /// Number of the link that it is beside.
    pub(crate) parent: u32,
    /// MACVLAN_MODE_*.
    pub(crate) mode: u32,
    /// Maximum packet size; 0 for that of the link.
    pub(crate) mtu: u32,
    /// Hardware address; `None`: the kernel's choice.
    pub(crate) mac: Option<Mac>,
    /// Where it goes.
    pub(crate) netns: BorrowedFd<'a>,
}

/// Makes it in the pod in one go.
pub(crate) fn new_macvlan(wish: &Macvlan<'_>) -> Request {
    let mut message = Message::create(NEW).header(&header(0, 0, 0));
    message.text(NAME, wish.name).u32(IFLA_LINK, wish.parent);
    if wish.mtu != 0 {
        message.u32(IFLA_MTU, wish.mtu);
    }
    if let Some(mac) = wish.mac {
        message.bytes(IFLA_ADDRESS, &mac.0);
    }
    // The number is only read while the request is sent, within the borrow of the fd.
    message.u32(NET_NS_FD, wish.netns.as_raw_fd().cast_unsigned());
    message.nest(IFLA_LINKINFO, |link| {
        link.text(IFLA_INFO_KIND, "macvlan")
            .nest(IFLA_INFO_DATA, |data| {
                data.u32(IFLA_MACVLAN_MODE, wish.mode);
            });
    });
    Request::new(
        "create macvlan",
        format!("{} in the pod", wish.name),
        message,
    )
}

/// Makes a bridge with a fixed hardware address: the kernel would change it with every port.
pub(crate) fn new_bridge(name: &str, mac: Mac, mtu: u32, group: u32) -> Request {
    let mut message = Message::create(NEW).header(&header(0, 0, 0));
    message.text(NAME, name).bytes(IFLA_ADDRESS, &mac.0);
    message.u32(IFLA_GROUP, group);
    if mtu != 0 {
        message.u32(IFLA_MTU, mtu);
    }
    message.nest(IFLA_LINKINFO, |link| {
        link.text(IFLA_INFO_KIND, "bridge");
    });
    Request::new("create bridge", name, message)
}

/// Puts a link into a group, by which rules know it.
pub(crate) fn set_group(index: u32, name: &str, group: u32) -> Request {
    let mut message = Message::change(SET).header(&header(index, 0, 0));
    message.u32(IFLA_GROUP, group);
    Request::new("set the group of link", name, message)
}

/// Makes a veth pair in one go: the host's end in the bridge, the pod's end in the pod. Both are down.
pub(crate) fn new_veth(veth: &Veth<'_>) -> Request {
    let mut message = Message::create(NEW).header(&header(0, 0, 0));
    message.text(NAME, veth.name);
    if let Some(master) = veth.master {
        message.u32(IFLA_MASTER, master);
    }
    if veth.mtu != 0 {
        message.u32(IFLA_MTU, veth.mtu);
    }
    message.nest(IFLA_LINKINFO, |link| {
        link.text(IFLA_INFO_KIND, "veth")
            .nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&header(0, 0, 0)).text(NAME, veth.peer);
                    if veth.mtu != 0 {
                        peer.u32(IFLA_MTU, veth.mtu);
                    }
                    if let Some(mac) = veth.mac {
                        peer.bytes(IFLA_ADDRESS, &mac.0);
                    }
                    // The number is only read while the request is sent, within the borrow of the fd.
                    peer.u32(NET_NS_FD, veth.netns.as_raw_fd().cast_unsigned());
                });
            });
    });
    Request::new(
        "create veth",
        format!("{} with {} in the pod", veth.name, veth.peer),
        message,
    )
}

/// Cuts a link off: nothing passes through a veth pair with one end down. Takes a tenth of a
/// millisecond, where deleting the link takes many. One that is not there counts as cut off.
pub(crate) fn cut_off(index: u32, name: &str) -> Request {
    let message = Message::change(SET).header(&header(index, 0, UP));
    Request::new("cut off link", name, message).accept(libc::ENODEV)
}

/// Brings a bridge's port up. `hairpin` lets the bridge send a frame back through the port it came from: what
/// a pod sends to a host port of its own comes back so where the kernel passes bridged packets to nftables
/// (br_netfilter).
pub(crate) fn start_port(name: &str, hairpin: bool) -> Request {
    let mut message = Message::change(NEW).header(&header(0, UP, UP));
    message.text(NAME, name);
    if hairpin {
        message.nest(IFLA_LINKINFO, |link| {
            link.text(IFLA_INFO_SLAVE_KIND, "bridge")
                .nest(IFLA_INFO_SLAVE_DATA, |port| {
                    port.u8(IFLA_BRPORT_MODE, 1);
                });
        });
    }
    Request::new("bring up bridge port", name, message)
}

/// Deletes a link by its number, which is not given out again: a link made since under the same name
/// is safe. One that is not there counts as deleted.
pub(crate) fn delete(index: u32, name: &str) -> Request {
    let message = Message::change(DELETE).header(&header(index, 0, 0));
    Request::new("delete link", name, message).accept(libc::ENODEV)
}

/// Looks a link up by its name; `None` when there is none.
pub(crate) fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut message = Message::get(GET).header(&header(0, 0, 0));
    message.text(NAME, name).u32(EXT_MASK, SKIP_STATS);
    match socket.get(Request::new("look up link", name, message), read) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Looks a link up by its number.
pub(crate) fn by_index(socket: &mut Socket, index: u32) -> Result<Link> {
    let mut message = Message::get(GET).header(&header(index, 0, 0));
    message.u32(EXT_MASK, SKIP_STATS);
    let request = Request::new("look up link", format!("number {index}"), message);
    Ok(socket.get(request, read)?)
}

fn read(payload: &[u8]) -> Option<Link> {
    let attributes = Attributes::after(payload, HEADER);
    let kind = attributes
        .get(IFLA_LINKINFO)
        .and_then(|link| Attributes::nested(link).get(IFLA_INFO_KIND))
        .map(text_of);
    Some(Link {
        index: u32_of(payload.get(4..8)?)?,
        name: text_of(attributes.get(NAME)?),
        mac: attributes
            .get(IFLA_ADDRESS)
            .and_then(|mac| mac.try_into().ok())
            .map(Mac),
        mtu: attributes.get(IFLA_MTU).and_then(u32_of).unwrap_or(0),
        kind: kind.unwrap_or_default(),
    })
}

/// Counters of all links but loopback ones.
pub(crate) fn stats(socket: &mut Socket) -> Result<Vec<InterfaceStats>> {
    let message = Message::dump(GET).header(&header(0, 0, 0));
    let all = socket.dump(Request::new("list", "links", message), |payload| {
        let flags = payload.get(8..12).and_then(u32_of).unwrap_or(0);
        (flags & IFF_LOOPBACK == 0).then(|| read_stats(payload))
    })?;
    let whole: Option<Vec<InterfaceStats>> = all.into_iter().collect();
    whole.ok_or_else(|| Error::answer("list", "links".to_owned(), "counters are missing"))
}

/// The first eight of `struct rtnl_link_stats64`.
fn read_stats(payload: &[u8]) -> Option<InterfaceStats> {
    let attributes = Attributes::after(payload, HEADER);
    let counters = attributes.get(IFLA_STATS64)?;
    let counter = |index: usize| -> Option<u64> {
        Some(u64::from_ne_bytes(
            counters.get(index * 8..index * 8 + 8)?.try_into().ok()?,
        ))
    };
    Some(InterfaceStats {
        name: text_of(attributes.get(NAME)?),
        rx_packets: counter(0)?,
        tx_packets: counter(1)?,
        rx_bytes: counter(2)?,
        tx_bytes: counter(3)?,
        rx_errors: counter(4)?,
        tx_errors: counter(5)?,
        rx_dropped: counter(6)?,
        tx_dropped: counter(7)?,
    })
}
