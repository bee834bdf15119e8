//! What must hold for a hostile policy: each function takes any bytes and panics when it does not. For
//! the seeded tests, and for `fuzz/`.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code; each program uses its own part"
)]

use std::path::Path;

use image::Reference;
use trust::Policy;

/// A policy is read or refused, and what has no signature is never taken for signed.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(policy) = Policy::parse(Path::new("policy.json"), text) else {
        return;
    };
    for name in ["a.example/b/c:1", "busybox", "b.a.example:5000/x"] {
        let Ok(demands) = policy.demands(&Reference::parse(name).unwrap()) else {
            continue;
        };
        if demands.verify(b"{}", &[]).is_ok() {
            assert!(text.contains("insecureAcceptAnything"), "{text}");
        }
    }
}
