//! What of a layer is left out, as it cannot be in one, and the image is used without: device nodes of
//! the host, overlayfs's own attributes, and what the file system has no place for.
//!
//! Must never grow with the number of what is left out.

use std::collections::HashSet;
use std::fmt;

use super::EntryFlaw;
use super::name::shown;

/// Entries that are named; of the rest the count is told.
const NAMED: usize = 5;
/// The most bytes of names kept, so that hard links to what was left out are left out, too.
const KEPT: usize = 1 << 20;

/// What was left out of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Omissions {
    named: Vec<String>,
    count: u64,
    paths: HashSet<Vec<u8>>,
    bytes: usize,
}

impl Omissions {
    pub(super) fn add(&mut self, path: &[u8], flaw: &EntryFlaw) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{:?}: {flaw}", shown(path)));
        }
    }

    /// As [`add`](Omissions::add), for an entry that is left out as a whole. `name` is its clean name.
    pub(super) fn add_entry(&mut self, path: &[u8], name: &[u8], flaw: &EntryFlaw) {
        self.add(path, flaw);
        if self.bytes + name.len() <= KEPT && self.paths.insert(name.to_vec()) {
            self.bytes += name.len();
        }
    }

    /// Whether the entry of this clean name was left out.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.paths.contains(name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Omissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.named.join("; "))?;
        match self.count - self.named.len() as u64 {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
