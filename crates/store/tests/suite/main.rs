//! Every integration test of the crate `store`, as one program: a program for each file would be linked,
//! statically, as often. One file for each subject; nextest runs each test in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod additional;
mod artifacts;
mod check;
mod common;
mod damage;
mod difference;
mod forms;
mod fuzz_layers;
mod gc;
mod golden;
mod hostile_content;
mod hostile_layers;
mod images;
mod interop;
mod keep;
mod layer_content;
mod layer_parents;
mod layer_transfer;
mod layers;
mod locks;
mod mounts;
mod open;
mod repositories;
mod rootfs;
mod scale;
mod sealed;
mod working;
