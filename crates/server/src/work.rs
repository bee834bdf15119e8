//! Running the engine's blocking calls from async RPCs. Work that was begun goes on to its end on a
//! task of its own when the client leaves: kubelet asks again after two minutes and must find one
//! pod, whole. And the log line of every change: what was asked of what, how it ended, how long it
//! took.

use std::time::Instant;

use engine::{Engine, Error};
use tonic::Status;
use tracing::{debug, info, warn};

use crate::status;

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

/// Runs a call that only reads.
pub(crate) async fn read<T: Send + 'static>(
    rpc: &'static str,
    engine: &Engine,
    call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
) -> Result<T, Status> {
    let engine = engine.clone();
    let started = Instant::now();
    let outcome = tokio::task::spawn_blocking(move || call(&engine)).await;
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            debug!(rpc, %error, took = ?started.elapsed(), "refused");
            Err(status::of(error))
        }
        Err(error) => Err(status::lost(rpc, &error)),
    }
}

/// Runs a call that changes something; `of` is what it changes, as the log shall name it.
pub(crate) async fn change<T: Outcome>(
    rpc: &'static str,
    of: String,
    engine: &Engine,
    call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
) -> Result<T, Status> {
    let engine = engine.clone();
    let started = Instant::now();
    let work = tokio::task::spawn_blocking(move || {
        let outcome = call(&engine);
        log(rpc, &of, started, &outcome);
        outcome
    });
    answer(rpc, work).await
}

/// As [`change`], for a call that is async itself.
pub(crate) async fn change_async<T: Outcome>(
    rpc: &'static str,
    of: String,
    call: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Status> {
    let started = Instant::now();
    let work = tokio::spawn(async move {
        let outcome = call.await;
        log(rpc, &of, started, &outcome);
        outcome
    });
    answer(rpc, work).await
}

async fn answer<T>(
    rpc: &'static str,
    work: tokio::task::JoinHandle<Result<T, Error>>,
) -> Result<T, Status> {
    match work.await {
        Ok(outcome) => outcome.map_err(status::of),
        Err(error) => Err(status::lost(rpc, &error)),
    }
}

/// Written where the work ends, so that it is there for a client that has left as well.
fn log<T: Outcome>(rpc: &'static str, of: &str, started: Instant, outcome: &Result<T, Error>) {
    let took = started.elapsed();
    match outcome.as_ref().map(Outcome::made) {
        Ok(Some(id)) => info!(of, id, ?took, "{rpc}"),
        Ok(None) => info!(of, ?took, "{rpc}"),
        Err(error) => warn!(of, %error, ?took, "{rpc} failed"),
    }
}
