//! Links as every caller needs them: found by name, up, down, and moved to another network namespace.
//! rtnetlink(7) RTM_*LINK, linux/if_link.h. Making links is the matter of whoever wants some.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::attribute::u32_of;
use crate::{Message, Request, Result, Socket};

/// RTM_NEWLINK
pub const NEW: u16 = 16;
/// RTM_DELLINK
pub const DELETE: u16 = 17;
/// RTM_GETLINK
pub const GET: u16 = 18;
/// RTM_SETLINK
pub const SET: u16 = 19;
/// IFLA_IFNAME
pub const NAME: u16 = 3;
/// IFLA_NET_NS_FD
pub const NET_NS_FD: u16 = 28;
/// IFLA_EXT_MASK
pub const EXT_MASK: u16 = 29;
/// RTEXT_FILTER_SKIP_STATS: look-ups need no counters.
pub const SKIP_STATS: u32 = 1 << 3;
/// IFF_UP
pub const UP: u32 = 1;
/// Length of [`header`].
pub const HEADER: usize = 16;

/// `struct ifinfomsg` with these fields set: a link's number (0: given by name), and which flags to
/// have among those to change.
#[must_use]
pub fn header(index: u32, flags: u32, change: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// Brings a link up.
#[must_use]
pub fn up(index: u32, name: &str) -> Request {
    let message = Message::change(SET).header(&header(index, UP, UP));
    Request::new("bring up link", name, message)
}

/// Takes a link down.
#[must_use]
pub fn down(index: u32, name: &str) -> Request {
    let message = Message::change(SET).header(&header(index, 0, UP));
    Request::new("take down link", name, message)
}

/// Moves a link to another network namespace under a name there, in one step: it is never there under
/// the old name, nor here under the new one.
#[must_use]
pub fn move_to(index: u32, name: &str, netns: BorrowedFd<'_>, new_name: &str) -> Request {
    let mut message = Message::change(NEW).header(&header(index, 0, 0));
    // The number is only read while the request is sent, within the borrow of the fd.
    message
        .text(NAME, new_name)
        .u32(NET_NS_FD, netns.as_raw_fd().cast_unsigned());
    let object = format!("{name} to the namespace as {new_name}");
    Request::new("move link", object, message)
}

/// A link's number, and whether it is up; `None` when there is none of that name.
///
/// # Errors
/// What the kernel says otherwise.
pub fn find(socket: &mut Socket, name: &str) -> Result<Option<(u32, bool)>> {
    let mut message = Message::get(GET).header(&header(0, 0, 0));
    message.text(NAME, name).u32(EXT_MASK, SKIP_STATS);
    let read = |payload: &[u8]| {
        let number = |from: usize| payload.get(from..from + 4).and_then(u32_of);
        Some((number(4)?, number(8)? & UP != 0))
    };
    match socket.get(Request::new("look up link", name, message), read) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}
