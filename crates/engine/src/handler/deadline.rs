//! The limit of a verb, which holds over all of its steps together.

use std::time::{Duration, Instant};

/// What a step has at the least.
const LEAST: Duration = Duration::from_millis(1);

/// A moment that no step of a verb lasts beyond.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// So long from now.
    pub(super) fn after(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// How long the next step may take: next to nothing once the moment is over, as nothing is no limit to a
    /// socket.
    pub(super) fn left(self) -> Duration {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        self.0.map_or(Duration::MAX, left).max(LEAST)
    }

    /// The same for a step that has a limit of its own.
    pub(super) fn left_of(self, own: Duration) -> Duration {
        self.left().min(own)
    }
}
