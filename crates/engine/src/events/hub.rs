//! The hub: each event goes to every subscriber, and waits for none. What a slow one has not fetched is
//! kept for it up to [`KEPT`] events, and then it has missed the oldest.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::change::{Change, PodViews};
use super::{Event, Happening, listener};
use crate::container::refused::full_name;
use crate::container::{Container, OUT_OF_MEMORY};
use crate::disk::now_ns;
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
    counts: Counts,
}

/// What is counted of events, whoever hears them.
#[derive(Debug, Default)]
struct Counts {
    /// From when on, in nanoseconds since 1970; not set: nothing is counted.
    since: OnceLock<i64>,
    /// Containers killed for want of memory, by name.
    out_of_memory: Mutex<BTreeMap<String, u64>>,
    dropped: AtomicU64,
    /// Lines and bytes that logs lack.
    log_lines: AtomicU64,
    log_bytes: AtomicU64,
}

/// As many names are told apart.
const NAMES: usize = 1024;

impl Counts {
    fn note(&self, event: &Event) {
        // What ended before that is seen when its pod is read first.
        if self.since.get().is_none_or(|since| event.at < *since) {
            return;
        }
        let Some((pod, container)) = out_of_memory(event) else {
            return;
        };
        let name = full_name(&pod.spec, &container.spec);
        let mut counts = self
            .out_of_memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let name = match counts.contains_key(&name) || counts.len() < NAMES {
            true => name,
            false => "other".to_owned(),
        };
        *counts.entry(name).or_default() += 1;
    }

    fn note_log_losses(&self, before: &PodViews, after: &PodViews) {
        for one in after.containers.iter().filter(|one| one.log_loss.bytes > 0) {
            let known = before.containers.iter().find(|known| known.id == one.id);
            let of = |loss: fn(&Container) -> u64| {
                loss(one).saturating_sub(known.map_or(0, |known| loss(known)))
            };
            let (lines, bytes) = (of(|one| one.log_loss.lines), of(|one| one.log_loss.bytes));
            self.log_lines.fetch_add(lines, Ordering::Relaxed);
            self.log_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Of whose end for want of memory an event tells.
fn out_of_memory(event: &Event) -> Option<(&Pod, &Container)> {
    let id = event.container_id.as_ref();
    let id = id.filter(|_| event.what == Happening::Stopped)?;
    let mut of_pod = event.views.containers.iter();
    let container = of_pod.find(|one| *one.id == **id)?;
    let killed = container.state.reason() == Some(OUT_OF_MEMORY);
    let pod = event.views.pod.as_deref()?;
    killed.then_some((pod, &**container))
}

impl Engine {
    /// Counts what happens from now on, for [`Engine::out_of_memory`].
    pub fn count_events(&self) {
        self.hub().counts.since.get_or_init(now_ns);
    }

    /// How many containers were seen to be killed for want of memory since [`Engine::count_events`], by their
    /// name and their pod's: `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`.
    #[must_use]
    pub fn out_of_memory(&self) -> BTreeMap<String, u64> {
        let counts = self.hub().counts.out_of_memory.lock();
        counts.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines, and bytes of text, were seen to be missing in containers' logs for the limits of those or of
    /// their disk. Those of containers that were there when this began included.
    #[must_use]
    pub fn log_losses(&self) -> (u64, u64) {
        // What is not read yet.
        self.cached(|_| ());
        let counts = &self.hub().counts;
        (
            counts.log_lines.load(Ordering::Relaxed),
            counts.log_bytes.load(Ordering::Relaxed),
        )
    }

    /// How many events subscribers have missed for being slow.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.hub().counts.dropped.load(Ordering::Relaxed)
    }
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

    /// Does anybody want to know what happens?
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_heard() || self.counts.since.get().is_some()
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
        self.counts.note(&event);
        // Nobody is subscribed: nobody wants it.
        let _ = self.sender().send(Arc::new(event));
    }

    /// A pod was read again: counts what its logs lack since then.
    pub(crate) fn note_log_losses(&self, before: &PodViews, after: &PodViews) {
        self.counts.note_log_losses(before, after);
    }

    /// A subscriber has missed so many.
    pub(super) fn missed(&self, events: u64) {
        self.counts.dropped.fetch_add(events, Ordering::Relaxed);
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
