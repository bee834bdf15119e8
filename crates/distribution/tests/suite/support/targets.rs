//! What must hold for a hostile registries.conf: each function takes any bytes and panics when it does not. For
//! the seeded tests, and for `fuzz/`.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code; each program uses its own part"
)]

use distribution::Registries;
use image::Reference;

/// A registries.conf is read or refused.
pub fn registries(bytes: &[u8]) {
    let name = Reference::parse("a.example/b/c:1").unwrap();
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(registries) = Registries::parse(text) {
        let _ = registries.resolve(&name);
        let _ = registries.candidates("x");
    }
}
