//! Threads for blocking calls: at most so many, started when they are needed, ended when they have
//! had nothing to do for a while. Calls that come when all are busy wait in a queue; whose calls may
//! fill a pool is decided in `work.rs`. Never used for what waits as long as a container lives.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a thread waits for its next call.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// A bounded number of threads. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    most: usize,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// Threads that wait for a job.
    idle: usize,
}

/// The call ended without an outcome: it panicked, or no thread could be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost;

impl Pool {
    pub(crate) fn new(name: &'static str, most: usize) -> Self {
        let shared = Shared {
            name,
            most,
            state: Mutex::default(),
            news: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Runs `call` on one of the threads; it runs to its end even if nobody waits for its outcome.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (sender, receiver) = oneshot::channel();
        self.submit(Box::new(move || {
            // Nobody waits for the outcome of a client that has left.
            let _ = sender.send(call());
        }));
        receiver.await.map_err(|_| Lost)
    }

    fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        state.queue.push_back(job);
        if state.idle >= state.queue.len() || state.threads >= self.shared.most {
            drop(state);
            self.shared.news.notify_one();
            return;
        }
        state.threads += 1;
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(self.shared.name.to_owned());
        if let Err(error) = thread.spawn(move || shared.work()) {
            state.threads -= 1;
            tracing::warn!(pool = self.shared.name, %error, "no thread to be had");
            if state.threads == 0 {
                // Nobody would ever take it: its caller learns that it is lost.
                state.queue.pop_back();
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No job runs under the lock, so a panic leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                // The caller learns of a panic by the end of its channel.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (after, waited) = self
                .news
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = after;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn calls_beyond_the_threads_wait_for_their_turn_and_none_is_lost() {
        let pool = Pool::new("test", 2);
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let calls: Vec<_> = (0..10)
            .map(|number| {
                let (pool, gate) = (pool.clone(), Arc::clone(&gate));
                tokio::spawn(async move {
                    let call = move || gate.lock().unwrap().recv().map(|()| number);
                    pool.run(call).await
                })
            })
            .collect();
        while pool.shared.lock().queue.len() < 8 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.shared.lock().threads, 2);
        for _ in 0..10 {
            release.send(()).unwrap();
        }
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), Ok(Ok(number)));
        }
    }

    #[tokio::test]
    async fn a_call_that_panics_is_lost_and_its_thread_goes_on() {
        let pool = Pool::new("test", 1);
        assert_eq!(pool.run(|| panic!("on purpose")).await, Err::<(), _>(Lost));
        assert_eq!(pool.run(|| 7).await, Ok(7));
        assert_eq!(pool.shared.lock().threads, 1);
    }
}
