//! Every integration test of the crate `trust`, as one program: a program for each file would be linked,
//! statically, as often. One file for each subject; nextest runs each test in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fulcio;
mod fuzz_policy;
mod openpgp;
mod sigstore;
mod support;
mod system_files;
