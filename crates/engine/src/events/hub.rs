//! The hub: each event goes to every subscriber, and waits for none. What a slow one has not fetched is
//! kept for it up to [`KEPT`] events, and then it has missed the oldest.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::change::{Change, PodViews};
use super::{Event, listener};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::Pod;

/// How many events are kept for subscribers who have not fetched them.
const KEPT: usize = 1024;

/// The hub of one engine in this process.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    sender: OnceLock<Sender<Arc<Event>>>,
    /// Does the thread run that hears supervisors?
    running: Mutex<bool>,
    /// Wakes it.
    wake: OnceLock<Arc<OwnedFd>>,
}

/// Wakes the listening thread when a subscriber has left.
#[derive(Debug)]
pub(super) struct Leaves(Arc<OwnedFd>);

impl Drop for Leaves {
    fn drop(&mut self) {
        wake(&self.0);
    }
}

fn wake(by: &OwnedFd) {
    // Full only if it is to wake already.
    let _ = rustix::io::write(by, &1_u64.to_ne_bytes());
}

impl Hub {
    fn sender(&self) -> &Sender<Arc<Event>> {
        self.sender.get_or_init(|| broadcast::channel(KEPT).0)
    }

    /// All that is told from now on.
    pub(super) fn receiver(&self) -> Receiver<Arc<Event>> {
        self.sender().subscribe()
    }

    /// Is anybody subscribed?
    pub(crate) fn is_heard(&self) -> bool {
        self.sender
            .get()
            .is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Tells all subscribers of a step, and how the pod is after it: `views`, at least as new as `as_of`, and
    /// if it is gone, how it was `last`.
    pub(crate) fn tell(&self, change: Change, views: PodViews, as_of: i64, last: Option<Arc<Pod>>) {
        let event = Event {
            what: change.what,
            at: change.at,
            pod_id: change.pod,
            container_id: change.container,
            as_of,
            pod: views.pod.clone().or(last),
            views,
        };
        // Nobody is subscribed: nobody wants it.
        let _ = self.sender().send(Arc::new(event));
    }

    /// Sees to it that supervisors are heard for as long as anybody is subscribed.
    pub(super) fn listen(&self, engine: &Engine) -> Result<Leaves> {
        let by = match self.wake.get() {
            Some(by) => by.clone(),
            None => {
                let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
                let made = eventfd(0, flags)
                    .map_err(|errno| Error::io("make", "eventfd")(errno.into()))?;
                self.wake.get_or_init(|| Arc::new(made)).clone()
            }
        };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !*running {
            listener::start(engine.clone(), by.clone())?;
            *running = true;
        }
        drop(running);
        // Pods that it did not follow for want of subscribers.
        wake(&by);
        Ok(Leaves(by))
    }

    /// Does the listening thread go on? If not, the next subscriber starts another.
    pub(super) fn goes_on(&self) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = self.is_heard();
        *running
    }
}
