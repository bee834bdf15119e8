//! What is under way in pods. Whatever runs a pod takes so many clients (a supervisor 512): the engine
//! gives each pod a part of them for commands and a part for the rest, so that a pod full of hung
//! commands can still be stopped, and refuses what is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// What a call is for, as far as its pod's share of connections goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// A command in a container.
    Command,
    /// Start and stop.
    Life,
}

impl Purpose {
    /// How many such calls of one pod may be under way.
    fn share(self) -> usize {
        match self {
            Self::Command => 320,
            Self::Life => 160,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Command => "commands",
            Self::Life => "starts and stops",
        }
    }
}

/// How many calls of each pod are under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls {
    counts: Arc<Mutex<HashMap<(String, Purpose), usize>>>,
}

/// A call's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    calls: Calls,
    key: (String, Purpose),
}

impl Calls {
    /// A place for one more call of the pod.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub(crate) fn take(&self, pod: &str, purpose: Purpose) -> Result<Place> {
        let key = (pod.to_owned(), purpose);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= purpose.share() {
            return Err(Error::Busy {
                pod: pod.to_owned(),
                count: *count,
                what: purpose.words(),
            });
        }
        *count += 1;
        drop(counts);
        Ok(Place {
            calls: self.clone(),
            key,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counts = &self.calls.counts;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_full_of_commands_can_still_be_stopped() {
        let calls = Calls::default();
        let taken: Vec<Place> = (0..Purpose::Command.share())
            .map(|_| calls.take("p", Purpose::Command).unwrap())
            .collect();
        let refused = calls.take("p", Purpose::Command).unwrap_err();
        assert_eq!(refused.kind(), crate::Kind::ResourceExhausted);
        calls.take("p", Purpose::Life).unwrap();
        calls.take("q", Purpose::Command).unwrap();
        drop(taken);
        assert!(calls.counts.lock().unwrap().is_empty());
        calls.take("p", Purpose::Command).unwrap();
    }
}
