//! Turns: how many changes of one object may hold a thread at once. A pod that the kernel holds
//! keeps its few threads; further changes of it wait here, on none, and those of others go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Changes of one object at once: a pod worker, garbage collection, and one more.
const AT_ONCE: usize = 3;

/// With more objects than that, those without any change are forgotten.
const KNOWN: usize = 1024;

/// The turns of all objects. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    objects: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

impl Turns {
    /// Waits for a turn at `object`; given back when dropped. `None` never comes: nobody closes the
    /// semaphores.
    pub(crate) async fn take(&self, object: &str) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
            if objects.len() >= KNOWN {
                objects.retain(|_, turns| turns.available_permits() < AT_ONCE);
            }
            let turns = objects
                .entry(object.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)));
            Arc::clone(turns)
        };
        turns.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_object_has_few_turns_and_others_have_theirs() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(turns.take("stuck").await);
        }
        let mut waiting = Box::pin(turns.take("stuck"));
        let waits = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending())
        });
        assert!(waits.await);
        assert!(turns.take("other").await.is_some());
        held.pop();
        assert!(waiting.await.is_some());
    }

    #[tokio::test]
    async fn objects_without_changes_are_forgotten() {
        let turns = Turns::default();
        let held = turns.take("held").await;
        for number in 0..3 * KNOWN {
            turns.take(&number.to_string()).await;
        }
        let objects = turns.objects.lock().unwrap();
        assert!(objects.len() <= KNOWN && objects.contains_key("held"));
        drop(held);
    }
}
