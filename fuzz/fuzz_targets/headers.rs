//! Any bytes as the headers of registries: WWW-Authenticate, Retry-After, Warning and Link.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| distribution::fuzz::headers(bytes));
