//! Any bytes as a WebSocket's frames; the first one says what its messages carry.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streaming::fuzz::websocket(bytes));
