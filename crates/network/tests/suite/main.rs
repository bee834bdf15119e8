//! Every integration test of the crate `network`, as one program: a program for each file would be linked,
//! statically, as often. One file for each subject; nextest runs each test in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cni_config;
mod cni_versions;
mod common;
mod default_network;
mod external_plugins;
mod host_ports;
mod netlink_lists;
mod switched;
