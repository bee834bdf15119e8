//! Plugins of the node (NRI): told what happens to pods and containers of CRI, and asked how containers are to be
//! made and limited. The crate `nri` knows plugins; here is what a step of the engine is to them.
//!
//! ```text
//!  pod/, container/ ──steps.rs──▶ Nri ──▶ plugins
//!        ▲            views.rs: as they are told of it        adjust.rs: config.json as they want it
//!        └── host.rs: what there is, limits, evictions ◀── unasked
//!            exits.rs: containers that end by themselves
//! ```
//! A step that nobody wants to be told of costs a look at a flag. What plugins want of other containers waits for
//! no pod's lock: a step holds its own pod's while it asks.

mod adjust;
mod exits;
mod host;
mod limits;
mod steps;
mod views;

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use nri::{Event, Nri};

pub(crate) use limits::{as_request, merge as merge_limits};
pub(crate) use steps::NewContainer;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::Origin;
use crate::pod::record::PodRecord;

/// The plugins of one engine in this process.
#[derive(Debug, Default)]
pub(crate) struct Plugins {
    nri: OnceLock<Nri>,
    /// Does the thread run that hears of ends?
    hearing: Mutex<bool>,
    limits: Turns,
}

/// One at a time for each name.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<HashSet<String>>,
    free: Condvar,
}

/// A name's turn; over when dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns, String);

impl Turns {
    /// Waits for whoever has the turn.
    fn take(&self, name: &str) -> Turn<'_> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.free.wait_while(taken, |taken| taken.contains(name));
        let mut taken = waited.unwrap_or_else(PoisonError::into_inner);
        taken.insert(name.to_owned());
        Turn(self, name.to_owned())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let taken = self.0.taken.lock();
        taken
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.1);
        self.0.free.notify_all();
    }
}

impl Engine {
    /// Starts the plugins that the configuration names, waits until they have joined or failed, and listens for
    /// others, if it is to have any. Called once, before the first request.
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub fn start_plugins(&self) -> Result<()> {
        let unfit = |reason| Error::Config {
            origin: "crio.nri".into(),
            reason,
        };
        let Some(mut settings) = self.config().nri.settings().map_err(unfit)? else {
            return Ok(());
        };
        let name = &self.config().compat.runtime_name;
        settings.runtime_name.clone_from(name);
        let runtime = Arc::new(host::Host::new(self));
        let started = match Nri::start(settings.clone(), Arc::clone(&runtime) as Arc<_>) {
            // Those that are installed do without it.
            Err(error) => {
                tracing::warn!(%error, "NRI plugins cannot connect");
                settings.listen = None;
                Nri::start(settings, runtime).map_err(Error::Plugin)?
            }
            Ok(started) => started,
        };
        let _ = self.plugins().nri.set(started);
        exits::hear(self);
        Ok(())
    }

    /// Tells plugins that the engine ends, and ends those that it has started.
    pub fn end_plugins(&self) {
        if let Some(nri) = self.plugins().nri.get() {
            nri.end();
        }
    }

    /// The plugins, if there are any that are asked something.
    fn asked(&self) -> Option<&Nri> {
        self.plugins().nri.get().filter(|nri| nri.is_used())
    }

    /// Does any want to be told of ends?
    fn hears_of_ends(&self) -> bool {
        let nri = self.plugins().nri.get();
        nri.is_some_and(|nri| nri.wants(Event::StopContainer))
    }

    /// Those of a pod: people's own pods are none of theirs.
    fn asked_of(&self, pod: &PodRecord) -> Option<&Nri> {
        let theirs = pod.spec.origin == Origin::Cri && !pod.is_damaged();
        self.asked().filter(|_| theirs)
    }

    /// The same, if anybody wants to be told of this.
    fn asked_for(&self, event: Event, pod: &PodRecord) -> Option<&Nri> {
        self.asked_of(pod).filter(|nri| nri.wants(event))
    }

    /// One change of a container's limits at a time; not waited for by who holds a pod's lock alone.
    pub(crate) fn turn_of_limits(&self, container: &str) -> Turn<'_> {
        self.plugins().limits.take(container)
    }
}
