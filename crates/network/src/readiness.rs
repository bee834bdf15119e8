//! Whether a network's plugins are ready (CNI's STATUS), asked as seldom as a node's status allows.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::cni::chain::Chain;
use crate::{Error, NotReady};

/// How long the answer of a network's plugins to STATUS is taken for the present one: kubelet asks every
/// five seconds, and others when they like.
const STATUS_LASTS: Duration = Duration::from_secs(2);

/// What the plugins of a network have said to STATUS.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    last: Mutex<Option<Answer>>,
    /// Held while they are asked.
    asking: Mutex<()>,
}

#[derive(Debug)]
struct Answer {
    of: Arc<Chain>,
    at: Instant,
    ready: Result<(), NotReady>,
}

impl Asked {
    /// Whether the network's plugins are ready.
    pub(crate) fn status(&self, chain: &Arc<Chain>) -> Result<(), NotReady> {
        if let Some(answer) = self.known(chain, |age| age < STATUS_LASTS) {
            return answer;
        }
        let _asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => match self.known(chain, |_| true) {
                Some(answer) => return answer,
                None => self.asking.lock().unwrap_or_else(PoisonError::into_inner),
            },
        };
        if let Some(answer) = self.known(chain, |age| age < STATUS_LASTS) {
            return answer;
        }
        let ready = chain.status().map_err(not_ready);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Answer {
            of: chain.clone(),
            at: Instant::now(),
            ready: ready.clone(),
        });
        ready
    }

    fn known(
        &self,
        chain: &Arc<Chain>,
        counts: impl Fn(Duration) -> bool,
    ) -> Option<Result<(), NotReady>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.as_ref().filter(|last| Arc::ptr_eq(&last.of, chain))?;
        counts(last.at.elapsed()).then(|| last.ready.clone())
    }
}

/// The reason, whatever failed.
pub(crate) fn not_ready(error: Error) -> NotReady {
    match error {
        Error::NotReady(reason) => reason,
        error => NotReady {
            reason: error.to_string(),
        },
    }
}
