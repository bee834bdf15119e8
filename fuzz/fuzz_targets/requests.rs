//! Any bytes as a request of the CRI: read as the one that the first byte chooses, and made the engine's.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzz::request(bytes));
