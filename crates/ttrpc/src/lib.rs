//! What is common to all who speak ttrpc here: frames, the messages in them, and codes. Who connects to
//! whom, and what a call means, is for the crates above.
//!
//! Protocol: <https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md>

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod code;
mod frame;
mod wire {
    #![allow(
        missing_docs,
        reason = "fields are named as the wire's definitions name them"
    )]
    include!(concat!(env!("OUT_DIR"), "/ttrpc.rs"));
}

pub use code::Code;
pub use frame::{Frame, Inbox, Kind, MAX_FRAME, encode};
pub use wire::{KeyValue, Request, Response, Status};

/// A peer's words as they can be shown: bounded, on one line, without control characters.
#[must_use]
pub fn printable(words: &str) -> String {
    const SHOWN: usize = 4096;
    let words = words.trim();
    let shown = words.chars().take(SHOWN);
    let mut shown: String = shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if words.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
