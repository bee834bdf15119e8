//! A small blocking netlink client: typed requests for links, addresses and routes, and the batch
//! transport that nftables uses too.
//!
//! The kernel processes a request inside send(2), so its answers are in the queue when send returns;
//! receiving never has to wait, and this client never hangs. rtnetlink(7), netlink(7).

pub(crate) mod address;
pub(crate) mod attribute;
pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod pool;
pub(crate) mod route;
mod socket;

pub(crate) use message::{Message, Request};
pub(crate) use pool::{Borrowed, Pool};
pub(crate) use socket::Socket;
