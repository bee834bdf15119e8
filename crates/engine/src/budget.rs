//! Memory for what commands say: all outputs that are being collected, or wait for their clients,
//! share it. What finds no room is thrown away like what is too long anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes for all outputs together.
const ALL: usize = 64 << 20;
/// How much is taken at once.
const STEP: usize = 1 << 20;

/// The memory that is left. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    left: Arc<AtomicUsize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(ALL)),
        }
    }
}

impl Budget {
    /// A part of it, empty as yet.
    pub(crate) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

/// One output's part of the memory; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    /// Is there room for `bytes` in all?
    pub(crate) fn reach(&mut self, bytes: usize) -> bool {
        while self.bytes < bytes {
            let taken =
                self.budget
                    .left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                        left.checked_sub(STEP)
                    });
            if taken.is_err() {
                return false;
            }
            self.bytes += STEP;
        }
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_has_another_cannot_have_until_it_is_given_back() {
        let budget = Budget::default();
        let (mut one, mut two) = (budget.share(), budget.share());
        assert!(one.reach(ALL - STEP) && two.reach(STEP) && two.reach(1));
        assert!(!two.reach(STEP + 1) && !one.reach(ALL));
        drop(one);
        assert!(two.reach(ALL) && !two.reach(ALL + 1));
        drop(two);
        assert_eq!(budget.left.load(Ordering::Relaxed), ALL);
    }
}
