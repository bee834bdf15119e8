//! Events: what happens to pods and containers, told to whoever subscribes.
//!
//! ```text
//!  handlers ──push (OOM kills, pauses, each step)─▶ listener.rs ─┐
//!  records, lives of processes ──inotify, pidfd──▶ view/ ────────┼▶ hub.rs ──▶ Subscription, each its own
//!                                                                └─ change.rs: what is new
//! ```
//! Each subscriber learns the present state first and then every event in order. One that is too slow is
//! told how many it has missed, and the present state again; it holds up nobody. A step in a life is told
//! once its record says so, so it is told however it came about: by this process, by another one, or by a
//! kill. What no record tells (OOM kills of a container that lives on, pauses) comes from the handlers
//! ([`crate::handler::Handler::events`]); a supervisor of a floe that knew no events does not tell it, which is said
//! once in the log.
//!
//! Nothing runs while nobody is subscribed.

pub(crate) mod change;
pub(crate) mod hub;
mod listener;

use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

pub use change::PodViews;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::Pod;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// What.
    pub what: Happening,
    /// When: nanoseconds since 1970.
    pub at: i64,
    /// The pod it happened in.
    pub pod_id: Arc<str>,
    /// The container it happened to; `None`: to the pod itself.
    pub container_id: Option<Arc<str>>,
    /// The pod and its containers as they were when it was told: perhaps later than it happened.
    pub views: PodViews,
    /// Nanoseconds since 1970: `views` are at least as new as this.
    pub as_of: i64,
    /// The pod of `views`; if there is none any more, the pod as it was seen last.
    pub pod: Option<Arc<Pod>>,
}

/// What happened to a pod or a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happening {
    /// It is made.
    Created,
    /// A pod is ready; a container's program runs.
    Started,
    /// A container's processes were frozen.
    Paused,
    /// They go on.
    Resumed,
    /// The kernel killed a process of a container for want of memory.
    OutOfMemory,
    /// A pod is not ready any more; a container has ended.
    Stopped,
    /// It is removed.
    Deleted,
}

/// What a subscriber learns.
#[derive(Debug, Clone)]
pub enum Notice {
    /// All pods as they are now; what comes after it happened after it.
    Present(Vec<PodViews>),
    /// Something has happened.
    Event(Arc<Event>),
    /// The subscriber was too slow, and has missed so many events: the present state comes next.
    Gap {
        /// How many.
        missed: u64,
    },
}

/// A subscription to all events; dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    // First: its end is seen by who wakes up after it.
    receiver: Receiver<Arc<Event>>,
    /// Not yet told.
    present: Option<Vec<PodViews>>,
    /// Some were missed.
    behind: bool,
    engine: Engine,
    _leaves: hub::Leaves,
}

impl Engine {
    /// Subscribes to all events, whoever makes them happen. This process watches from then on, as
    /// [`Engine::watch`] does. Blocks for as long as reading all records takes.
    ///
    /// # Errors
    /// The kernel has no watch or thread to give.
    pub fn subscribe(&self) -> Result<Subscription> {
        self.watch()?;
        let (receiver, present) = self.join()?;
        let leaves = self.hub().listen(self)?;
        Ok(Subscription {
            receiver,
            present: Some(present),
            behind: false,
            engine: self.clone(),
            _leaves: leaves,
        })
    }

    /// Has all subscribers told of what has changed until now: after each step of one who takes several in
    /// a moment, so that each is told.
    pub fn tell_changes(&self) {
        if self.hub().is_heard()
            && let Err(error) = self.cached_mut(|_| ())
        {
            tracing::debug!(%error, "a step is told later");
        }
    }

    /// The present state, and all that comes after it.
    fn join(&self) -> Result<(Receiver<Arc<Event>>, Vec<PodViews>)> {
        self.cached_mut(|cache| {
            let views = cache.pods().map(|(_, pod)| pod.views());
            let made = views.filter(|views| views.pod.is_some()).collect();
            (self.hub().receiver(), made)
        })
    }
}

impl Subscription {
    /// What comes next; waits for it. The first is [`Notice::Present`]. May be given up and asked again.
    ///
    /// # Errors
    /// The records cannot be watched any more.
    pub async fn next(&mut self) -> Result<Notice> {
        if let Some(present) = self.present.take() {
            return Ok(Notice::Present(present));
        }
        if self.behind {
            let engine = self.engine.clone();
            let joined = tokio::task::spawn_blocking(move || engine.join());
            let gave_up = |_| Error::Unsupported("events while the process ends".into());
            let (receiver, present) = joined.await.map_err(gave_up)??;
            self.receiver = receiver;
            self.behind = false;
            return Ok(Notice::Present(present));
        }
        match self.receiver.recv().await {
            Ok(event) => Ok(Notice::Event(event)),
            Err(RecvError::Lagged(missed)) => {
                self.behind = true;
                self.engine.hub().missed(missed);
                Ok(Notice::Gap { missed })
            }
            Err(RecvError::Closed) => Err(Error::Unsupported("events without a hub".into())),
        }
    }
}
