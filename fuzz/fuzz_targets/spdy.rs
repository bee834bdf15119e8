//! Any bytes as what a client sends on a SPDY connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streaming::fuzz::spdy(bytes));
