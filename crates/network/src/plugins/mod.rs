//! The plugins that floe has built in, one file each, over netlink. Each takes the configuration of
//! the CNI plugin of its name; what it cannot do is left to the program of that name.

pub(crate) mod bridge;
pub(crate) mod firewall;
pub(crate) mod loopback;
mod pod_link;
pub(crate) mod portmap;
pub(crate) mod ptp;
