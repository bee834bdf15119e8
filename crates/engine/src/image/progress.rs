//! How pulls stand: those that run, with who waits for each, and the last ones that ended, for the timelines of pods.
//! Kept in memory: a pull does not outlive its engine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use distribution::BlobStep;
use image::{Descriptor, Digest, Manifest};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncGuard};

use crate::disk::now_ns;

/// How often the log says how a pull goes on.
pub(super) const SAY: Duration = Duration::from_secs(30);
/// How many pulls that ended are known.
const ENDED: usize = 512;
/// How many blobs of a pull are told apart: more than a manifest of the usual size names.
const BLOBS: usize = 4096;

/// A pod that needs an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asker {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A pull that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullState {
    /// The full name of the image.
    pub image: String,
    /// Since when: nanoseconds since 1970.
    pub since: i64,
    /// For how long, whatever the clock says.
    pub lasts: Duration,
    /// Bytes of blobs that have come.
    pub bytes: u64,
    /// Bytes of the blobs that come; 0 until its manifest is read.
    pub total: u64,
    /// Layers that are whole, those that were there included.
    pub layers_done: usize,
    /// Its layers; 0 until its manifest is read.
    pub layers: usize,
    /// The pods that wait for it, first the one whose request fetches it. One that names no pod has no name.
    pub askers: Vec<Asker>,
}

/// A pull that was waited for by a pod, and has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The full name of the image.
    pub image: String,
    /// When it was asked for: nanoseconds since 1970.
    pub asked: i64,
    /// When it ended.
    pub ended: i64,
    /// Bytes that came for it.
    pub bytes: u64,
    /// It came.
    pub succeeded: bool,
}

/// All pulls of an engine.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    running: Mutex<BTreeMap<String, Arc<Running>>>,
    ended: Mutex<VecDeque<(Asker, Pulled)>>,
}

/// One image on its way: one fetches it at a time, and the others find what that one has stored.
#[derive(Debug)]
pub(super) struct Running {
    turn: AsyncMutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: i64,
    begun: Instant,
    askers: Vec<(u64, Asker)>,
    last: u64,
    planned: Option<(usize, u64)>,
    blobs: BTreeMap<Digest, Blob>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Blob {
    size: u64,
    at: u64,
    /// It was there and did not come.
    there: bool,
    done: bool,
}

/// Somebody's wait for an image; dropping it ends that.
#[derive(Debug)]
pub(super) struct Place {
    pulls: Arc<Pulls>,
    running: Arc<Running>,
    image: String,
    number: u64,
    asked: i64,
    succeeded: bool,
}

impl Pulls {
    /// Those that run, the oldest first.
    pub(crate) fn running(&self) -> Vec<PullState> {
        let running = lock(&self.running);
        let mut all: Vec<PullState> = running
            .iter()
            .map(|(image, one)| lock(&one.state).shown(image))
            .collect();
        all.sort_by_key(|one| one.since);
        all
    }

    /// The pulls that a pod has waited for, the oldest first.
    pub(crate) fn of_pod(&self, pod: &Asker) -> Vec<Pulled> {
        let ended = lock(&self.ended);
        let of = ended.iter().filter(|(asker, _)| asker == pod);
        of.map(|(_, pulled)| pulled.clone()).collect()
    }

    /// Begins to wait for an image.
    pub(super) fn join(self: &Arc<Self>, image: String, asker: Asker) -> Place {
        let mut all = lock(&self.running);
        let running = Arc::clone(all.entry(image.clone()).or_insert_with(|| {
            Arc::new(Running {
                turn: AsyncMutex::new(()),
                state: Mutex::new(State::new()),
            })
        }));
        let number = lock(&running.state).ask(asker);
        Place {
            pulls: Arc::clone(self),
            running,
            image,
            number,
            asked: now_ns(),
            succeeded: false,
        }
    }
}

impl Running {
    /// The manifest is known.
    pub(super) fn plan(&self, manifest: &Manifest) {
        let blobs = manifest.layers.iter().chain([&manifest.config]);
        let total = blobs.fold(0, |sum: u64, blob| sum.saturating_add(blob.size));
        lock(&self.state).planned = Some((manifest.layers.len(), total));
    }

    /// A blob has taken a step.
    pub(super) fn step(&self, blob: &Descriptor, step: BlobStep) {
        let mut state = lock(&self.state);
        if state.blobs.len() >= BLOBS && !state.blobs.contains_key(&blob.digest) {
            return;
        }
        let known = state.blobs.entry(blob.digest.clone()).or_default();
        known.size = blob.size;
        match step {
            BlobStep::Begun => {}
            BlobStep::There => (known.there, known.done) = (true, true),
            BlobStep::At(bytes) => known.at = bytes,
            BlobStep::Done => (known.at, known.done) = (blob.size, true),
        }
    }
}

impl Place {
    /// Waits until nobody else fetches the image.
    pub(super) async fn turn(&self) -> AsyncGuard<'_, ()> {
        let turn = self.running.turn.lock().await;
        let mut state = lock(&self.running.state);
        // Who fetches stands first.
        let own = state
            .askers
            .iter()
            .position(|(number, _)| *number == self.number);
        if let Some(own) = own {
            state.askers[..=own].rotate_right(1);
        }
        state.planned = None;
        state.blobs.clear();
        drop(state);
        turn
    }

    /// Who is told of the image's manifest and blobs.
    pub(super) fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running)
    }

    /// Does the work, and says in the log how it goes on as long as it lasts.
    pub(super) async fn told<T>(&self, work: impl Future<Output = T>, every: Duration) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(every, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.say(),
            }
        }
    }

    fn say(&self) {
        let PullState {
            image,
            since: _,
            lasts,
            bytes,
            total,
            layers_done,
            layers,
            askers,
        } = lock(&self.running.state).shown(&self.image);
        tracing::info!(
            image,
            bytes,
            total,
            layers_done,
            layers,
            askers = askers.len(),
            seconds = lasts.as_secs(),
            "a pull goes on"
        );
    }

    /// It came.
    pub(super) fn succeeded(&mut self) {
        self.succeeded = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = lock(&self.pulls.running);
        let mut state = lock(&self.running.state);
        let own = state
            .askers
            .iter()
            .position(|(number, _)| *number == self.number);
        let asker = own.map(|own| state.askers.remove(own).1);
        let bytes = state.bytes();
        if state.askers.is_empty() {
            all.remove(&self.image);
        }
        drop(state);
        drop(all);
        let Some(asker) = asker.filter(|asker| !asker.name.is_empty()) else {
            return;
        };
        let mut ended = lock(&self.pulls.ended);
        if ended.len() >= ENDED {
            ended.pop_front();
        }
        let pulled = Pulled {
            image: self.image.clone(),
            asked: self.asked,
            ended: now_ns(),
            bytes,
            succeeded: self.succeeded,
        };
        ended.push_back((asker, pulled));
    }
}

impl State {
    fn new() -> Self {
        Self {
            since: now_ns(),
            begun: Instant::now(),
            askers: Vec::new(),
            last: 0,
            planned: None,
            blobs: BTreeMap::new(),
        }
    }

    fn ask(&mut self, asker: Asker) -> u64 {
        self.last += 1;
        self.askers.push((self.last, asker));
        self.last
    }

    /// What has come.
    fn bytes(&self) -> u64 {
        let came = self.blobs.values().filter(|blob| !blob.there);
        came.fold(0, |sum, blob| sum.saturating_add(blob.at))
    }

    fn shown(&self, image: &str) -> PullState {
        let (layers, total) = self.planned.unwrap_or_default();
        let there = self.blobs.values().filter(|blob| blob.there);
        let there = there.fold(0, |sum: u64, blob| sum.saturating_add(blob.size));
        let done = self.blobs.values().filter(|blob| blob.done).count();
        PullState {
            image: image.to_owned(),
            since: self.since,
            lasts: self.begun.elapsed(),
            bytes: self.bytes(),
            total: total.saturating_sub(there),
            // The configuration is a blob, too, and the first that is done.
            layers_done: done.saturating_sub(1).min(layers),
            layers,
            askers: self.askers.iter().map(|(_, asker)| asker.clone()).collect(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(name: &str) -> Asker {
        Asker {
            name: name.to_owned(),
            ..Asker::default()
        }
    }

    fn blob(content: &str, size: u64) -> Descriptor {
        let digest = Digest::of(content.as_bytes());
        Descriptor::new(image::MediaType::OciConfig, digest, size)
    }

    #[tokio::test]
    async fn a_pull_shows_what_came_and_who_waits_until_the_last_has_left() {
        let pulls = Arc::new(Pulls::default());
        let mut first = pulls.join("x".into(), asker("a"));
        let turn = first.turn().await;
        let second = pulls.join("x".into(), asker("b"));
        first.running.step(&blob("config", 10), BlobStep::There);
        first.running.step(&blob("layer", 100), BlobStep::Begun);
        first.running.step(&blob("layer", 100), BlobStep::At(60));
        let [state] = &pulls.running()[..] else {
            panic!("{pulls:?}")
        };
        assert_eq!((state.bytes, state.layers), (60, 0));
        assert_eq!(state.askers, [asker("a"), asker("b")]);
        drop(turn);
        first.succeeded();
        drop(first);
        // Who fetches now stands first, and begins anew.
        let third = pulls.join("x".into(), asker("c"));
        let turn = third.turn().await;
        let state = &pulls.running()[0];
        assert_eq!(state.bytes, 0);
        assert_eq!(state.askers, [asker("c"), asker("b")]);
        drop(turn);
        drop((second, third));
        assert!(pulls.running().is_empty());
        let [of_a] = &pulls.of_pod(&asker("a"))[..] else {
            panic!("{pulls:?}")
        };
        assert!(of_a.succeeded && of_a.bytes == 60 && of_a.ended >= of_a.asked);
        assert!(!pulls.of_pod(&asker("b"))[0].succeeded);
        assert!(pulls.of_pod(&asker("d")).is_empty());
    }

    #[tokio::test]
    async fn what_lasts_is_told_again_and_again() {
        let pulls = Arc::new(Pulls::default());
        let place = pulls.join("x".into(), Asker::default());
        let work = tokio::time::sleep(Duration::from_millis(50));
        place.told(work, Duration::from_millis(1)).await;
        drop(place);
        for number in 0..2 * ENDED {
            drop(pulls.join(number.to_string(), asker("a")));
        }
        assert_eq!(lock(&pulls.ended).len(), ENDED);
    }
}
