//! Every integration test of the crate `server`, as one program: a program for each file would be linked,
//! statically, as often. One file for each subject; nextest runs each test in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod artifacts;
mod authority;
mod bad_fields;
mod bad_requests;
mod cdi;
mod common;
mod compat;
mod container;
mod container_config;
mod container_requests;
mod container_security;
mod counts;
mod crash;
mod crio_keys;
mod events;
mod exec;
mod exec_requests;
mod fields;
mod host_ports;
mod hostile;
mod image;
mod image_bad;
mod image_names;
mod image_volumes;
mod images_dir;
mod inspect;
mod log_places;
mod logs;
mod memory;
mod metrics;
mod node_keys;
mod nri;
mod pod;
mod pod_requests;
mod pod_size;
mod pod_stats;
mod programs;
mod pulls;
mod records;
mod reload;
mod runtime;
mod shim;
mod stats;
mod stats_lists;
mod streams;
mod systemd;
mod trust;
mod update;
mod upgrade;
mod user_namespaces;
mod waits;
mod watchdog;
