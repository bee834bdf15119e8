//! Every integration test of the crate `supervisor`, as one program: a program for each file would be
//! linked, statically, as often. One file for each subject; nextest runs each test in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[macro_use]
extern crate testkit;

mod support;

mod attach;
mod checkpoint_restore;
mod events;
mod exec;
mod former;
mod hostile;
mod lifecycle;
mod logs;
mod pod;
mod protocol;
mod root;
mod seccomp_agent;
mod shim_container;
mod silent;
