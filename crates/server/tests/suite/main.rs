//! Every integration test of the crate `server`, as one program: a program for each file would be linked,
//! statically, as often. One file for each subject; nextest runs each test in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authority;
mod bad_requests;
mod common;
mod container;
mod crash;
mod exec;
mod host_ports;
mod hostile;
mod image;
mod logs;
mod memory;
mod pod;
mod records;
mod runtime;
mod stats;
mod trust;
mod update;
mod waits;
