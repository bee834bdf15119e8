//! Places for connections: a bounded number, of which the one that has been idle the longest is given
//! up when somebody else wants to come in. When none is idle, those give way that hardly move: whose
//! client sends a body or takes an answer more slowly than anybody needs.
//!
//! Must never take a place from a connection whose request is being worked on here, or whose client
//! does its part.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::http::Waiting;

/// A connection may say nothing for as long, whatever the need of others: it may have just come.
const GRACE: Duration = Duration::from_secs(1);
/// Over as long a time a client has to send or take as many bytes per second.
const WINDOW: Duration = Duration::from_secs(10);
const SLOWEST: u64 = 4 << 10;
/// How often somebody who waits looks for an idle connection.
const LOOK: Duration = Duration::from_millis(100);

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    free: Arc<Semaphore>,
    taken: Mutex<Vec<Weak<Occupant>>>,
}

/// Whoever has a place.
#[derive(Debug)]
pub(super) struct Occupant {
    begun: Instant,
    /// Requests that are being worked on and answers under way.
    busy: AtomicUsize,
    /// Milliseconds after `begun` since when it is not busy.
    idle_since: AtomicU64,
    /// Those of them that wait for the client's body.
    waiting: Waiting,
    /// Answers under way.
    answers: AtomicUsize,
    /// Bytes that have gone either way, and how many they were when that was looked at last.
    moved: AtomicU64,
    seen: Mutex<(Instant, u64)>,
    /// Whether it has been told to go.
    told: AtomicBool,
    /// Whether it is to go although it is busy.
    at_once: AtomicBool,
    leave: Notify,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) occupant: Arc<Occupant>,
    _permit: OwnedSemaphorePermit,
}

/// While it lives, its connection is busy.
#[derive(Debug)]
pub(super) struct Busy {
    occupant: Arc<Occupant>,
    is_answer: bool,
}

impl Places {
    pub(super) fn new(count: usize) -> Places {
        Places {
            most: count,
            free: Arc::new(Semaphore::new(count)),
            taken: Mutex::default(),
        }
    }

    /// A place for somebody who is at the door already.
    pub(super) async fn take(&self) -> Option<Place> {
        // As a rule the first one told goes at once; those that do not may be many.
        let mut count = 1;
        loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                return Some(self.occupy(permit));
            }
            self.tell_the_idlest(count);
            count = count.saturating_mul(2);
            let free = Arc::clone(&self.free).acquire_owned();
            match tokio::time::timeout(LOOK, free).await {
                Ok(Ok(permit)) => return Some(self.occupy(permit)),
                // The semaphore is never closed.
                Ok(Err(_)) => return None,
                Err(_) => {}
            }
        }
    }

    fn occupy(&self, permit: OwnedSemaphorePermit) -> Place {
        let occupant = Arc::new(Occupant {
            begun: Instant::now(),
            busy: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            waiting: Waiting::default(),
            answers: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            seen: Mutex::new((Instant::now(), 0)),
            at_once: AtomicBool::new(false),
            told: AtomicBool::new(false),
            leave: Notify::new(),
        });
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have left are as many as the living at most.
        if taken.len() >= 2 * self.most {
            taken.retain(|one| one.strong_count() > 0);
        }
        taken.push(Arc::downgrade(&occupant));
        Place {
            occupant,
            _permit: permit,
        }
    }

    /// Tells those that have been idle the longest to leave, or else the slowest.
    fn tell_the_idlest(&self, count: usize) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|one| one.strong_count() > 0);
        let all: Vec<_> = taken.iter().filter_map(Weak::upgrade).collect();
        let idle = all.iter().filter_map(|one| Some((one.idle_for()?, one)));
        let mut idle: Vec<_> = idle.filter(|(idle, _)| *idle >= GRACE).collect();
        idle.sort_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        for (_, one) in idle.iter().take(count) {
            one.tell();
        }
        if idle.is_empty() {
            let slow = all.iter().filter_map(|one| Some((one.slow()?, one)));
            let mut slow: Vec<_> = slow.collect();
            slow.sort_by_key(|(rate, _)| *rate);
            for (_, one) in slow.into_iter().take(count) {
                one.at_once.store(true, Ordering::Relaxed);
                one.tell();
            }
        }
    }
}

impl Occupant {
    /// For how long it has been idle; `None` when it is busy, or is going already.
    fn idle_for(&self) -> Option<Duration> {
        if self.busy.load(Ordering::Acquire) > 0 || self.told.load(Ordering::Relaxed) {
            return None;
        }
        let since = Duration::from_millis(self.idle_since.load(Ordering::Relaxed));
        Some(self.begun.elapsed().saturating_sub(since))
    }

    /// Bytes per second, when its client is waited for and they are too few.
    fn slow(&self) -> Option<u64> {
        if self.at_once.load(Ordering::Relaxed) {
            return None;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, before) = *seen;
        if since.elapsed() < WINDOW {
            return None;
        }
        let moved = self.moved.load(Ordering::Relaxed);
        let rate = (moved - before) / since.elapsed().as_secs().max(1);
        *seen = (Instant::now(), moved);
        let waits = self.waiting.is_some() || self.answers.load(Ordering::Relaxed) > 0;
        (waits && rate < SLOWEST).then_some(rate)
    }

    fn tell(&self) {
        self.told.store(true, Ordering::Relaxed);
        self.leave.notify_one();
    }

    /// Bytes have gone either way.
    pub(super) fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Where a request says that it waits for its body.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }

    /// Says that it is busy, while a request is being worked on.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy {
            occupant: Arc::clone(self),
            is_answer: false,
        }
    }

    /// The same, while an answer is under way.
    pub(super) fn answering(self: &Arc<Self>) -> Busy {
        self.answers.fetch_add(1, Ordering::AcqRel);
        let mut busy = self.busy();
        busy.is_answer = true;
        busy
    }

    /// Whether what it is busy with is not waited for.
    pub(super) fn must_go(&self) -> bool {
        self.at_once.load(Ordering::Relaxed)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// Completes when its place is wanted.
    pub(super) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let occupant = &self.occupant;
        let now = occupant.begun.elapsed().as_millis() as u64;
        occupant.idle_since.store(now, Ordering::Relaxed);
        if self.is_answer {
            occupant.answers.fetch_sub(1, Ordering::AcqRel);
        }
        occupant.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(places: &Arc<Places>) -> tokio::task::JoinHandle<Option<Place>> {
        let places = Arc::clone(places);
        tokio::spawn(async move { places.take().await })
    }

    #[tokio::test]
    async fn the_longest_idle_one_gives_way_and_a_busy_one_never_does() {
        let places = Arc::new(Places::new(3));
        let first = places.take().await.unwrap();
        let working = first.occupant.busy();
        let second = places.take().await.unwrap();
        let third = places.take().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        // The second has just answered: the third has been idle longer.
        drop(second.occupant.busy());
        let waiting = waiting(&places);
        third.occupant.told_to_leave().await;
        drop(third);
        waiting.await.unwrap().unwrap();
        assert!(first.occupant.idle_for().is_none());
        drop(working);
    }

    #[tokio::test]
    async fn whoever_has_just_come_is_left_alone_for_a_moment() {
        let places = Arc::new(Places::new(1));
        let young = places.take().await.unwrap();
        places.tell_the_idlest(1);
        assert!(young.occupant.idle_for().is_some(), "not told yet");
        let waiting = waiting(&places);
        young.occupant.told_to_leave().await;
        assert!(young.occupant.idle_for().is_none());
        drop(young);
        waiting.await.unwrap().unwrap();
    }
}
