//! config-linux.md, network devices: moved from the runtime's network namespace into the container's,
//! with their addresses of global scope, and brought up there.
//!
//! A container that fails to be made gives them back. One that ends does not: devices in hardware then
//! return by themselves, virtual ones end with their namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink::attribute::{Attributes, u32_of};
use netlink::{Message, Request, Socket, link};

use crate::error::{Error, Result};
use crate::namespaces::{self, Plan};
use crate::spec::{Linux, NamespaceKind};
use crate::sys;

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// Not one that expires, or that the kernel made up of what it hears on the wire.
const IFA_F_PERMANENT: u8 = 0x80;
/// Length of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// Longest name of a device, with its final NUL.
const IFNAMSIZ: usize = 16;

/// What of the devices can be refused before anything is made.
pub(crate) fn check(linux: &Linux) -> Result<()> {
    const FIELD: &str = "linux.netDevices";
    if linux.net_devices.is_empty() {
        return Ok(());
    }
    let mut namespaces = linux.namespaces.iter();
    if !namespaces.any(|one| one.kind == NamespaceKind::Network) {
        let reason = "unable to move network devices without a private NET namespace";
        return Err(Error::invalid(FIELD, reason));
    }
    let mut inside = Vec::new();
    for (name, device) in &linux.net_devices {
        let new = device.name.as_deref().filter(|new| !new.is_empty());
        let new = new.unwrap_or(name);
        for name in [name, new] {
            if !is_name(name) {
                let reason = format!("invalid network device name {name:?}");
                return Err(Error::invalid(FIELD, reason));
            }
        }
        if inside.contains(&new) {
            let reason = format!("two devices would be called {new:?}");
            return Err(Error::invalid(FIELD, reason));
        }
        inside.push(new);
    }
    Ok(())
}

/// As the kernel's dev_valid_name.
fn is_name(name: &str) -> bool {
    let odd = |c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace();
    !name.is_empty() && name.len() < IFNAMSIZ && name != "." && name != ".." && !name.contains(odd)
}

/// One network namespace: the file that stands for it, and a socket in it.
#[derive(Debug)]
struct Side {
    netns: OwnedFd,
    socket: Socket,
}

impl Side {
    fn here() -> Result<Self> {
        Ok(Self {
            netns: namespaces::open_file("/proc/self/ns/net".into())?,
            socket: Socket::route().map_err(failed)?,
        })
    }

    /// A socket belongs to the namespace that it was opened in; the caller is back in its own when
    /// this returns.
    fn of(netns: OwnedFd, own: BorrowedFd<'_>) -> Result<Self> {
        sys::setns(&netns, libc::CLONE_NEWNET).map_err(Error::io("join", "network namespace"))?;
        let socket = Socket::route();
        sys::setns(own, libc::CLONE_NEWNET).map_err(Error::io("return to", "network namespace"))?;
        let socket = socket.map_err(failed)?;
        Ok(Self { netns, socket })
    }
}

/// A device that has been moved.
#[derive(Debug)]
struct Moved {
    outside: String,
    inside: String,
    was_up: bool,
}

/// The devices of one container; dropped unreleased, they go back.
#[derive(Debug)]
pub(crate) struct NetDevices {
    moved: Vec<Moved>,
    sides: Option<(Side, Side)>,
}

impl NetDevices {
    /// Moves them into the network namespace of the container whose first process is `pid`.
    pub(crate) fn give(linux: &Linux, plan: &Plan, pid: i32) -> Result<Self> {
        let mut devices = Self {
            moved: Vec::new(),
            sides: None,
        };
        if linux.net_devices.is_empty() {
            return Ok(devices);
        }
        let netns = match plan.joined(NamespaceKind::Network) {
            Some(joined) => joined.try_clone().map_err(|source| Error::Io {
                operation: "duplicate",
                path: "network namespace".into(),
                source,
            })?,
            None => namespaces::open(pid, "net")?,
        };
        let here = Side::here()?;
        let there = Side::of(netns, here.netns.as_fd())?;
        let (here, there) = devices.sides.insert((here, there));
        for (name, device) in &linux.net_devices {
            let new = device.name.as_deref().filter(|new| !new.is_empty());
            let new = new.unwrap_or(name);
            let was_up = hand_over(here, there, name, new, true)?;
            devices.moved.push(Moved {
                outside: name.clone(),
                inside: new.to_owned(),
                was_up,
            });
        }
        Ok(devices)
    }

    /// They stay where they are.
    pub(crate) fn release(mut self) {
        self.moved.clear();
    }
}

impl Drop for NetDevices {
    fn drop(&mut self) {
        let Some((here, there)) = &mut self.sides else {
            return;
        };
        for device in self.moved.iter().rev() {
            // The failure that led here is what the caller hears of.
            let _ = hand_over(there, here, &device.inside, &device.outside, device.was_up);
        }
    }
}

/// Moves one device with its addresses; tells whether it was up before.
fn hand_over(from: &mut Side, to: &mut Side, name: &str, new: &str, up: bool) -> Result<bool> {
    let Some((index, was_up)) = link::find(&mut from.socket, name).map_err(failed)? else {
        let reason = format!("{name:?}: link not found on runtime namespace");
        return Err(Error::invalid("linux.netDevices", reason));
    };
    let addresses = addresses(&mut from.socket, index).map_err(failed)?;
    // Down first: nothing of this host is to be sent while name and namespace change.
    let down = link::down(index, name);
    from.socket.send_one(down).map_err(failed)?;
    let moving = link::move_to(index, name, to.netns.as_fd(), new);
    let moved = from
        .socket
        .send_one(moving)
        .and_then(|()| set_up(to, new, &addresses, up));
    if let Err(error) = moved {
        // Why it could not be moved is what the caller hears of.
        let _ =
            take_back(from, to, [name, new]).and_then(|()| set_up(from, name, &addresses, was_up));
        return Err(failed(error));
    }
    Ok(was_up)
}

/// What a device has lost on its way.
fn set_up(side: &mut Side, name: &str, addresses: &[Address], up: bool) -> netlink::Result<()> {
    let Some((index, _)) = link::find(&mut side.socket, name)? else {
        return Err(netlink::Error::Answer {
            operation: "move link",
            object: name.to_owned(),
            what: "it is not there",
        });
    };
    let mut requests: Vec<Request> = addresses
        .iter()
        .map(|address| address.add_to(index, name))
        .collect();
    if up {
        requests.push(link::up(index, name));
    }
    side.socket.send(requests)
}

/// Undoes a move that failed: the kernel moves first, and renames then.
fn take_back(home: &mut Side, away: &mut Side, [name, new]: [&str; 2]) -> netlink::Result<()> {
    if link::find(&mut home.socket, name)?.is_some() {
        return Ok(());
    }
    for called in [new, name] {
        // Its own loopback device is called "lo" too, and cannot be moved.
        if let Some((index, _)) = link::find(&mut away.socket, called)?
            && away
                .socket
                .send_one(link::move_to(index, called, home.netns.as_fd(), name))
                .is_ok()
        {
            break;
        }
    }
    Ok(())
}

/// An address as the kernel tells of it.
struct Address {
    family: u8,
    prefix: u8,
    /// Local address, peer, broadcast address: attribute and bytes.
    parts: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// One that is the device's own: permanent, and of global scope.
    fn read(payload: &[u8], of: u32) -> Option<Self> {
        let [family, prefix, flags, scope] = *payload.first_chunk()?;
        let index = payload.get(4..8).and_then(u32_of)?;
        if index != of || flags & IFA_F_PERMANENT == 0 || scope != libc::RT_SCOPE_UNIVERSE {
            return None;
        }
        let attributes = Attributes::after(payload, ADDRESS_HEADER);
        let wanted = [IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST];
        let parts = wanted.iter().filter_map(|kind| {
            let value = attributes.get(*kind)?;
            Some((*kind, value.to_vec()))
        });
        Some(Self {
            family,
            prefix,
            parts: parts.collect(),
        })
    }

    fn add_to(&self, index: u32, name: &str) -> Request {
        let mut header = [self.family, self.prefix, 0, 0, 0, 0, 0, 0];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut message = Message::create(RTM_NEWADDR).header(&header);
        for (kind, value) in &self.parts {
            message.bytes(*kind, value);
        }
        Request::new("add address", format!("of {name}"), message)
    }
}

fn addresses(socket: &mut Socket, index: u32) -> netlink::Result<Vec<Address>> {
    let message = Message::dump(RTM_GETADDR).header(&[0; ADDRESS_HEADER]);
    socket.dump(Request::new("list", "addresses", message), |payload| {
        Address::read(payload, index)
    })
}

fn failed(error: netlink::Error) -> Error {
    Error::invalid("linux.netDevices", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Namespace, NetDevice};

    fn refused(names: &[(&str, &str)], kind: NamespaceKind) -> String {
        let device = |(name, new): &(&str, &str)| {
            let name_inside = Some((*new).to_owned());
            ((*name).to_owned(), NetDevice { name: name_inside })
        };
        let linux = Linux {
            namespaces: vec![Namespace { kind, path: None }],
            net_devices: names.iter().map(device).collect(),
            ..Linux::default()
        };
        check(&linux).map_or_else(|error| error.to_string(), |()| "accepted".into())
    }

    #[test]
    fn names_that_no_device_can_have_are_refused() {
        let network = NamespaceKind::Network;
        assert_eq!(refused(&[("eth0", "")], network), "accepted");
        assert_eq!(refused(&[("eth0", "net0")], network), "accepted");
        for bad in ["a/b", "..", "with space", "sixteen-letters-", "a:b"] {
            assert!(refused(&[("eth0", bad)], network).contains("invalid network device name"));
            assert!(refused(&[(bad, "")], network).contains("invalid network device name"));
        }
        let twice = refused(&[("eth0", "a"), ("eth1", "a")], network);
        assert!(
            twice.contains("two devices would be called \"a\""),
            "{twice}"
        );
        assert!(refused(&[("eth0", "")], NamespaceKind::Pid).contains("private NET namespace"));
    }
}
