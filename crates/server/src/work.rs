//! Running the engine's blocking calls from async RPCs. Work that was begun goes on to its end on a
//! task of its own when the client leaves: kubelet asks again after two minutes and must find one
//! pod, whole. And the log line of every change: what was asked of what, how it ended, how long it
//! took.

use std::sync::Arc;
use std::time::Instant;

use engine::{Engine, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tonic::Status;
use tracing::{debug, info, warn};

use crate::status;

/// Calls that may be under way at once; more wait their turn. Far more than a kubelet makes.
const CALLS: u32 = 1024;

/// What a change has made, if anything, for its log line.
pub(crate) trait Outcome: Send + 'static {
    /// The id of what was made.
    fn made(&self) -> Option<&str>;
}

impl Outcome for () {
    fn made(&self) -> Option<&str> {
        None
    }
}

impl Outcome for String {
    fn made(&self) -> Option<&str> {
        Some(self)
    }
}

/// An engine, and the count of the calls that are under way in it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    engine: Engine,
    /// A permit for each call under way, client or no client.
    free: Arc<Semaphore>,
}

impl Work {
    pub(crate) fn new(engine: Engine) -> Self {
        let free = Arc::new(Semaphore::new(CALLS as usize));
        Self { engine, free }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Completes when no call is under way.
    pub(crate) async fn idle(&self) {
        // Fails only once the semaphore is closed, which nobody does.
        let _ = self.free.acquire_many(CALLS).await;
    }

    /// Runs a call that only reads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        rpc: &'static str,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let (engine, permit) = (self.engine.clone(), self.permit(rpc).await?);
        let started = Instant::now();
        let work = tokio::task::spawn_blocking(move || {
            let _under_way = permit;
            call(&engine)
                .inspect_err(|error| debug!(%error, took = ?started.elapsed(), "{rpc} failed"))
        });
        answer(rpc, work).await
    }

    /// Runs a call that changes something; `of` is what it changes, as the log shall name it.
    pub(crate) async fn change<T: Outcome>(
        &self,
        rpc: &'static str,
        of: String,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let (engine, permit) = (self.engine.clone(), self.permit(rpc).await?);
        let started = Instant::now();
        let work = tokio::task::spawn_blocking(move || {
            let _under_way = permit;
            let outcome = call(&engine);
            log(rpc, &of, started, &outcome);
            outcome
        });
        answer(rpc, work).await
    }

    /// As [`Work::change`], for a call that is async itself.
    pub(crate) async fn change_async<T: Outcome>(
        &self,
        rpc: &'static str,
        of: String,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.permit(rpc).await?;
        let started = Instant::now();
        let work = tokio::spawn(async move {
            let _under_way = permit;
            let outcome = call.await;
            log(rpc, &of, started, &outcome);
            outcome
        });
        answer(rpc, work).await
    }

    async fn permit(&self, rpc: &'static str) -> Result<OwnedSemaphorePermit, Status> {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        permit.map_err(|_| status::ending(rpc))
    }
}

async fn answer<T>(rpc: &str, work: JoinHandle<Result<T, Error>>) -> Result<T, Status> {
    match work.await {
        Ok(outcome) => outcome.map_err(status::of),
        Err(error) => Err(status::lost(rpc, &error)),
    }
}

/// Written where the work ends, so that it is there for a client that has left as well.
fn log<T: Outcome>(rpc: &str, of: &str, started: Instant, outcome: &Result<T, Error>) {
    let took = started.elapsed();
    match outcome.as_ref().map(Outcome::made) {
        Ok(Some(id)) => info!(of, id, ?took, "{rpc}"),
        Ok(None) => info!(of, ?took, "{rpc}"),
        Err(error) => warn!(of, %error, ?took, "{rpc} failed"),
    }
}
