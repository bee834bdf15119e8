//! What the kernel tells of changes: inotify(7) on the directories of the records, and a pidfd for each
//! supervisor, whose end makes its pod not ready. Says which object has changed, and reads no record.
//!
//! Directories are watched and not files, as records are replaced by renames. A watch is on the
//! directory itself, whatever its name is by now: who moves or replaces one is seen from the one above.

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::epoll;
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::disk;
use crate::error::{Error, Result};

/// The id of a pod or container.
pub(super) type Id = Arc<str>;

/// Which directory a watch is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// That of all pods.
    Pods,
    /// A pod's.
    Pod(Id),
    /// That of a pod's containers.
    Containers(Id),
    /// One in which a record tells of the end of a pod's sandbox.
    Sandbox(Id),
    /// A container's: pod and container.
    Container(Id, Id),
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// More than the kernel could remember, or the directory of all pods itself.
    Everything,
    /// A pod's directory came, went or was replaced.
    Pod(Id),
    /// A record of a pod, or the life of its supervisor.
    PodRecord(Id),
    /// A container's directory came, went or was replaced.
    Container(Id, Id),
    /// A record of a container.
    ContainerRecord(Id, Id),
}

/// How the names of all records end, the engine's and those of whoever runs the pod.
const RECORD: &[u8] = b".json";
/// How many ends of processes are heard at once.
const ENDS: usize = 64;

/// A watch on one directory; to be given back to [`Watcher::forget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Watch(i32);

/// The life of one process; to be given back to [`Watcher::forget_life`].
#[derive(Debug)]
pub(super) struct Life {
    number: u64,
    /// Closed, it leaves the set.
    _pidfd: OwnedFd,
}

/// All that is watched.
#[derive(Debug)]
pub(super) struct Watcher {
    inotify: OwnedFd,
    places: HashMap<Watch, Place>,
    /// An epoll(7) set of pidfds, each with its number in `lives`.
    processes: OwnedFd,
    lives: HashMap<u64, Id>,
    last_life: u64,
}

impl Watcher {
    /// Watches nothing yet.
    pub(super) fn new() -> Result<Self> {
        let failed = |what| move |errno: Errno| Error::io("make", what)(errno.into());
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self {
            inotify: inotify::init(flags).map_err(failed("an inotify instance"))?,
            places: HashMap::new(),
            processes: epoll::create(epoll::CreateFlags::CLOEXEC)
                .map_err(failed("an epoll set"))?,
            lives: HashMap::new(),
            last_life: 0,
        })
    }

    /// Both descriptors poll readable when there may be changes.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.inotify.as_fd(), self.processes.as_fd()]
    }

    /// Watches a directory. `Ok(None)`: it is not there.
    ///
    /// # Errors
    /// No watch left (ENOSPC: fs.inotify.max_user_watches), or what is there is no directory.
    pub(super) fn watch(&mut self, path: &Path, place: Place) -> Result<Option<Watch>, Errno> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(number) => {
                let watch = Watch(number);
                self.places.insert(watch, place);
                Ok(Some(watch))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Watches a directory no more; one that is gone is fine.
    pub(super) fn forget(&mut self, watch: Watch) {
        if self.places.remove(&watch).is_some() {
            // The kernel has forgotten what was removed.
            let _ = inotify::remove_watch(&self.inotify, watch.0);
        }
    }

    /// Watches the life of a pod's supervisor. `Ok(None)`: there is no such process.
    ///
    /// # Errors
    /// No descriptor left.
    pub(super) fn watch_life(&mut self, pid: i32, pod: &Id) -> Result<Option<Life>, Errno> {
        let Some(pid) = Pid::from_raw(pid) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            other => other?,
        };
        self.last_life += 1;
        epoll::add(
            &self.processes,
            &pidfd,
            epoll::EventData::new_u64(self.last_life),
            // Once: an end that was told is not told again, whatever becomes of it.
            epoll::EventFlags::IN | epoll::EventFlags::ONESHOT,
        )?;
        self.lives.insert(self.last_life, pod.clone());
        Ok(Some(Life {
            number: self.last_life,
            _pidfd: pidfd,
        }))
    }

    /// Watches the life of a process no more.
    pub(super) fn forget_life(&mut self, life: Life) {
        self.lives.remove(&life.number);
    }

    /// What has changed since the last call. Never waits.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.read_inotify(&mut changes);
        self.read_ends(&mut changes);
        changes
    }

    fn read_inotify(&mut self, changes: &mut Vec<Change>) {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => return changes.push(Change::Everything),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.push(Change::Everything);
                continue;
            }
            let watch = Watch(event.wd());
            // Told before it was forgotten, perhaps.
            let Some(place) = self.places.get(&watch) else {
                continue;
            };
            let name = event.file_name().map_or(&b""[..], CStr::to_bytes);
            let change = change_in(place, name, flags);
            if flags.contains(ReadFlags::IGNORED) {
                self.places.remove(&watch);
            }
            if let Some(change) = change
                && changes.last() != Some(&change)
            {
                changes.push(change);
            }
        }
    }

    fn read_ends(&mut self, changes: &mut Vec<Change>) {
        let mut events = Vec::with_capacity(ENDS);
        loop {
            events.clear();
            let now = rustix::time::Timespec::default();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.processes, spare, Some(&now)) {
                Err(Errno::INTR) => continue,
                Err(_) => return changes.push(Change::Everything),
                Ok(_) => {}
            }
            for event in &events {
                let pod = self.lives.remove(&event.data.u64());
                changes.extend(pod.map(Change::PodRecord));
            }
            if events.len() < ENDS {
                return;
            }
        }
    }
}

/// What an entry of that name means in that place.
fn change_in(place: &Place, name: &[u8], flags: ReadFlags) -> Option<Change> {
    let itself = flags.intersects(
        ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED,
    );
    let id = || {
        let name = std::str::from_utf8(name).ok()?;
        disk::is_id(name).then(|| Id::from(name))
    };
    match place {
        Place::Pods if itself => Some(Change::Everything),
        Place::Pods => id().map(Change::Pod),
        Place::Pod(pod) | Place::Containers(pod) if itself => Some(Change::Pod(pod.clone())),
        Place::Pod(pod) if name == b"containers" => Some(Change::Pod(pod.clone())),
        Place::Pod(pod) | Place::Sandbox(pod) => {
            (itself || name.ends_with(RECORD)).then(|| Change::PodRecord(pod.clone()))
        }
        Place::Containers(pod) => Some(Change::Container(pod.clone(), id()?)),
        Place::Container(pod, container) if itself => {
            Some(Change::Container(pod.clone(), container.clone()))
        }
        Place::Container(pod, container) => name
            .ends_with(RECORD)
            .then(|| Change::ContainerRecord(pod.clone(), container.clone())),
    }
}
