//! The tests of the command line, as one program: a program for each file would be linked, statically, as
//! often. One file for each chapter of the specification or of runc's behaviour; nextest runs each test in a
//! process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[macro_use]
extern crate testkit;

#[macro_use]
mod support;

mod as_runc;
mod cgroups;
mod checkpoint;
mod checkpoint_fails;
mod crash;
mod devices;
mod engines;
mod escapes;
mod events;
mod exec;
mod hooks;
mod hostile_files;
mod labels;
mod lifecycle;
mod mount_places;
mod mounts;
mod namespaces;
mod net_devices;
mod notify;
mod process;
mod rootless;
mod scheduling;
mod sd_notify;
mod seccomp;
mod systemd;
mod systemd_checkpoint;
mod systemd_limits;
mod systemd_names;
mod terminal;
mod update;
mod users;
