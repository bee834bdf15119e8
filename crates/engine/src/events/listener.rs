//! One thread that hears all handlers' pods, and the kernel's word that records have changed: it makes what
//! is kept be read again, which tells the hub of each step, and tells it what no record says. Runs while
//! anybody is subscribed. Waits for nothing but news: connections and sockets never block.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::Happening;
use super::change::Change;
use crate::disk::now_ns;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::handler::{self, Happened, News};
use crate::pod::record::PodRecord;

/// How long until what could not be had is tried again, and what tells no changes is looked at.
const RETRY: Duration = Duration::from_secs(1);
/// How much memory the thread may use for its stack: reading a record needs the most.
const STACK: usize = 512 << 10;
/// How many descriptors are heard at once.
const BATCH: usize = 64;
/// Numbers below are not pods'.
const FIRST: u64 = 3;

/// Starts the thread.
///
/// # Errors
/// No thread or descriptor to be had.
pub(super) fn start(engine: Engine, wake: Arc<OwnedFd>) -> Result<()> {
    let failed = |errno: Errno| Error::io("watch", "events")(errno.into());
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
    epoll::add(&poll, &wake, EventData::new_u64(0), EventFlags::IN).map_err(failed)?;
    let listener = Listener {
        engine,
        poll,
        wake,
        generation: None,
        heard: HashMap::new(),
        by_pod: HashMap::new(),
        deaf: HashSet::new(),
        seen: HashMap::new(),
        last: FIRST,
    };
    std::thread::Builder::new()
        .name("events".to_owned())
        .stack_size(STACK)
        .spawn(move || listener.run())
        .map(drop)
        .map_err(Error::io("start", "the thread of events"))
}

/// A pod whose handler is heard.
#[derive(Debug)]
struct Heard {
    pod: Arc<str>,
    events: Box<dyn handler::Events>,
}

/// What the thread has.
#[derive(Debug)]
struct Listener {
    engine: Engine,
    poll: OwnedFd,
    wake: Arc<OwnedFd>,
    /// Of the watch whose descriptors are in the set.
    generation: Option<u64>,
    heard: HashMap<u64, Heard>,
    by_pod: HashMap<Arc<str>, u64>,
    /// Pods of which nobody tells.
    deaf: HashSet<Arc<str>>,
    /// The number of the last event of each pod that was heard.
    seen: HashMap<Arc<str>, u64>,
    last: u64,
}

impl Listener {
    fn run(mut self) {
        while self.engine.hub().goes_on() {
            self.engine = self.engine.now();
            let again = self.follow();
            let mut ready = Vec::with_capacity(BATCH);
            let timeout = again.then(|| rustix::time::Timespec {
                tv_sec: RETRY.as_secs() as i64,
                tv_nsec: 0,
            });
            let spare = rustix::buffer::spare_capacity(&mut ready);
            match epoll::wait(&self.poll, spare, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "events are looked for each second");
                    std::thread::sleep(RETRY);
                }
            }
            for event in ready {
                match event.data.u64() {
                    0 => drop(rustix::io::read(&self.wake, &mut [0_u8; 8])),
                    number => self.hear(number),
                }
            }
        }
    }

    /// Reads again what has changed, and hears each pod whose sandbox lives. True: there is something to
    /// be tried or looked at again without a word.
    fn follow(&mut self) -> bool {
        let (poll, generation) = (&self.poll, &mut self.generation);
        let (heard, deaf) = (&self.by_pod, &self.deaf);
        let looked = self.engine.cached_mut(|cache| {
            let (now, descriptors) = cache.descriptors();
            if *generation != Some(now) {
                // Those of the one before left the set when they were closed.
                let numbered = descriptors.iter().zip(1..FIRST);
                let added = numbered.map(|(fd, number)| {
                    epoll::add(poll, fd, EventData::new_u64(number), EventFlags::IN)
                });
                *generation = added.collect::<Result<Vec<()>, _>>().is_ok().then_some(now);
            }
            let (mut ids, mut new) = (HashSet::new(), Vec::<PodRecord>::new());
            for (id, pod) in cache.pods() {
                let Some(record) = pod.alive() else { continue };
                ids.insert(id.clone());
                if !heard.contains_key(id) && !deaf.contains(id) {
                    new.push(record.clone());
                }
            }
            (ids, new, cache.is_restless())
        });
        let Ok((alive, new, restless)) = looked else {
            return true;
        };
        self.deaf.retain(|pod| alive.contains(pod));
        self.seen.retain(|pod, _| alive.contains(pod));
        let gone = self.by_pod.keys().filter(|pod| !alive.contains(*pod));
        for pod in gone.cloned().collect::<Vec<_>>() {
            self.leave(&pod);
        }
        let mut again = restless || self.generation.is_none();
        for record in new {
            again |= !self.begin(&record);
        }
        again
    }

    /// Begins to hear a pod, where it was left off; false: to be tried again.
    fn begin(&mut self, record: &PodRecord) -> bool {
        let pod: Arc<str> = record.id.as_str().into();
        let dir = self.engine.layout().pod(&pod);
        let after = self.seen.get(&pod).copied();
        let asked = self.engine.handler_of(record);
        let events = match asked.and_then(|handler| handler.events(record.at(&dir), after)) {
            Ok(Some(events)) => events,
            Ok(None) => {
                tracing::info!(%pod, "nobody tells of it: its steps are told by its records, its OOM kills and pauses are not");
                self.deaf.insert(pod);
                return true;
            }
            Err(error) => {
                tracing::debug!(%pod, %error, "its events are asked for again");
                return false;
            }
        };
        self.last += 1;
        let number = EventData::new_u64(self.last);
        if epoll::add(&self.poll, events.descriptor(), number, EventFlags::IN).is_err() {
            return false;
        }
        self.by_pod.insert(pod.clone(), self.last);
        self.heard.insert(self.last, Heard { pod, events });
        true
    }

    fn leave(&mut self, pod: &str) {
        if let Some(number) = self.by_pod.remove(pod) {
            self.heard.remove(&number);
        }
    }

    /// Takes what was told of a pod.
    fn hear(&mut self, number: u64) {
        let Some(heard) = self.heard.get_mut(&number) else {
            return;
        };
        let pod = heard.pod.clone();
        let error = loop {
            match heard.events.next() {
                Ok(None) => return,
                Ok(Some(News::Missed)) => tracing::debug!(%pod, "some of its events were missed"),
                Ok(Some(News::Event(event))) => {
                    if let Some(number) = event.number {
                        self.seen.insert(pod.clone(), number);
                    }
                    tell(&self.engine, &pod, &event);
                }
                Err(error) => break error,
            }
        };
        if error.kind() == Kind::Unimplemented {
            tracing::info!(%pod, %error, "its supervisor is of a floe that knew no events: its steps are told by its records, its OOM kills and pauses are not");
            self.deaf.insert(pod.clone());
        }
        self.leave(&pod);
    }
}

/// Tells what a handler has said and no record says. What is a step of a life is told by the record,
/// which was written before: it is read again at the latest when the thread goes on.
fn tell(engine: &Engine, pod: &Arc<str>, event: &handler::Event) {
    let what = match event.happened {
        Happened::Paused => Happening::Paused,
        Happened::Resumed => Happening::Resumed,
        Happened::OutOfMemory => Happening::OutOfMemory,
        Happened::Created
        | Happened::Started
        | Happened::Exited { .. }
        | Happened::Removed
        | Happened::SandboxGone => return,
    };
    let as_of = now_ns();
    let told = engine.cached_mut(|cache| {
        let views = cache
            .pod(pod)
            .map(crate::view::CachedPod::views)
            .unwrap_or_default();
        let id = event.container.as_deref();
        let known = views
            .containers
            .iter()
            .find(|one| Some(one.id.as_str()) == id);
        if let Some(container) = known {
            let change = Change {
                pod: pod.clone(),
                container: Some(container.id.as_str().into()),
                what,
                at: event.at,
            };
            engine.hub().tell(change, views.clone(), as_of, None);
        }
    });
    if let Err(error) = told {
        tracing::debug!(%pod, %error, "an event is not told");
    }
}
