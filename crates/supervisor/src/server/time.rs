//! Deadlines of waits, by the monotonic clock, which no change of the wall clock moves.

use std::time::{Duration, Instant};

/// A deadline that far away; one too far for the clock is none.
pub(crate) fn after(wait: Duration) -> Option<Instant> {
    Instant::now().checked_add(wait)
}
