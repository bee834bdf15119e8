//! Pod networking: CNI configuration lists, the plugins floe has built in, IP addresses and host ports.
//!
//! Everything blocks; nothing here needs an async runtime, and the default path starts no program:
//! links, addresses, routes and nftables go over netlink sockets from `netlink` and `nft`.
//! Specification: CNI 0.3.0 to 1.1.0. The crate must never move the caller's thread into another
//! network namespace; sockets inside a pod are opened by a short-lived helper thread.
//!
//! # The host side
//! "The host" is the network namespace of the calling thread. All threads that use one [`Network`]
//! must be in the same one.
//!
//! # On disk, below [`NetworkConfig::state_dir`]
//! ```text
//! lock                     held (flock) while bridge and nftables table are made or removed
//! results/POD.json         what was set up for a pod and with which configuration: teardown's memory
//! networks/NAME/ADDRESS    an address in use; first line the pod id, second the interface
//! networks/NAME/last_reserved_ip.N   where the N-th range set's round robin stands
//! networks/NAME/lock       held (flock) while an address is chosen
//! joined/POD/NETWORK.json  the same as a result, of a network that people have made
//! names/NETWORK/           who has which name on such a network, for resolvers
//! joined-networks/NAME/    the addresses in use of such a network, as in networks/NAME
//! ```
//! Addresses of networks that other engines may have too lie in [`NetworkConfig::host_local_dir`] as well.
//!
//! # In the kernel
//! One bridge ([`NetworkConfig::bridge`]), one veth pair per pod, one nftables table
//! `inet floe-BRIDGE` with masquerading and host ports, and one `bridge floe-BRIDGE` that keeps pods'
//! multicast reports from other pods; several engines on one host differ in the bridge's name and so
//! never meet.
//!
//! # What a table of our own cannot do
//! nftables evaluates every base chain of a hook, and a drop in any of them is final. When another
//! program (Docker, firewalld) drops forwarded packets by policy, an accept in floe's table does not
//! help; the operator has to allow the bridge in that program. Host ports on `::1` are not possible
//! either: the kernel has no `route_localnet` for IPv6; `127.0.0.1` works.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod attachment;
mod cni;
mod config;
mod error;
mod host;
mod ipam;
mod joined;
mod joining;
mod names;
mod network;
mod nft;
mod plugins;
mod pod;
mod readiness;
mod rtnetlink;
mod socket;
mod sys;
mod sysctl;

pub use attachment::{
    Attached, Attachment, Dns, Interface, InterfaceStats, Mac, PortMapping, Protocol,
};
pub use config::NetworkConfig;
pub use error::{Error, NotReady, Result};
pub use joined::{Isolation, OwnNetwork, OwnRoute, OwnSubnet};
pub use network::Network;
pub use socket::TcpSockets;
