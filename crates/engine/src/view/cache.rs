//! The views of all pods and containers, each as it was when its records were read last, and which of
//! them must be read again. What could not be watched is read each time; what could not be read leaves
//! all questions to the files.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Once};

use rustix::io::Errno;

use super::Listed;
use super::watcher::{Change, Id, Life, Place, Watch, Watcher};
use crate::choose::resolve_prefix;
use crate::container::{Container, ContainerState};
use crate::disk::{Layout, now_ns};
use crate::engine::Engine;
use crate::error::Result;
use crate::events::change::{PodViews, compare};
use crate::handler::{End, Sandbox};
use crate::pod::record::PodRecord;
use crate::pod::{Origin, Pod, PodSpec};

/// What is kept.
#[derive(Debug)]
pub(crate) struct Cache {
    watcher: Watcher,
    /// On the directory of all pods; `None`: everything is read each time.
    root: Option<Root>,
    pods: BTreeMap<Id, CachedPod>,
    /// The pod of each container.
    places: BTreeMap<Id, Id>,
    stale: BTreeMap<Id, Stale>,
    /// Pods that cannot be watched whole, or can change without a word.
    restless: BTreeSet<Id>,
    /// Pods that could not be read, as they were before that.
    unread: BTreeMap<Id, PodViews>,
    /// Is it known which pods there are?
    listed: bool,
    /// How often the watcher was made anew.
    generation: u64,
}

/// The directory of all pods: watched, and known by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Root {
    identity: (u64, u64),
}

/// What must be read again of a pod.
#[derive(Debug, Default)]
struct Stale {
    /// All, as if it were new.
    all: bool,
    /// Containers, and whether as if they were new.
    containers: BTreeMap<Id, bool>,
}

/// A pod. One that is being made has no view.
#[derive(Debug, Default)]
pub(crate) struct CachedPod {
    pub(crate) view: Option<Arc<Pod>>,
    pub(crate) containers: BTreeMap<Id, CachedContainer>,
    /// Whose it is; `None`: its record cannot be read.
    origin: Option<Origin>,
    /// Its record, without what was asked for.
    record: Option<PodRecord>,
    /// Its sandbox, if that lives.
    sandbox: Option<Sandbox>,
    /// Can the records of all of its containers be read?
    intact: bool,
    life: Option<Life>,
    watches: Vec<Watch>,
}

/// A container. One that is half made has no view.
#[derive(Debug, Default)]
pub(crate) struct CachedContainer {
    pub(crate) view: Option<Arc<Container>>,
    watch: Option<Watch>,
}

impl CachedPod {
    /// Its views, as they are now.
    pub(crate) fn views(&self) -> PodViews {
        let containers = self.containers.values();
        PodViews {
            pod: self.view.clone(),
            containers: containers.filter_map(|one| one.view.clone()).collect(),
        }
    }

    /// Its record, while its sandbox lives.
    pub(crate) fn alive(&self) -> Option<&PodRecord> {
        self.record.as_ref().filter(|_| self.sandbox.is_some())
    }

    /// Those of a watcher that is given up.
    fn lose_watches(&mut self) {
        self.watches.clear();
        self.life = None;
        for container in self.containers.values_mut() {
            container.watch = None;
        }
    }
}

impl CachedContainer {
    /// May it change without a change of its files? Nobody tells when the last process of one that has
    /// no supervisor ends.
    fn is_restless(&self) -> bool {
        let unknown = |view: &Arc<Container>| matches!(view.state, ContainerState::Unknown);
        self.watch.is_none() || self.view.as_ref().is_some_and(unknown)
    }
}

impl Cache {
    /// Nothing is read yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            watcher: Watcher::new()?,
            root: None,
            pods: BTreeMap::new(),
            places: BTreeMap::new(),
            stale: BTreeMap::new(),
            restless: BTreeSet::new(),
            unread: BTreeMap::new(),
            listed: false,
            generation: 0,
        })
    }

    /// The descriptors that poll readable when there may be something to read again, and a number that
    /// changes when these are others.
    pub(crate) fn descriptors(&self) -> (u64, [BorrowedFd<'_>; 2]) {
        (self.generation, self.watcher.descriptors())
    }

    /// Was everything read?
    pub(super) fn is_complete(&self) -> bool {
        self.listed && self.unread.is_empty()
    }

    /// Can something change without a word?
    pub(crate) fn is_restless(&self) -> bool {
        !self.is_complete() || self.root.is_none() || !self.restless.is_empty()
    }

    /// All pods, those that are being made included.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&Id, &CachedPod)> {
        self.pods.iter()
    }

    /// A pod.
    pub(crate) fn pod(&self, id: &str) -> Option<&CachedPod> {
        self.pods.get(id)
    }

    /// All containers that are made, with whose they are.
    pub(crate) fn containers(&self) -> impl Iterator<Item = Listed> {
        self.pods.values().flat_map(|pod| {
            let made = |one: &CachedContainer| {
                Some(Listed {
                    container: one.view.clone()?,
                    origin: pod.origin,
                })
            };
            pod.containers.values().filter_map(made)
        })
    }

    /// The full id of the pod that `prefix` begins.
    pub(crate) fn find_pod(&self, prefix: &str) -> Result<Option<String>> {
        resolve_prefix("pod", prefix, beginning(&self.pods, prefix))
    }

    /// Pod and full id of the container that `prefix` begins, half-made ones included.
    pub(crate) fn find_container(&self, prefix: &str) -> Result<Option<(String, String)>> {
        let found = resolve_prefix("container", prefix, beginning(&self.places, prefix))?;
        let place = |id: String| Some((self.places.get(id.as_str())?.to_string(), id));
        Ok(found.and_then(place))
    }

    /// Reads again what has changed, and tells the hub.
    pub(super) fn refresh(&mut self, engine: &Engine) {
        let as_of = now_ns();
        let found = identity(engine.layout());
        if self.root.is_none_or(|root| found != Some(root.identity)) {
            self.begin_anew(engine);
        }
        for change in self.watcher.changes() {
            self.note(change, engine);
        }
        for id in self.restless.iter().chain(self.unread.keys()) {
            self.stale.entry(id.clone()).or_default().all = true;
        }
        let mut told = Vec::new();
        for (id, stale) in std::mem::take(&mut self.stale) {
            let known = || self.pods.get(&id).map(CachedPod::views).unwrap_or_default();
            let before = self.unread.remove(&id).unwrap_or_else(known);
            match self.reload(&id, stale, engine) {
                Ok(()) if engine.hub().is_wanted() => {
                    let after = self.pods.get(&id).map(CachedPod::views).unwrap_or_default();
                    engine.hub().note_log_losses(&before, &after);
                    let changes = compare(&id, &before, &after);
                    told.extend(changes.into_iter().map(|one| (one, before.pod.clone())));
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(pod = %id, %error, "lists read the files until this is better");
                    self.drop_pod(&id);
                    self.unread.insert(id, before);
                }
            }
        }
        for (change, last) in told {
            let views = self.pods.get(&*change.pod).map(CachedPod::views);
            let views = views.unwrap_or_default();
            engine.hub().tell(change, views, as_of, last);
        }
    }

    fn note(&mut self, change: Change, engine: &Engine) {
        match change {
            Change::Everything => self.begin_anew(engine),
            Change::Pod(pod) | Change::PodRecord(pod) => {
                self.stale.entry(pod).or_default().all = true;
            }
            Change::Container(pod, container) => {
                let stale = self.stale.entry(pod).or_default();
                stale.containers.insert(container, true);
            }
            Change::ContainerRecord(pod, container) => {
                let stale = self.stale.entry(pod).or_default();
                stale.containers.entry(container).or_default();
            }
        }
    }

    /// Watches anew, and reads everything again: too much has happened to know what.
    fn begin_anew(&mut self, engine: &Engine) {
        for pod in self.pods.values_mut() {
            pod.lose_watches();
        }
        self.root = None;
        self.listed = false;
        match Watcher::new() {
            Ok(watcher) => self.watcher = watcher,
            Err(error) => return tracing::warn!(%error, "lists read all files"),
        }
        self.generation += 1;
        self.root = self.watch_root(engine.layout());
        // After the watch: who comes later is told.
        match engine.layout().pod_ids() {
            Ok(found) => {
                self.listed = true;
                let known = self.pods.keys().cloned();
                for id in known.chain(found.into_iter().map(Id::from)) {
                    self.stale.entry(id).or_default().all = true;
                }
            }
            Err(_) => self.root = None,
        }
    }

    fn watch_root(&mut self, layout: &Layout) -> Option<Root> {
        match self.watcher.watch(&layout.pods(), Place::Pods) {
            Ok(watch) => watch.and_then(|_| {
                Some(Root {
                    identity: identity(layout)?,
                })
            }),
            Err(errno) => {
                warn_unwatched(errno);
                None
            }
        }
    }

    fn reload(&mut self, id: &Id, stale: Stale, engine: &Engine) -> Result<()> {
        if stale.all || !self.pods.contains_key(id) {
            return self.reload_pod(id, engine);
        }
        for (container, anew) in stale.containers {
            let Some(pod) = self.pods.get_mut(id) else {
                return Ok(());
            };
            let watch = pod.containers.remove(&container).and_then(|old| old.watch);
            if let Some(watch) = watch.filter(|_| anew) {
                self.watcher.forget(watch);
            }
            let watch = watch.filter(|_| !anew);
            let read = self.read_container(id, &container, watch, engine)?;
            self.put_container(id, container, read);
        }
        if let Some(CachedPod {
            record: Some(record),
            intact,
            ..
        }) = self.pods.get(id)
            && engine.is_intact(record, &engine.layout().pod(id))? != *intact
        {
            // Whether the pod is ready depends on it.
            return self.reload_pod(id, engine);
        }
        self.note_restless(id);
        Ok(())
    }

    /// Reads a pod and all of its containers as if they were new.
    fn reload_pod(&mut self, id: &Id, engine: &Engine) -> Result<()> {
        self.drop_pod(id);
        let dir = engine.layout().pod(id);
        // Before anything is read: what changes after that is told.
        let (pod, mut watched) = self.watch_pod(id, &dir);
        self.pods.insert(id.clone(), pod);
        let Some(record) = engine.pod_record(id)? else {
            self.drop_pod(id);
            return Ok(());
        };
        let found = engine.sandbox(&record)?;
        let (life, record_of_end) = self.watch_sandbox(found.as_ref(), id);
        watched &= life.is_ok() && record_of_end.is_ok();
        // Looked at again now that its end would be told.
        let sandbox = engine.sandbox(&record)?;
        let is_told = |sandbox: &Sandbox| sandbox.pid.is_some() && sandbox.end != End::Untold;
        watched &= sandbox.as_ref().is_none_or(is_told);
        if let Some(pod) = self.pods.get_mut(id) {
            pod.life = life.unwrap_or_default();
            pod.watches.extend(record_of_end.unwrap_or_default());
            pod.origin = (!record.is_damaged()).then_some(record.spec.origin);
            pod.sandbox = sandbox;
            pod.record = Some(record);
        }
        let containers = engine.layout().container_ids(id)?;
        for container in containers.into_iter().map(Id::from) {
            let read = self.read_container(id, &container, None, engine)?;
            self.put_container(id, container, read);
        }
        self.view_pod(id, &dir, engine)?;
        if !watched {
            self.restless.insert(id.clone());
        }
        Ok(())
    }

    /// Watches for the end of a sandbox: that of its process, and the record that may tell of it.
    fn watch_sandbox(
        &mut self,
        sandbox: Option<&Sandbox>,
        pod: &Id,
    ) -> (Result<Option<Life>, Errno>, Result<Option<Watch>, Errno>) {
        let life = match sandbox.and_then(|sandbox| sandbox.pid) {
            Some(pid) => self.watcher.watch_life(pid, pod),
            None => Ok(None),
        };
        let record = match sandbox.map(|sandbox| &sandbox.end) {
            Some(End::ProcessOrRecord(dir)) => {
                // Without it nobody would tell.
                let watch = self.watcher.watch(dir, Place::Sandbox(pod.clone()));
                watch.and_then(|watch| watch.map(Some).ok_or(Errno::NOENT))
            }
            _ => Ok(None),
        };
        (life, record)
    }

    /// Makes the view of a pod, now that all of it is watched.
    fn view_pod(&mut self, id: &Id, dir: &Path, engine: &Engine) -> Result<()> {
        self.note_restless(id);
        let Some(pod) = self.pods.get_mut(id) else {
            return Ok(());
        };
        if let Some(record) = &mut pod.record {
            pod.intact = engine.is_intact(record, dir)?;
            let view = record.view(pod.sandbox.clone(), pod.intact);
            pod.view = view.map(Arc::new);
            // The view has it.
            record.spec = PodSpec::default();
            record.steps = Vec::new();
        }
        Ok(())
    }

    /// A pod of which only its directories are watched; and whether they all are.
    fn watch_pod(&mut self, id: &Id, dir: &Path) -> (CachedPod, bool) {
        let mut pod = CachedPod::default();
        let mut watched = true;
        for (path, place) in [
            (dir.to_owned(), Place::Pod(id.clone())),
            (dir.join("containers"), Place::Containers(id.clone())),
        ] {
            match self.watcher.watch(&path, place) {
                Ok(watch) => pod.watches.extend(watch),
                Err(errno) => {
                    watched = false;
                    warn_unwatched(errno);
                }
            }
        }
        (pod, watched)
    }

    /// A container, watched before it is read; `None`: it is not there.
    fn read_container(
        &mut self,
        pod: &Id,
        id: &Id,
        watch: Option<Watch>,
        engine: &Engine,
    ) -> Result<Option<CachedContainer>> {
        let bundle = engine.layout().container(pod, id);
        let watch = match watch {
            Some(watch) => Some(watch),
            None => {
                let place = Place::Container(pod.clone(), id.clone());
                match self.watcher.watch(&bundle, place) {
                    Ok(None) => return Ok(None),
                    Ok(watch) => watch,
                    Err(errno) => {
                        warn_unwatched(errno);
                        None
                    }
                }
            }
        };
        let of = self.pods.get(pod);
        let read = || -> Result<CachedContainer> {
            let record = engine.container_record(pod, id)?;
            let view = match (record, of) {
                (
                    Some(record),
                    Some(CachedPod {
                        record: Some(pod),
                        sandbox,
                        ..
                    }),
                ) => Some(engine.view_container(pod, record, sandbox.as_ref())?),
                _ => None,
            };
            Ok(CachedContainer {
                view: view.map(Arc::new),
                watch,
            })
        };
        match read() {
            Ok(container) => Ok(Some(container)),
            Err(error) => {
                watch
                    .into_iter()
                    .for_each(|watch| self.watcher.forget(watch));
                Err(error)
            }
        }
    }

    fn put_container(&mut self, pod: &Id, id: Id, container: Option<CachedContainer>) {
        let Some(kept) = self.pods.get_mut(pod) else {
            return;
        };
        match container {
            Some(container) => {
                self.places.insert(id.clone(), pod.clone());
                kept.containers.insert(id, container);
            }
            None => drop(self.places.remove(&id)),
        }
    }

    fn note_restless(&mut self, id: &Id) {
        let restless = |pod: &CachedPod| pod.containers.values().any(CachedContainer::is_restless);
        match self.pods.get(id).is_some_and(restless) {
            true => drop(self.restless.insert(id.clone())),
            false => drop(self.restless.remove(id)),
        }
    }

    fn drop_pod(&mut self, id: &Id) {
        self.restless.remove(id);
        if let Some(pod) = self.pods.remove(id) {
            self.forget_pod(pod);
        }
    }

    fn forget_pod(&mut self, pod: CachedPod) {
        for (id, container) in pod.containers {
            self.places.remove(&id);
            container
                .watch
                .into_iter()
                .for_each(|watch| self.watcher.forget(watch));
        }
        pod.watches
            .into_iter()
            .for_each(|watch| self.watcher.forget(watch));
        pod.life
            .into_iter()
            .for_each(|life| self.watcher.forget_life(life));
    }
}

/// The keys that begin so.
fn beginning<T>(map: &BTreeMap<Id, T>, prefix: &str) -> Vec<String> {
    let from = (
        std::ops::Bound::Included(prefix),
        std::ops::Bound::Unbounded,
    );
    map.range::<str, _>(from)
        .map(|(id, _)| id)
        .take_while(|id| id.starts_with(prefix))
        .map(|id| id.to_string())
        .collect()
}

/// Which directory is in the place of that of all pods.
fn identity(layout: &Layout) -> Option<(u64, u64)> {
    let found = rustix::fs::stat(layout.pods()).ok()?;
    Some((found.st_dev, found.st_ino))
}

/// Said once: it is so until the limit is raised, and everything works.
fn warn_unwatched(errno: Errno) {
    static SAID: Once = Once::new();
    let hint = match errno {
        Errno::NOSPC => "raise fs.inotify.max_user_watches",
        _ => "",
    };
    SAID.call_once(|| {
        tracing::warn!(error = %errno, hint, "some pods cannot be watched: lists read their files each time");
    });
}
