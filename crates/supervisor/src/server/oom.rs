//! Processes that the kernel kills for want of memory while their container lives on. The kernel says
//! when memory has run out, and counts a kill a moment later; what it says is heard at most ten times a
//! second, as a container can make it say so without end.

use std::time::{Duration, Instant};

use super::poller::{Interest, Key, Token};
use super::{Supervisor, diagnose};
use crate::event::Happening;

/// How long after the kernel's word its count is looked at, and nothing else heard.
const PAUSE: Duration = Duration::from_millis(100);

impl Supervisor {
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
        oom.clear();
        let kills = oom.kills();
        if kills > container.oom_told {
            container.oom_told = kills;
            self.events.note(Happening::OutOfMemory, &container.state);
        }
        self.watch_for_oom(key);
    }
}
