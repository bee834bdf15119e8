//! Every integration test of the crate `shim`, as one program: a program for each file would be linked,
//! statically, as often. One file for each kind of shim; nextest runs each test in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[macro_use]
mod support;

mod hostile_shim;
mod runc_shim;
mod sandbox_shim;
