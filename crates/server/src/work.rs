//! Running the engine's calls from async RPCs. A change that was begun goes on to its end when the
//! client leaves: kubelet asks again after two minutes and must find one pod, whole. Only a command
//! (ExecSync) ends with its client. And the log line of every change: what was asked of what, how it
//! ended, how long it took.
//!
//! Who waits for whom:
//! - reads of records and states have threads of their own, and so have reads of the store and of
//!   disks: they never wait for a change;
//! - a change has one of many threads while it works, and one pod only a few of them (`turns.rs`);
//! - what lasts as long as a container or a command does (stop, start, exec, pull) has no thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::checkpoint::RestoredPod;
use engine::container::{ExecOutput, ExecSync, LifeCall};
use engine::{Engine, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tracing::{info, warn};

use crate::calls::Calls;
use crate::pool::{Lost, Pool};
use crate::turns::Turns;
use crate::{refusal, status, trace};

/// Calls that may be under way at once; a number to count with, beyond what connections allow.
const CALLS: u32 = 1 << 24;

/// Threads for reads of records and states on tmpfs.
const READERS: usize = 8;
/// Threads for reads of the store, of disks and of cgroups.
const DISK_READERS: usize = 16;
/// Threads for changes: more than a node's pods, so that each could have one.
const CHANGERS: usize = 512;

/// How often, and how many times, a container is looked at that another caller starts.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const MEANWHILE: u32 = 900;

/// Lists of one kind that are built at once.
const LISTS: usize = 3;

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

impl Outcome for RestoredPod {
    fn made(&self) -> Option<&str> {
        Some(&self.id)
    }
}

/// An engine, and the calls that are under way in it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    engine: Engine,
    /// A permit for each call under way, client or no client.
    free: Arc<Semaphore>,
    turns: Turns,
    calls: Calls,
    readers: Pool,
    disk_readers: Pool,
    changers: Pool,
    lists: Arc<Semaphore>,
    disk_lists: Arc<Semaphore>,
}

/// What a list is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lists {
    /// Records and states.
    Records,
    /// The store, disks and cgroups.
    Disks,
}

impl Work {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            free: Arc::new(Semaphore::new(CALLS as usize)),
            turns: Turns::default(),
            calls: Calls::default(),
            readers: Pool::new("read", READERS),
            disk_readers: Pool::new("read-disk", DISK_READERS),
            changers: Pool::new("change", CHANGERS),
            lists: Arc::new(Semaphore::new(LISTS)),
            disk_lists: Arc::new(Semaphore::new(LISTS)),
        }
    }

    /// The engine with its newest settings, which a request keeps to its end.
    pub(crate) fn engine(&self) -> Engine {
        self.engine.now()
    }

    /// The changes that are under way.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Completes when no call is under way.
    pub(crate) async fn idle(&self) {
        // Fails only once the semaphore is closed, which nobody does.
        let _ = self.free.acquire_many(CALLS).await;
    }

    /// Runs a call that only reads records and states.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        rpc: &'static str,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        self.read_on(&self.readers, rpc, call).await
    }

    /// Runs a call that only reads, and may be as slow as a disk is.
    pub(crate) async fn read_disk<T: Send + 'static>(
        &self,
        rpc: &'static str,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        self.read_on(&self.disk_readers, rpc, call).await
    }

    /// A place to build a list in: until its answer is encoded, when the place is given back. Each
    /// kind has few, as all of a list is in memory several times until then.
    pub(crate) async fn list(&self, of: Lists) -> Option<OwnedSemaphorePermit> {
        let places = match of {
            Lists::Records => &self.lists,
            Lists::Disks => &self.disk_lists,
        };
        Arc::clone(places).acquire_owned().await.ok()
    }

    async fn read_on<T: Send + 'static>(
        &self,
        pool: &Pool,
        rpc: &'static str,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let (engine, permit) = (self.engine(), self.permit(rpc).await?);
        let traced = trace::current();
        let read = pool.run(move || {
            let _under_way = permit;
            trace::within(traced, || call(&engine))
        });
        answer(rpc, read.await)
    }

    /// Runs a call that changes something: `of` is what it changes, as the log shall name it, and
    /// `object` whose turn it takes.
    pub(crate) async fn change<T: Outcome>(
        &self,
        rpc: &'static str,
        of: String,
        object: &str,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let (engine, permit) = (self.engine(), self.permit(rpc).await?);
        let started = Instant::now();
        let noted = match of.contains(object) {
            true => self.calls.begin(rpc, &of, Duration::ZERO),
            false => self
                .calls
                .begin(rpc, &format!("{of} in {object}"), Duration::ZERO),
        };
        let turn = self.turns.take(object).await;
        let traced = trace::current();
        let change = self.changers.run(move || {
            let _under_way = (permit, turn, noted);
            // A step that is taken at once after another is told apart from it.
            engine.tell_changes();
            let outcome = trace::within(traced, || call(&engine));
            log(rpc, &of, started, &outcome);
            engine.tell_changes();
            outcome
        });
        answer_logged(rpc, change.await)
    }

    /// As [`Work::change`], of a container: the turn is its pod's.
    pub(crate) async fn change_container<T: Outcome>(
        &self,
        rpc: &'static str,
        container: String,
        call: impl FnOnce(&Engine, &str) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let id = container.clone();
        let pod = self.read(rpc, move |engine| engine.pod_of_container(&id));
        let object = pod.await?.unwrap_or_default();
        let of = container.clone();
        let call = move |engine: &Engine| call(engine, &container);
        self.change(rpc, of, &object, call).await
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
        answer_logged(rpc, work.await.map_err(|_| Lost))
    }

    /// Starts or stops a container: `begin` says what its supervisor is to be asked, if anything.
    /// Once asked it goes on, with or without its client. `grace`: how long it may last beyond the usual.
    pub(crate) async fn life(
        &self,
        rpc: &'static str,
        of: String,
        grace: Duration,
        begin: impl Fn(&Engine) -> Result<Option<LifeCall>, Error> + Clone + Send + 'static,
    ) -> Result<(), Status> {
        let _under_way = self.permit(rpc).await?;
        let _noted = self.calls.begin(rpc, &of, grace);
        let mut line = Line::new(rpc, of);
        let mut outcome = self.live(begin.clone()).await;
        let mut tries = MEANWHILE;
        // Another caller does the same at this moment: its end is the end of this one.
        while let Ok(Err(error)) = &outcome
            && error.is_supervisors_state()
            && tries > 0
        {
            tries -= 1;
            let (engine, begin) = (self.engine(), begin.clone());
            match self.readers.run(move || begin(&engine)).await {
                Ok(Ok(Some(_))) => tokio::time::sleep(LOOK_AGAIN).await,
                other => outcome = other.map(|found| found.map(drop)),
            }
        }
        if let Ok(outcome) = &outcome {
            line.end(outcome);
        }
        answer_logged(rpc, outcome)
    }

    async fn live(
        &self,
        begin: impl FnOnce(&Engine) -> Result<Option<LifeCall>, Error> + Send + 'static,
    ) -> Result<Result<(), Error>, Lost> {
        let engine = self.engine();
        let call = match self.readers.run(move || begin(&engine)).await? {
            Ok(Some(call)) => call,
            other => return Ok(other.map(drop)),
        };
        // Not cut short by a client that leaves: half a request would be none.
        let asked = async {
            let sent = tokio::spawn(call.send()).await.map_err(|_| Lost)?;
            Ok(match sent {
                Ok(answer) => answer.wait().await,
                Err(error) => Err(error),
            })
        };
        trace::step("supervisor", asked).await
    }

    /// Runs a command in a container. It ends with its client.
    pub(crate) async fn command(
        &self,
        rpc: &'static str,
        begin: impl FnOnce(&Engine) -> Result<ExecSync, Error> + Send + 'static,
    ) -> Result<ExecOutput, Status> {
        let _under_way = self.permit(rpc).await?;
        let engine = self.engine();
        let outcome = match self.readers.run(move || begin(&engine)).await {
            Ok(Ok(command)) => Ok(command.finish().await),
            Ok(Err(error)) => Ok(Err(error)),
            Err(Lost) => Err(Lost),
        };
        answer(rpc, outcome)
    }

    /// Begins what a client's streams belong to, in a container. Its sandbox may take long to answer: it
    /// has a thread of those for changes, and one pod has few of them for this.
    pub(crate) async fn begin_in<T: Send + 'static>(
        &self,
        rpc: &'static str,
        container: &str,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let id = container.to_owned();
        let pod = self.read(rpc, move |engine| engine.pod_of_container(&id));
        let pod = pod.await?.unwrap_or_default();
        self.begin(rpc, pod, call).await
    }

    /// As [`Work::begin_in`], in a pod.
    pub(crate) async fn begin<T: Send + 'static>(
        &self,
        rpc: &'static str,
        pod: String,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let (engine, permit) = (self.engine(), self.permit(rpc).await?);
        // Not the turns of its changes: a pod full of commands that hang can be stopped.
        let turn = self.turns.take(&format!("streams of {pod}")).await;
        let begun = self.changers.run(move || {
            let _under_way = (permit, turn);
            call(&engine)
        });
        answer(rpc, begun.await)
    }

    async fn permit(&self, rpc: &'static str) -> Result<OwnedSemaphorePermit, Status> {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        permit.map_err(|_| status::ending(rpc))
    }
}

fn answer<T>(rpc: &str, outcome: Result<Result<T, Error>, Lost>) -> Result<T, Status> {
    match outcome {
        Ok(outcome) => outcome.map_err(status::of),
        Err(Lost) => Err(status::lost(rpc)),
    }
}

/// As [`answer`], of what has written its line in the log.
fn answer_logged<T>(rpc: &str, outcome: Result<Result<T, Error>, Lost>) -> Result<T, Status> {
    if outcome.is_ok() {
        refusal::logged();
    }
    answer(rpc, outcome)
}

/// The log line of a change that ends with its client: it is written in any case.
struct Line {
    rpc: &'static str,
    of: String,
    started: Instant,
    written: bool,
}

impl Line {
    fn new(rpc: &'static str, of: String) -> Self {
        Self {
            rpc,
            of,
            started: Instant::now(),
            written: false,
        }
    }

    fn end(&mut self, outcome: &Result<(), Error>) {
        self.written = true;
        log(self.rpc, &self.of, self.started, outcome);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.written {
            let took = self.started.elapsed();
            info!(
                of = status::brief(&self.of),
                ?took,
                "{}: its client has left",
                self.rpc
            );
        }
    }
}

/// Written where the work ends, so that it is there for a client that has left as well.
fn log<T: Outcome>(rpc: &str, of: &str, started: Instant, outcome: &Result<T, Error>) {
    let (took, of) = (started.elapsed(), status::brief(of));
    match outcome.as_ref().map(Outcome::made) {
        Ok(Some(id)) => info!(of, id, ?took, "{rpc}"),
        Ok(None) => info!(of, ?took, "{rpc}"),
        Err(error) => {
            let error = status::brief(&error.to_string());
            warn!(of, error, ?took, "{rpc} failed");
        }
    }
}
