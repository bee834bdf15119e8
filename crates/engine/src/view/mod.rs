//! What a long-lived process keeps of the records, so that a list of 500 pods reads no file that has not
//! changed. The records stay the truth, and any process may change them: each question first asks the
//! kernel what has changed since the last one (`watcher.rs`), and reads that again (`cache.rs`). As the
//! kernel notes a change before the call that makes it returns, whoever asks after a change sees it,
//! whoever made it. Nothing here waits for news, and nothing is believed because somebody told it.
//!
//! A process that asks once reads the files directly, and so does one that cannot watch, and one that
//! could not read all: it gets the error, or the answer, that the files give.

mod cache;
mod watcher;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::{Origin, Pod};

pub(crate) use cache::{Cache, CachedPod};

/// What is kept, if this process keeps anything.
#[derive(Debug, Default)]
pub(crate) struct Views {
    kept: Mutex<Option<Cache>>,
}

/// A container as lists need it.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) container: Arc<Container>,
    /// Of its pod; `None` of a pod whose record cannot be read: it is any.
    pub(crate) origin: Option<Origin>,
}

impl Views {
    fn lock(&self) -> MutexGuard<'_, Option<Cache>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Keeps what is read of pods and containers from now on, for a process that asks again and again:
    /// then a list costs what has changed since the last one. Asked again, it does nothing.
    ///
    /// # Errors
    /// The kernel has no watch to give: everything works, and each list reads all files.
    pub fn watch(&self) -> Result<()> {
        let mut kept = self.views().lock();
        if kept.is_none() {
            *kept = Some(Cache::new()?);
        }
        Ok(())
    }

    /// Answers a question from what is kept, as it is now. `None`: this process keeps nothing, or could
    /// not read everything: the files are to be read.
    pub(crate) fn cached<T>(&self, question: impl FnOnce(&Cache) -> T) -> Option<T> {
        let mut guard = self.views().lock();
        let kept = guard.as_mut()?;
        kept.refresh(self);
        kept.is_complete().then(|| question(kept))
    }

    /// The same for who needs what is kept, and cannot do with the files.
    pub(crate) fn cached_mut<T>(&self, question: impl FnOnce(&mut Cache) -> T) -> Result<T> {
        let mut guard = self.views().lock();
        let kept = guard
            .as_mut()
            .ok_or_else(|| Error::Unsupported("events without a watch on the records".into()))?;
        kept.refresh(self);
        Ok(question(kept))
    }
}

/// Whose pod it is, as lists filter; of a damaged one nobody knows.
pub(crate) fn is_of(of: Option<Origin>, wanted: Option<Origin>) -> bool {
    of.is_none() || wanted.is_none() || of == wanted
}

/// Of a pod that is made.
pub(crate) fn origin(pod: &Pod) -> Option<Origin> {
    (!pod.damaged).then_some(pod.spec.origin)
}

#[cfg(test)]
mod tests;
