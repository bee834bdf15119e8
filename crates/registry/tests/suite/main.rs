//! Every integration test of the crate `registry`, as one program: a program for each file would be linked,
//! statically, as often. One file for each subject; nextest runs each test in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod auth;
mod crash;
mod discovery;
mod hostile;
mod hostile_connections;
mod management;
mod pages;
mod pull;
mod push;
mod support;
mod tls;
mod token_clients;
