//! So that no plugin misses anything while it joins: what is being made when it comes is made first, and what
//! is to be made then waits until it knows what there is.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct Inside {
    in_flight: usize,
    joining: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    inside: Mutex<Inside>,
    changed: Condvar,
}

/// Something is being made, of which plugins have been or are about to be told.
#[derive(Debug)]
#[must_use = "it is over when this is dropped"]
pub struct InFlight(Arc<Gate>);

/// A plugin joins.
#[derive(Debug)]
pub(crate) struct Joining<'a>(&'a Gate);

impl Gate {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while a plugin joins, which has limits.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        let inside = self.inside();
        let waited = self.changed.wait_while(inside, |inside| inside.joining);
        waited.unwrap_or_else(PoisonError::into_inner).in_flight += 1;
        InFlight(Arc::clone(self))
    }

    /// Waits for those who join and for what is being made; `None`: it is not made by then.
    pub(crate) fn join(&self, limit: Duration) -> Option<Joining<'_>> {
        let inside = self.inside();
        let waited = self.changed.wait_while(inside, |inside| inside.joining);
        let mut inside = waited.unwrap_or_else(PoisonError::into_inner);
        inside.joining = true;
        let joining = Joining(self);
        let until = Instant::now() + limit;
        while inside.in_flight > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(inside);
                return None;
            }
            let waited = self.changed.wait_timeout(inside, left);
            inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(inside);
        Some(joining)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.inside().in_flight -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.0.inside().joining = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_joins_waits_for_what_is_being_made_and_the_rest_waits_for_it() {
        let gate = Arc::new(Gate::default());
        let first = gate.enter();
        assert!(gate.join(Duration::ZERO).is_none());
        drop(first);
        let joining = gate.join(Duration::ZERO).unwrap();
        let other = Arc::clone(&gate);
        let waits = std::thread::spawn(move || drop(other.enter()));
        assert_eq!(gate.inside().in_flight, 0);
        drop(joining);
        waits.join().unwrap();
        assert!(gate.join(Duration::ZERO).is_some());
    }
}
