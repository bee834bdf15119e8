//! Any bytes as a registries.conf.
#![no_main]

#[path = "../../crates/distribution/tests/suite/support/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::registries(bytes));
