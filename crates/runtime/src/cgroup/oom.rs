//! Telling whether processes were killed because memory ran out: v1's memory.oom_control with an
//! eventfd, v2's memory.events with inotify.
//!
//! The kernel counts the kills; the descriptor only says when to look. Both belong to the cgroup's
//! own limit as well as to those above it, so only the count is believed.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, inotify};
use rustix::io::Errno;

use super::Cgroup;
use super::dir::{Dir, read_all};
use super::error::Error;
use super::hierarchy::{Controller, Version};

/// A watch on one cgroup. Its descriptor polls readable when there may be news.
#[derive(Debug)]
pub struct OomWatch {
    /// eventfd or inotify.
    events: OwnedFd,
    /// memory.oom_control or memory.events, held open.
    counter: OwnedFd,
    /// cgroup v2.
    unified: bool,
    /// The last count read: after the removal of the cgroup it cannot be read any more.
    seen: Cell<u64>,
    /// Of events of which no count is known yet.
    heard: Cell<Heard>,
    /// It could not be read any more.
    gone: Cell<bool>,
}

/// What the descriptor said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Nothing,
    /// v1: memory has run out, or the cgroup was removed, which is signalled alike.
    Either,
    News,
}

/// Whether processes may have been killed of whom no count tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The cgroup is there, or nothing was ever heard of it.
    Nothing,
    /// The cgroup went, and took with it whether it had anything to say.
    Perhaps,
    /// Memory had run out when the cgroup went.
    Likely,
}

impl OomWatch {
    pub(super) fn new(cgroup: &Cgroup) -> Result<OomWatch, Error> {
        let dir = cgroup
            .dir_of(Controller::Memory)
            .ok_or_else(|| Error::MissingController {
                field: "the out-of-memory watch",
                value: "on".to_owned(),
                controller: Controller::Memory,
            })?;
        let version = dir.version();
        let (events, counter) = match version {
            Version::V1 => v1(&dir)?,
            Version::V2 => v2(&dir)?,
        };
        Ok(OomWatch {
            events,
            counter,
            unified: version == Version::V2,
            seen: Cell::new(0),
            heard: Cell::new(Heard::Nothing),
            gone: Cell::new(false),
        })
    }

    /// Whether a process of the cgroup was ever killed for lack of memory. Ask before the cgroup
    /// is deleted; afterwards this is the answer given last.
    pub fn oom_killed(&self) -> bool {
        self.kills() > 0
    }

    /// How many processes of the cgroup were killed for lack of memory so far; after the removal
    /// of the cgroup, the count read last.
    pub fn kills(&self) -> u64 {
        let count = read_all(&self.counter).ok().and_then(|text| count(&text));
        match count {
            Some(count) => self.seen.set(count),
            None => self.gone.set(true),
        }
        self.seen.get()
    }

    /// What nobody could read, as the cgroup went before: systemd removes a scope's as soon as it is empty.
    /// Ask after [`Self::kills`].
    pub fn unread(&self) -> Unread {
        self.clear();
        match self.heard.get() {
            _ if !self.gone.get() => Unread::Nothing,
            Heard::News => Unread::Likely,
            Heard::Either => Unread::Perhaps,
            // inotify's word may be on its way when the file that it is about goes, an eventfd's is not.
            Heard::Nothing if self.unified => Unread::Perhaps,
            Heard::Nothing => Unread::Nothing,
        }
    }

    /// Takes the pending events, so that the descriptor polls readable only for new ones; whether there were any.
    pub fn clear(&self) -> bool {
        let mut any = false;
        let mut buffer = [0u8; 512];
        while let Ok(length @ 1..) = rustix::io::read(&self.events, &mut buffer) {
            let heard = if self.unified {
                changes(&buffer[..length])
            } else {
                self.signals(&buffer[..length])
            };
            self.heard.set(self.heard.get().max(heard));
            any = true;
        }
        any
    }

    /// The count read last has in it all that was heard: the kernel says that memory has run out a moment before
    /// it kills, and counts.
    pub fn settle(&self) {
        if !self.gone.get() {
            self.heard.set(Heard::Nothing);
        }
    }

    /// What an eventfd's value says. The removal is one signal, and comes after the files went.
    fn signals(&self, value: &[u8]) -> Heard {
        let signals = value.try_into().map_or(0, u64::from_ne_bytes);
        let there = read_all(&self.counter).is_ok();
        if signals + u64::from(self.heard.get() != Heard::Nothing) > 1 || there {
            Heard::News
        } else {
            Heard::Either
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Cgroup {
    /// How many processes were killed for lack of memory in it and all cgroups below, also in those that are
    /// gone; `None` on v1, which does not count so.
    pub fn oom_kills_below(&self) -> Option<u64> {
        let dir = self.dir_of(Controller::Memory)?;
        let unified = dir.version() == Version::V2;
        let text = dir.read("memory.events").ok().filter(|_| unified)?;
        count(&text)
    }
}

/// Whether there is a change among what inotify tells, and not only the file's end (inotify(7), struct
/// inotify_event).
fn changes(mut events: &[u8]) -> Heard {
    /// Descriptor, mask, cookie and the length of a name.
    const HEADER: usize = 16;
    let number = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    while let (Some(mask), Some(length)) = (number(events, 4), number(events, 12)) {
        if mask & inotify::ReadFlags::MODIFY.bits() != 0 {
            return Heard::News;
        }
        events = events.get(HEADER + length as usize..).unwrap_or_default();
    }
    Heard::Nothing
}

/// Both files have lines `name value`, and the same name for this count.
fn count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}

fn v1(dir: &Dir<'_>) -> Result<(OwnedFd, OwnedFd), Error> {
    let file = "memory.oom_control";
    let counter = dir
        .open(file, OFlags::RDONLY)
        .map_err(|errno| dir.error("open", file, errno))?;
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let events =
        eventfd(0, flags).map_err(|errno| dir.error("make an eventfd for", file, errno))?;
    let registration = format!("{} {}", events.as_raw_fd(), counter.as_raw_fd());
    dir.put("cgroup.event_control", &registration)?;
    Ok((events, counter))
}

fn v2(dir: &Dir<'_>) -> Result<(OwnedFd, OwnedFd), Error> {
    let file = "memory.events";
    let counter = dir
        .open(file, OFlags::RDONLY)
        .map_err(|errno| dir.error("open", file, errno))?;
    let watch = || -> Result<OwnedFd, Errno> {
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        // Through the open file, so that the caller's mounts do not matter.
        let path = format!("/proc/self/fd/{}", counter.as_raw_fd());
        inotify::add_watch(&events, path, inotify::WatchFlags::MODIFY)?;
        Ok(events)
    };
    let events = watch().map_err(|errno| dir.error("watch", file, errno))?;
    Ok((events, counter))
}
