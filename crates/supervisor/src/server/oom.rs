//! Processes that the kernel kills for want of memory while their container lives on. The kernel says
//! when memory has run out, and counts a kill a moment later; what it says is heard at most ten times a
//! second, as a container can make it say so without end.

use std::time::{Duration, Instant};

use runtime::cgroup::{Cgroup, OomWatch, Unread};

use super::poller::{Interest, Key, Token};
use super::{Supervisor, diagnose};
use crate::event::Happening;
use crate::setup::PodSetup;

/// How long after the kernel's word its count is looked at, and nothing else heard.
const PAUSE: Duration = Duration::from_millis(100);

/// The slice that a pod's scopes are in. systemd removes a scope's cgroup as soon as it is empty, at times
/// before what was counted in it is read. On v2 the slice counts what is killed below it, also of what is gone.
#[derive(Debug)]
pub(super) struct SliceKills {
    path: String,
    /// Kills of before, and of the containers that have ended.
    accounted: u64,
}

impl SliceKills {
    /// Of a pod whose cgroups systemd makes.
    pub(super) fn of(setup: &PodSetup) -> Option<Self> {
        setup.unit()?;
        let (slice, _) = setup.cgroup.as_deref()?.rsplit_once('/')?;
        let mut kills = Self {
            path: slice.to_owned(),
            accounted: 0,
        };
        kills.accounted = kills.all().unwrap_or(0);
        Some(kills)
    }

    /// `None` on v1.
    fn all(&self) -> Option<u64> {
        Cgroup::open(&self.path).ok()?.oom_kills_below()
    }
}

impl Supervisor {
    /// How many of a container that has ended with `code` were killed: asked once, and at once, as it goes
    /// with the cgroup. If it went before, those that no other container accounts for are its; on v1, where
    /// nothing else counts, its first process is, if memory ran out and then it was killed.
    pub(super) fn last_kills(&mut self, key: Key, code: i32) -> u64 {
        let container = self.containers.get_mut(&key);
        let Some((watch, ending)) =
            container.and_then(|one| Some((one.oom.take()?, one.is_ending())))
        else {
            return 0;
        };
        let mut kills = watch.kills();
        let Some(slice) = &mut self.slice else {
            return kills;
        };
        let unread = watch.unread();
        if unread != Unread::Nothing {
            let others = || self.containers.values().filter_map(|one| one.oom.as_ref());
            kills += match slice.all() {
                Some(all) => {
                    let theirs: u64 = others().map(OomWatch::kills).sum();
                    let another = || others().any(|one| one.unread() == Unread::Likely);
                    let known = slice.accounted + theirs + kills;
                    let ours = unread == Unread::Likely || !another();
                    if ours { all.saturating_sub(known) } else { 0 }
                }
                None => {
                    let ours = unread == Unread::Likely || !ending;
                    u64::from(ours && code == 128 + libc::SIGKILL)
                }
            };
        }
        slice.accounted += kills;
        kills
    }

    /// Begins to listen for a container's OOM kills.
    pub(super) fn watch_for_oom(&mut self, key: Key) {
        let oom = self.containers.get(&key).and_then(|one| one.oom.as_ref());
        if let Some(oom) = oom
            && let Err(error) = self.poller.add(oom, Token::Oom(key), Interest::READ)
        {
            diagnose(format_args!("{error}; OOM kills are told at its end"));
        }
    }

    /// Memory has run out.
    pub(super) fn on_oom(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some(oom) = &container.oom {
            oom.clear();
            let _ = self.poller.remove(oom, Token::Oom(key));
            container.oom_due = Some(Instant::now() + PAUSE);
        }
    }

    /// Tells of kills since the last look, and listens again.
    pub(super) fn look_for_oom(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        container.oom_due = None;
        let Some(oom) = &container.oom else { return };
        let more = oom.clear();
        let kills = oom.kills();
        if kills > container.oom_told {
            container.oom_told = kills;
            self.events.note(Happening::OutOfMemory, &container.state);
        }
        if more {
            container.oom_due = Some(Instant::now() + PAUSE);
            return;
        }
        oom.settle();
        self.watch_for_oom(key);
    }
}
