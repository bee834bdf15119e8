//! What writable layers take: a walk over a tree that the container can make as large as it likes, and so
//! done again only when the last figure is old.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::now_ns;
use crate::error::Result;

/// How old the figure of a writable layer may be in a list: kubelet's own interval.
pub(super) const LAYER_AGE: i64 = 10_000_000_000;
/// And so many times what it took to find it: no tree costs more than a hundredth of a processor.
const TIMES: i64 = 100;

/// What a writable layer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    /// Nanoseconds since 1970.
    pub(super) at: i64,
    /// Nanoseconds.
    took: i64,
    pub(super) usage: store::Usage,
}

/// The figures of writable layers, by container.
#[derive(Debug, Default)]
pub(crate) struct LayerUsage {
    last: Mutex<HashMap<String, Measured>>,
}

impl LayerUsage {
    /// The last figure that is younger than `age` nanoseconds, or else one that is measured now.
    pub(super) fn get(
        &self,
        id: &str,
        age: i64,
        measure: impl FnOnce() -> Result<store::Usage>,
    ) -> Result<Measured> {
        let now = now_ns();
        if let Some(known) = self.lock().get(id) {
            let age = match age {
                0 => 0,
                age => age.max(known.took.saturating_mul(TIMES)),
            };
            if (0..age).contains(&(now - known.at)) {
                return Ok(*known);
            }
        }
        let usage = measure()?;
        let measured = Measured {
            at: now,
            took: now_ns() - now,
            usage,
        };
        self.lock().insert(id.to_owned(), measured);
        Ok(measured)
    }

    /// Forgets those that are gone.
    pub(super) fn forget_all_but(&self, alive: &HashSet<&str>) {
        self.lock().retain(|id, _| alive.contains(id.as_str()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Measured>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_measured_again_when_its_figure_is_old() {
        let usage = LayerUsage::default();
        let figure = |bytes| move || Ok(store::Usage { bytes, inodes: 1 });
        let first = usage.get("a", 0, figure(1)).unwrap();
        assert_eq!(usage.get("a", i64::MAX, figure(2)).unwrap(), first);
        assert_eq!(usage.get("b", i64::MAX, figure(3)).unwrap().usage.bytes, 3);
        assert_eq!(usage.get("a", 0, figure(4)).unwrap().usage.bytes, 4);
    }

    #[test]
    fn a_layer_that_takes_long_is_measured_seldom() {
        let usage = LayerUsage::default();
        let slow = || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            Ok(store::Usage {
                bytes: 1,
                inodes: 1,
            })
        };
        let first = usage.get("a", 1, slow).unwrap();
        let again = usage.get("a", 1, || unreachable!("it was not worth it"));
        assert_eq!(again.unwrap(), first);
    }
}
