//! What an engine does when it has started, beside what it is asked: find what the last one left half made
//! and clear it away; let everything else run on. Nothing that is being made right now is touched: its
//! name is locked. What cannot be read or cleared is a warning, and stays; and what takes long, as the
//! clear-up of a pod whose handler does not answer, holds up neither requests nor other pods.

use std::collections::HashSet;
use std::iter::Sum;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::container::record::ContainerRecord;
use crate::container::volumes;
use crate::disk::{self, Lock, Reservation};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{self, Adopted, ContainerRef, Handler, Sandbox};
use crate::pod::record::{PodRecord, Stage};

/// File systems that a reboot empties (statfs(2)).
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// What was found at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Pods whose supervisor lives.
    pub running: usize,
    /// Pods whose supervisor is gone: they are not ready, and kubelet will remove them.
    pub dead: usize,
    /// Pods and containers that were half made and are cleared away.
    pub cleared: usize,
}

impl Recovered {
    /// One pod whose supervisor lives.
    const RUNNING: Self = Self {
        running: 1,
        dead: 0,
        cleared: 0,
    };
    /// One pod whose supervisor is gone.
    const DEAD: Self = Self {
        running: 0,
        dead: 1,
        cleared: 0,
    };

    fn cleared(count: usize) -> Self {
        Self {
            cleared: count,
            ..Self::default()
        }
    }
}

impl Sum for Recovered {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            running: sum.running + one.running,
            dead: sum.dead + one.dead,
            cleared: sum.cleared + one.cleared,
        })
    }
}

/// How long a recovery waits, in all, for locks that are held: by somebody who makes something right now,
/// or by a child of a killed engine for the moment before it executes its program.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pods that are looked at at once.
const AT_ONCE: usize = 8;

/// A recovery under way.
struct Recovery {
    /// Until when locks are waited for.
    until: Instant,
}

impl Engine {
    /// Clears away what a killed engine left half made. Safe at any time, beside requests and other
    /// engines. It lasts as long as handlers take to end what is half made, each within its limits.
    pub fn recover(&self) -> Recovered {
        let recovery = Recovery {
            until: Instant::now() + PATIENCE,
        };
        self.warn_of_lasting_records();
        // Listed before the pods: the directory of a container is made before its layer.
        let layers = self.store().writable_layer_ids();
        warned(
            "half-made pods",
            self.clear_rests(&self.layout().pods(), &recovery),
        );
        let pods = warned("pods", self.layout().pod_ids()).unwrap_or_default();
        let mut found = self.recover_pods(&pods, &recovery);
        let layers = layers.map_err(Error::from);
        let cleared = layers.and_then(|layers| self.clear_layers(layers));
        found.cleared += warned("writable layers", cleared).unwrap_or(0);
        found.cleared += self.clear_networks();
        warned("names", self.clear_names(&recovery));
        warned("checkpoints", self.clear_checkpoints(recovery.until));
        warned("store", self.store().gc().map_err(Error::from));
        found
    }

    /// Several at once: one that is held up holds up no other.
    fn recover_pods(&self, pods: &[String], recovery: &Recovery) -> Recovered {
        let next = AtomicUsize::new(0);
        let work = || -> Recovered {
            let ids = std::iter::from_fn(|| pods.get(next.fetch_add(1, Ordering::Relaxed)));
            ids.map(|id| {
                let recovered = self.recover_pod(id, recovery);
                recovered.unwrap_or_else(|error| {
                    tracing::warn!(pod = %id, %error, "left as it is");
                    Recovered::default()
                })
            })
            .sum()
        };
        std::thread::scope(|scope| {
            // This thread works as well.
            let others = 1..AT_ONCE.min(pods.len());
            let begin = |_| {
                let thread = std::thread::Builder::new().name("recover-pod".to_owned());
                thread.spawn_scoped(scope, work).ok()
            };
            let others: Vec<_> = others.filter_map(begin).collect();
            let own = work();
            let others = others.into_iter().filter_map(|other| other.join().ok());
            others.chain([own]).sum()
        })
    }

    /// Records tell of processes, which a reboot ends.
    fn warn_of_lasting_records(&self) {
        let runroot = &self.config().root_table.runroot;
        if let Ok(found) = rustix::fs::statfs(runroot)
            && !IN_MEMORY.contains(&found.f_type)
        {
            tracing::warn!(
                path = %runroot.display(),
                "the run directory is not on a tmpfs: records of pods would outlive a reboot"
            );
        }
    }

    /// Directories that were being made or removed when their engine was killed.
    fn clear_rests(&self, dir: &Path, recovery: &Recovery) -> Result<()> {
        for name in disk::entries(dir)? {
            let path = dir.join(&name);
            let cleared = match name.rsplit_once('.') {
                Some((_, disk::GONE)) => {
                    // Whose it was is not known any more.
                    handler::release_all(&path).and_then(|()| disk::remove_tree(&path))
                }
                Some((lock, disk::NEW)) => self.clear_new(lock, &path, recovery),
                _ if disk::is_id(&name) && path.is_dir() => Ok(()),
                _ => {
                    tracing::warn!(path = %path.display(), "it is not floe's, and left alone");
                    Ok(())
                }
            };
            if let Err(error) = cleared {
                tracing::warn!(path = %path.display(), %error, "left as it is");
            }
        }
        Ok(())
    }

    fn clear_new(&self, name: &str, path: &Path, recovery: &Recovery) -> Result<()> {
        let name = self.layout().names().join(name);
        match Reservation::lock_file_until(&name, recovery.until)? {
            Some(_nobody_makes_it) => disk::remove_tree(path),
            None => Ok(()),
        }
    }

    fn recover_pod(&self, id: &str, recovery: &Recovery) -> Result<Recovered> {
        let Some(record) = self.pod_record(id)? else {
            return Ok(Recovered::default());
        };
        match record.stage {
            Stage::Creating | Stage::Failed => return self.recover_half_made(record, recovery),
            Stage::Damaged => return self.recover_damaged(&record),
            Stage::Made { .. } | Stage::Stopped | Stage::Defined
                if self.is_abandoned(&record)? =>
            {
                return self.recover_half_made(record, recovery);
            }
            Stage::Made { .. } | Stage::Stopped | Stage::Defined | Stage::Other => {}
        }
        let adopted = match self.adopt(&record)? {
            Some(_) => Recovered::RUNNING,
            None => Recovered::DEAD,
        };
        let cleared = Recovered::cleared(self.recover_containers(id, recovery)?);
        Ok([adopted, cleared].into_iter().sum())
    }

    /// Containers of a pod that were being made or removed; how many.
    fn recover_containers(&self, pod: &str, recovery: &Recovery) -> Result<usize> {
        let dir = self.layout().pod(pod);
        self.clear_rests(&dir.join("containers"), recovery)?;
        let half_made = || -> Result<Vec<String>> {
            let mut all = self.layout().container_ids(pod)?;
            let read = |id: &String| ContainerRecord::read(&self.layout().container(pod, id));
            all.retain(|id| matches!(read(id), Ok(None)));
            Ok(all)
        };
        if half_made()?.is_empty() {
            return Ok(0);
        }
        // Whoever makes a container holds this lock shared: looked at again once nobody does.
        let Some(_lock) = Lock::exclusive_until(&dir.join("lock"), recovery.until)? else {
            return Ok(0);
        };
        let half_made = half_made()?;
        for container in &half_made {
            self.discard_container(pod, container)?;
        }
        Ok(half_made.len())
    }

    fn recover_half_made(&self, mut record: PodRecord, recovery: &Recovery) -> Result<Recovered> {
        let parts = PodRecord::name_parts(&record.spec);
        let names = self.layout().names();
        let Some(name) = Reservation::lock_until(&names, &parts, recovery.until)? else {
            return Ok(Recovered::default());
        };
        // Whoever had the lock may have finished it meanwhile.
        let unchanged = |now: &PodRecord| {
            std::mem::discriminant(&now.stage) == std::mem::discriminant(&record.stage)
        };
        if !self
            .pod_record(&record.id)?
            .is_some_and(|now| unchanged(&now))
        {
            return Ok(Recovered::default());
        }
        // Whoever removes it has this one, and then asks for the name: it is not waited for.
        let lock = self.layout().pod(&record.id).join("lock");
        let Some(_lock) = Lock::exclusive_until(&lock, Instant::now())? else {
            return Ok(Recovered::default());
        };
        if let Err(error) = self.destroy_pod(&record) {
            self.mark_failed(&mut record);
            return Err(error);
        }
        match name.holder() {
            Some(holder) if holder != record.id => {}
            _ => name.release()?,
        }
        Ok(Recovered::cleared(1))
    }

    /// Takes a pod over from its records alone, as [`Engine::recover`] does with all: how it and its containers
    /// are, and what was kept of what has happened to them, whether an engine lived or not.
    ///
    /// # Errors
    /// `NotFound`, a handler that is not configured any more, or what cannot be looked at now.
    pub fn adopt_pod(&self, id: &str) -> Result<Adopted> {
        let missing = || Error::NotFound {
            what: "pod",
            name: id.to_owned(),
        };
        let full = self.find_pod_id(id)?.ok_or_else(missing)?;
        let record = self.pod_record(&full)?.ok_or_else(missing)?;
        self.taken_over(&record, self.handler_of(&record)?)
    }

    /// The pod as its handler takes it over.
    fn adopt(&self, record: &PodRecord) -> Result<Option<Sandbox>> {
        let handler = match self.handler_of(record) {
            Ok(handler) => handler,
            Err(error) => {
                tracing::warn!(pod = %record.id, %error, "it is not ready");
                return Ok(None);
            }
        };
        Ok(self.taken_over(record, handler)?.sandbox)
    }

    fn taken_over(&self, record: &PodRecord, handler: &dyn Handler) -> Result<Adopted> {
        let dir = self.layout().pod(&record.id);
        let pod = record.at(&dir);
        let places = self.container_places(record)?;
        let containers: Vec<ContainerRef<'_>> = places.iter().map(|place| place.at(pod)).collect();
        let adopted = handler.adopt(pod, &containers)?;
        tracing::debug!(pod = %record.id, containers = ?adopted.containers, events = ?adopted.events, "taken over");
        Ok(adopted)
    }

    /// A pod without any record and without a supervisor is the rest of one; any other is shown until
    /// somebody removes it.
    fn recover_damaged(&self, record: &PodRecord) -> Result<Recovered> {
        let dir = self.layout().pod(&record.id);
        let none = std::fs::symlink_metadata(PodRecord::path(&dir)).is_err();
        if none && self.sandbox(record)?.is_none() {
            self.destroy_pod(record)?;
            return Ok(Recovered::cleared(1));
        }
        Ok(Recovered::DEAD)
    }

    /// Layers of containers that are gone.
    fn clear_layers(&self, layers: Vec<String>) -> Result<usize> {
        let mut known = HashSet::new();
        for pod in self.layout().pod_ids()? {
            known.extend(self.layout().container_ids(&pod)?);
        }
        let mut cleared = 0;
        let gone = |layer: &String| !known.contains(volumes::container_of(layer));
        for layer in layers.into_iter().filter(gone) {
            match self.store().remove_writable_layer(&layer) {
                Ok(()) => cleared += 1,
                Err(error) => tracing::warn!(container = %layer, %error, "its layer is left"),
            }
        }
        Ok(cleared)
    }

    /// Addresses and host ports of pods that are gone: their remover was killed in between, or a
    /// plugin could not take them back.
    fn clear_networks(&self) -> usize {
        let mut cleared = 0;
        for id in self.attached_pods() {
            // A pod's directory is made before its network and removed after it.
            if self.layout().pod(&id).exists() {
                continue;
            }
            match self.detach_gone(&id, None) {
                Ok(()) => cleared += 1,
                Err(error) => tracing::warn!(pod = %id, %error, "its network is left as it is"),
            }
        }
        self.collect_network_garbage();
        cleared
    }

    /// What plugins keep of pods that floe has never heard of, or has forgotten.
    fn collect_network_garbage(&self) {
        match self.network().collect_garbage() {
            Ok(failed) => {
                for error in failed {
                    tracing::warn!(%error, "a network plugin did not collect its garbage");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "network plugins are not asked for their garbage")
            }
        }
    }

    /// Names whose object is gone: their holder was killed between reserving and making.
    fn clear_names(&self, recovery: &Recovery) -> Result<()> {
        let names = self.layout().names();
        for name in disk::entries(&names)? {
            let path = names.join(name);
            if let Err(error) = self.clear_name(&path, recovery) {
                tracing::warn!(path = %path.display(), %error, "left as it is");
            }
        }
        Ok(())
    }

    fn clear_name(&self, path: &Path, recovery: &Recovery) -> Result<()> {
        let Some(name) = Reservation::lock_file_until(path, recovery.until)? else {
            return Ok(());
        };
        // Looked for under the lock: whoever made it meanwhile has made its directory as well.
        let lives = name.holder().is_some_and(|holder| self.is_there(&holder));
        if lives { Ok(()) } else { name.release() }
    }

    /// Is there a pod or container of that id?
    fn is_there(&self, id: &str) -> bool {
        if !disk::is_id(id) {
            return false;
        }
        if self.layout().pod(id).exists() {
            return true;
        }
        // Not to be able to look is not to know: the name stays.
        self.layout().pod_ids().map_or(true, |pods| {
            pods.iter()
                .any(|pod| self.layout().container(pod, id).exists())
        })
    }
}

/// The outcome of a part of the recovery; a failure is told, and the start goes on.
fn warned<T>(what: &str, outcome: Result<T>) -> Option<T> {
    outcome
        .inspect_err(|error| tracing::warn!(%error, "{what}: not looked at"))
        .ok()
}
