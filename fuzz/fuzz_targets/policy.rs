//! Any bytes as a policy.
#![no_main]

#[path = "../../crates/trust/tests/suite/support/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::policy(bytes));
