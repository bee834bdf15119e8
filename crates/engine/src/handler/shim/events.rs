//! What shims tell by themselves, taken by a thread of the engine's for all pods, each at a socket of its
//! own. How containers end the shims tell the supervisors; what is used here is that the kernel has
//! killed for want of memory, which nobody else can tell of a virtual machine. An event that comes while
//! no engine lives is lost; a container on this node is known by its cgroup all the same.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use shim::events::{self, Event, What};
use supervisor::{Became, Client};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::super::{Event as Told, Events as PodEvents, Happened, News, PodRef};
use super::failed;
use super::record::ShimRecord;
use crate::error::{Error, Result};

/// As many events of a pod wait to be taken.
const WAITING: usize = 16;

/// The pods whose events are taken by this engine.
#[derive(Debug, Default)]
pub(crate) struct ShimEvents {
    server: Mutex<Option<Server>>,
}

#[derive(Debug)]
struct Server {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    pods: HashMap<String, AbortHandle>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waits for nobody: the owner may be a task itself.
            runtime.shutdown_background();
        }
    }
}

impl ShimEvents {
    /// Takes the events of a pod from now on, unless this or another engine does already.
    ///
    /// # Errors
    /// A socket that cannot be made.
    pub(super) fn listen(&self, record: &ShimRecord, pod: PodRef<'_>) -> Result<()> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = &*server
            && server.pods.contains_key(pod.id)
        {
            return Ok(());
        }
        if let Some(dir) = record.events.parent() {
            let made = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir);
            made.map_err(Error::io("make", dir))?;
        }
        if server.is_none() {
            *server = Some(Server::new()?);
        }
        let Some(server) = &mut *server else {
            return Ok(());
        };
        server.take(record, pod)
    }

    /// The pod is gone.
    pub(super) fn forget(&self, pod: PodRef<'_>) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = server.as_mut().and_then(|it| it.pods.remove(pod.id)) {
            task.abort();
        }
    }
}

impl Server {
    fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("shim-events")
            .enable_all()
            .build()
            .map_err(Error::io("make", "event loop"))?;
        Ok(Self {
            runtime: Some(runtime),
            pods: HashMap::new(),
        })
    }

    fn take(&mut self, record: &ShimRecord, pod: PodRef<'_>) -> Result<()> {
        let Some(runtime) = &self.runtime else {
            return Ok(());
        };
        let made = {
            let _within = runtime.enter();
            events::listen(&record.events).map_err(failed)?
        };
        // Another engine takes them.
        let Some((file, listener)) = made else {
            return Ok(());
        };
        let (to, mut taken) = mpsc::channel(WAITING);
        let namespace = record.namespace().into();
        let dir = pod.dir.to_owned();
        let task = runtime.spawn(async move {
            let serve = events::serve(listener, namespace, to);
            let take = async {
                while let Some(event) = taken.recv().await {
                    heard(&dir, event).await;
                }
            };
            tokio::select! {
                _ = serve => {}
                () = take => {}
            }
            drop(file);
        });
        self.pods.insert(pod.id.to_owned(), task.abort_handle());
        Ok(())
    }
}

/// What the pod's supervisor tells, in which the sandbox is a container as all others.
pub(super) fn of_pod(told: Box<dyn PodEvents>, pod: PodRef<'_>) -> Box<dyn PodEvents> {
    Box::new(OfPod {
        told,
        pod: pod.id.to_owned(),
    })
}

#[derive(Debug)]
struct OfPod {
    told: Box<dyn PodEvents>,
    pod: String,
}

impl PodEvents for OfPod {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.told.descriptor()
    }

    fn next(&mut self) -> Result<Option<News>> {
        loop {
            match self.told.next()? {
                Some(News::Event(event)) => {
                    if let Some(event) = meaning(event, &self.pod) {
                        return Ok(Some(News::Event(event)));
                    }
                }
                other => return Ok(other),
            }
        }
    }
}

/// What an event of the supervisor's is to the pod; of the container that stands for the sandbox only the end is
/// anything.
pub(super) fn meaning(event: Told, pod: &str) -> Option<Told> {
    if event.container.as_deref() != Some(pod) {
        return Some(event);
    }
    matches!(event.happened, Happened::Exited { .. }).then_some(Told {
        container: None,
        happened: Happened::SandboxGone,
        ..event
    })
}

/// Passes on what only an event tells. The supervisor knows which containers are the pod's.
async fn heard(pod: &std::path::Path, event: Event) {
    if event.what != What::OutOfMemory {
        return;
    }
    let pod: PathBuf = pod.to_owned();
    let told = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(&pod)?;
        client.tell(&event.container, Became::OutOfMemory)
    });
    if let Ok(Err(error)) = told.await {
        tracing::warn!(%error, "a container's want of memory is not recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_stands_for_the_sandbox_only_the_end_is_told_and_is_the_sandboxs() {
        let event = |container: &str, happened| Told {
            number: Some(7),
            at: 8,
            container: Some(container.to_owned()),
            happened,
        };
        let ended = Happened::Exited { code: 137 };
        assert_eq!(meaning(event("pod", Happened::Created), "pod"), None);
        let gone = meaning(event("pod", ended), "pod").unwrap();
        assert_eq!((gone.number, gone.at), (Some(7), 8));
        assert_eq!(
            (gone.container, gone.happened),
            (None, Happened::SandboxGone)
        );
        assert_eq!(meaning(event("c", ended), "pod"), Some(event("c", ended)));
    }
}
