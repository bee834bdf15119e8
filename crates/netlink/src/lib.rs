//! A small blocking netlink client (netlink(7)): messages and their attributes, and a socket that
//! sends many requests in one system call and matches each answer to its request.
//!
//! The kernel processes a request inside send(2), so its answers are in the queue when send returns;
//! receiving never has to wait, and this client never hangs. Other processes cannot answer in the
//! kernel's place, not even those of a container that owns the socket's network namespace. Of the kernel's objects it knows links, which
//! everybody needs; what addresses, routes or nftables look like is the matter of whoever asks for them.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

pub mod attribute;
pub mod link;

mod error;
mod message;
mod part;
mod socket;
mod sys;

pub use error::{Error, Result};
pub use message::{Message, Request};
pub use socket::Socket;
