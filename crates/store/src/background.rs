//! What nobody waits for: flushing what was added, writing `index.json`, and removing what was taken out.
//!
//! One thread, only while there is something to do. Dropping the last handle of a store waits for
//! it; what a killed process did not get to is done at the next open, as after any crash.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::{Core, reserve, tree};

/// The background work of a store.
#[derive(Debug)]
pub(crate) struct Background {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    collect: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    settle: bool,
    index: bool,
    /// Names in `tmp/`.
    doomed: Vec<CString>,
    /// A thread will look at the work again before it ends.
    running: bool,
}

impl Background {
    pub(crate) fn new(core: Arc<Core>) -> Background {
        let work = Mutex::default();
        Background {
            shared: Arc::new(Shared { core, work }),
            thread: Mutex::default(),
            collect: AtomicBool::new(false),
        }
    }

    /// Has what killed processes left collected at the end, when whoever does again what they did has
    /// taken of it what can be used.
    pub(crate) fn collect_at_last(&self) {
        self.collect.store(true, Ordering::Relaxed);
    }

    /// Sees to it that a flush begins after this call.
    pub(crate) fn settle(&self) {
        self.add(|work| work.settle = true);
    }

    /// Sees to it that `index.json` is written after this call.
    pub(crate) fn write_index(&self) {
        self.add(|work| work.index = true);
    }

    /// Removes something that was moved to `tmp/`.
    pub(crate) fn remove(&self, doomed: CString) {
        self.add(|work| work.doomed.push(doomed));
    }

    fn add(&self, add: impl FnOnce(&mut Work)) {
        let mut work = lock(&self.shared.work);
        add(&mut work);
        if work.running {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("store".to_owned());
        match thread.spawn(move || shared.run()) {
            Ok(handle) => {
                work.running = true;
                // The one before has nothing to do any more, or it would be running.
                *lock(&self.thread) = Some(handle);
            }
            Err(e) => tracing::warn!("store: flushing and removing have to wait: no thread: {e}"),
        }
    }
}

impl Shared {
    fn run(&self) {
        while let Some(work) = self.take() {
            if work.index
                && let Err(e) = self.core.write_index()
            {
                tracing::warn!("store: index.json is not up to date: {e}");
            }
            for name in &work.doomed {
                let layout = &self.core.layout;
                if let Err(e) = tree::remove(layout, layout.tmp(), name) {
                    let path = layout.temp_path(&name.to_string_lossy());
                    tracing::warn!(path = %path.display(), "store: left for a later process: {e}");
                }
            }
            if !work.doomed.is_empty() {
                reserve::keep(&self.core.layout);
            }
            if work.settle
                && let Err(e) = self.core.settle()
            {
                tracing::warn!("store: what was pulled is not flushed yet: {e}");
            }
        }
    }

    /// What there is to do; `None` when there is nothing, and the thread must end.
    fn take(&self) -> Option<Work> {
        let mut work = lock(&self.work);
        work.running = work.settle || work.index || !work.doomed.is_empty();
        let rest = Work {
            running: work.running,
            ..Work::default()
        };
        work.running.then(|| std::mem::replace(&mut *work, rest))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A panic there was reported by the thread itself.
            let _ = thread.join();
        }
        if self.collect.load(Ordering::Relaxed)
            && let Err(e) = self.shared.core.gc()
        {
            tracing::warn!("store: what a killed process left stays for now: {e}");
        }
    }
}

/// A panic cannot leave a half-made value behind any of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
