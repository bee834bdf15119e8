//! Until when a verb that holds containers up may go on: its time, and whether its caller is still there.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A verb's time, which ends early when its caller leaves. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    then: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("State");
        shown
            .field("cancelled", &self.cancelled)
            .finish_non_exhaustive()
    }
}

/// Cancels when it is dropped, as a request's future is when its client leaves.
#[derive(Debug)]
pub struct CancelOnDrop(Cancel);

impl Cancel {
    /// So long from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            limit,
            state: Mutex::default(),
        }))
    }

    /// The caller has left, or wants it no longer.
    pub fn cancel(&self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.cancelled = true;
        let then = state.then.take();
        drop(state);
        if let Some(then) = then {
            then();
        }
    }

    /// Cancels when what this returns is dropped.
    #[must_use]
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }

    /// What a cancel does beside; at once if it was cancelled already. One at a time: the last counts.
    pub(crate) fn then(&self, then: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.cancelled {
            state.then = Some(Box::new(then));
            return;
        }
        drop(state);
        then();
    }

    /// How much of the time is left.
    pub(crate) fn left(&self) -> Duration {
        self.0.limit.saturating_sub(self.0.begun.elapsed())
    }

    /// May it go on?
    ///
    /// # Errors
    /// [`Error::TimeOver`].
    pub(crate) fn check(&self, verb: &'static str, id: &str) -> Result<()> {
        match self.over() {
            None => Ok(()),
            Some(why) => Err(Error::TimeOver {
                verb,
                id: id.to_owned(),
                why,
            }),
        }
    }

    fn over(&self) -> Option<String> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.cancelled {
            return Some("its caller has left".to_owned());
        }
        let seconds = self.0.limit.as_secs_f64();
        (self.left().is_zero()).then(|| format!("it was to take {seconds:.1} s at the most"))
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A file that is written for as long as the verb may go on.
pub(crate) struct While<'a, W> {
    pub(crate) out: W,
    pub(crate) cancel: &'a Cancel,
}

impl<W: Write> Write for While<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.cancel.over() {
            None => self.out.write(bytes),
            Some(why) => Err(io::Error::new(io::ErrorKind::TimedOut, why)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_caller_that_leaves_ends_it_and_what_it_waits_for() {
        let cancel = Cancel::after(Duration::from_secs(1000));
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        cancel.then(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let guard = cancel.on_drop();
        cancel.check("checkpoint", "c").unwrap();
        let mut file = While {
            out: Vec::new(),
            cancel: &cancel,
        };
        file.write_all(b"x").unwrap();
        drop(guard);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(file.write_all(b"y").is_err());
        let error = cancel.check("checkpoint", "c").unwrap_err().to_string();
        assert!(error.contains("caller has left"), "{error}");
        // Too late: at once.
        let counted = Arc::clone(&count);
        cancel.then(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn its_time_is_over_without_a_word() {
        let cancel = Cancel::after(Duration::ZERO);
        let error = cancel.check("checkpoint", "c").unwrap_err();
        assert_eq!(error.kind(), crate::Kind::DeadlineExceeded);
        assert!(error.to_string().contains("0.0 s"), "{error}");
    }
}
