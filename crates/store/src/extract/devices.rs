//! Which device nodes a layer may hold: those that a container has anyway, with the kernel's own
//! numbers (Linux `Documentation/admin-guide/devices.txt`).
//!
//! Images made from a distribution's root file system carry them, and chroots inside images need
//! them. Must never let a node through that reads or writes hardware or memory of the host.

use super::EntryFlaw;
use crate::archive::{Entry, Kind};

/// null, zero, full, random, urandom; tty0; tty, console, ptmx.
const HARMLESS: [(u32, u32); 9] = [
    (1, 3),
    (1, 5),
    (1, 7),
    (1, 8),
    (1, 9),
    (4, 0),
    (5, 0),
    (5, 1),
    (5, 2),
];

/// Why a device node is left out: every other one is, and so the character device 0:0, which overlayfs
/// takes for a whiteout.
pub(super) fn flaw(entry: &Entry) -> Option<EntryFlaw> {
    let block = match entry.kind {
        Kind::CharacterDevice => false,
        Kind::BlockDevice => true,
        _ => return None,
    };
    if !block && HARMLESS.contains(&entry.device) {
        return None;
    }
    Some(EntryFlaw::Device {
        kind: if block { "block" } else { "character" },
        major: entry.device.0,
        minor: entry.device.1,
    })
}
