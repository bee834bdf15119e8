//! Any bytes as what a SPDY client does whose compression is in good order.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streaming::fuzz::spdy_session(bytes));
