//! The netlink client against the kernel: lists that change while they are read, answers that find no
//! room, and others who answer in the kernel's place.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use crate::common::{Lab, Netns};
use netlink::attribute::{Attributes, text_of};
use netlink::{Message, Request, Socket, link};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, getsockname, sendto, socket_with, sockopt,
};

const LINKINFO: u16 = 18;
const KIND: u16 = 1;

fn bridge(name: &str) -> Request {
    let mut message = Message::create(link::NEW).header(&link::header(0, 0, 0));
    message.text(link::NAME, name).nest(LINKINFO, |info| {
        info.text(KIND, "bridge");
    });
    Request::new("create link", name, message)
}

fn all_links() -> Request {
    let message = Message::dump(link::GET).header(&link::header(0, 0, 0));
    Request::new("list", "links", message)
}

fn name_of(payload: &[u8]) -> Option<String> {
    Attributes::after(payload, link::HEADER)
        .get(link::NAME)
        .map(text_of)
}

#[test]
fn a_list_that_changes_while_it_is_read_is_read_again() {
    let Some(_lab) = Lab::new() else { return };
    let host = Netns::new();
    host.run(|| {
        let (mut reader, mut writer) = (Socket::route().unwrap(), Socket::route().unwrap());
        let links = (0..150)
            .map(|number| bridge(&format!("d{number}")))
            .collect();
        writer.send(links).unwrap();
        // The kernel gives this list in parts; once, a link comes and another goes between two of them.
        let mut changed = false;
        let names = reader
            .dump(all_links(), |payload| {
                if !changed {
                    changed = true;
                    let (gone, _) = link::find(&mut writer, "d149").unwrap().unwrap();
                    let message = Message::change(link::DELETE).header(&link::header(gone, 0, 0));
                    writer
                        .send(vec![
                            Request::new("delete link", "d149", message),
                            bridge("late"),
                        ])
                        .unwrap();
                }
                name_of(payload)
            })
            .unwrap();
        let mut counts = BTreeMap::new();
        for name in names {
            *counts.entry(name).or_insert(0) += 1;
        }
        assert_eq!(counts.get("late"), Some(&1));
        assert_eq!(counts.get("d149"), None);
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        assert!((0..149).all(|number| counts.contains_key(&format!("d{number}"))));
    });
}

#[test]
fn an_acknowledgement_without_room_is_an_error_and_the_socket_goes_on() {
    let Some(_lab) = Lab::new() else { return };
    let host = Netns::new();
    host.run(|| {
        let mut socket = Socket::route().unwrap();
        sockopt::set_socket_recv_buffer_size(&socket, 1).unwrap();
        let links = (0..100)
            .map(|number| bridge(&format!("d{number}")))
            .collect();
        let error = socket.send(links).unwrap_err().to_string();
        assert!(error.contains("the socket's queue overflowed"), "{error}");
        assert!(link::find(&mut socket, "d0").unwrap().is_some());
        let names = socket.dump(all_links(), name_of).unwrap();
        assert_eq!(
            names.iter().filter(|name| name.starts_with('d')).count(),
            100
        );
    });
}

#[test]
fn requests_that_do_not_depend_on_each_other_may_be_any_number() {
    let Some(_lab) = Lab::new() else { return };
    let host = Netns::new();
    host.run(|| {
        let mut socket = Socket::route().unwrap();
        let down = |_| link::down(1, "lo");
        socket.send((0..20_000).map(down).collect()).unwrap();
        let mut requests: Vec<Request> = (0..20_000).map(down).collect();
        requests[19_998] = link::down(4_000_000, "absent");
        let error = socket.send(requests).unwrap_err();
        assert_eq!(error.errno(), Some(19), "{error}");
    });
}

/// A container with CAP_NET_ADMIN in its network namespace may send to the socket that floe has there.
#[test]
fn nobody_answers_in_the_kernels_place() {
    let Some(_lab) = Lab::new() else { return };
    let host = Netns::new();
    host.run(|| {
        let socket = Socket::route().unwrap();
        let address = getsockname(socket.as_fd()).unwrap();
        let address = SocketAddrNetlink::try_from(address).unwrap();
        let forger = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let forged = [16u8, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let to = SocketAddrNetlink::new(address.pid(), 0);
        let sent = sendto(&forger, &forged, SendFlags::empty(), &to);
        assert_eq!(sent, Err(rustix::io::Errno::CONNREFUSED));
    });
}
