//! Every integration test of the crate `distribution`, as one program: a program for each file would be
//! linked, statically, as often. One file for each subject; nextest runs each test in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod addresses;
mod download;
mod fuzz_registries;
mod login;
mod mirrors;
mod patience;
mod proxy;
mod push;
mod referrers;
mod registry;
mod signatures;
mod support;
mod system_files;
mod tls;
mod upload;
