//! GetContainerEvents: the hub's events in CRI's words, a stream for each client from when it connects.
//! What CRI has no word for (pauses, OOM kills) is in the statuses alone.
//!
//! kubelet takes the statuses of an event for newer than all that it has read before `created_at`: this is
//! when they were read, as with other runtimes, and not when the step was taken.
//!
//! A stream ends with an error when its client is too slow for what is kept for it (`engine::events`), and when
//! the server ends: who then lists and connects again has missed nothing.

use std::sync::Arc;

use engine::Pod;
use engine::events::{Event, Happening, Notice, Subscription};
use engine::pod::Origin;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::answer::Endless;
use crate::convert::{container, pod};
use crate::status;
use crate::work::Work;

const RPC: &str = "GetContainerEvents";

/// Clients that may be subscribed at once: kubelet is one, and people are a few.
const SUBSCRIBERS: usize = 64;

/// Does the configuration want events?
pub(crate) fn enabled(work: &Work) -> bool {
    work.engine().config().runtime.enable_pod_events
}

/// The stream of one client.
pub(crate) type Stream = ReceiverStream<Result<cri::ContainerEventResponse, Status>>;

/// Events for clients.
#[derive(Debug)]
pub(crate) struct Events {
    /// Set to true when the server ends, or dropped.
    ending: watch::Receiver<bool>,
    places: Arc<Semaphore>,
}

impl Events {
    pub(crate) fn new(ending: watch::Receiver<bool>) -> Self {
        Self {
            ending,
            places: Arc::new(Semaphore::new(SUBSCRIBERS)),
        }
    }

    /// Begins a stream: what happens once this has returned is in it.
    pub(crate) async fn stream(&self, work: &Work) -> Result<Response<Stream>, Status> {
        if !enabled(work) {
            return Err(Status::failed_precondition(format!(
                "{RPC}: crio.runtime.enable_pod_events is false"
            )));
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Status::resource_exhausted(format!(
                "{RPC}: {SUBSCRIBERS} clients are subscribed already"
            )));
        };
        let subscription = work.read_disk(RPC, engine::Engine::subscribe).await?;
        // What waits for the client is in the hub, which bounds it.
        let (out, stream) = mpsc::channel(1);
        let ending = self.ending.clone();
        tokio::spawn(async move {
            let _place = place;
            forward(subscription, out, ending).await;
        });
        let mut answer = Response::new(ReceiverStream::new(stream));
        answer.extensions_mut().insert(Endless);
        Ok(answer)
    }
}

/// Sends all events until the client or the server ends.
async fn forward(
    mut subscription: Subscription,
    out: mpsc::Sender<Result<cri::ContainerEventResponse, Status>>,
    mut ending: watch::Receiver<bool>,
) {
    let tell = async {
        loop {
            let told = match subscription.next().await {
                Ok(Notice::Present(_)) => continue,
                Ok(Notice::Event(event)) => match response(&event) {
                    Some(response) => Ok(response),
                    None => continue,
                },
                Ok(Notice::Gap { missed }) => Err(Status::aborted(format!(
                    "{RPC}: the client is too slow and has missed {missed} events: list, and connect again"
                ))),
                Err(error) => Err(status::of(error)),
            };
            let last = told.is_err();
            if out.send(told).await.is_err() || last {
                return;
            }
        }
    };
    let end = async {
        // Its error, that the server is gone, is an end too.
        let _ = ending.wait_for(|ending| *ending).await;
    };
    tokio::select! {
        () = tell => {}
        () = out.closed() => {}
        () = end => drop(out.send(Err(status::ending(RPC))).await),
    }
}

/// The event for CRI; `None`: CRI has no word for it, or it is of a pod of people's, or of one of which
/// only the id is known.
fn response(event: &Event) -> Option<cri::ContainerEventResponse> {
    let kind = match event.what {
        Happening::Created => cri::ContainerEventType::ContainerCreatedEvent,
        Happening::Started => cri::ContainerEventType::ContainerStartedEvent,
        Happening::Stopped => cri::ContainerEventType::ContainerStoppedEvent,
        Happening::Deleted => cri::ContainerEventType::ContainerDeletedEvent,
        Happening::Paused | Happening::Resumed | Happening::OutOfMemory => return None,
    };
    let seen = event.pod.as_deref()?;
    if seen.damaged || seen.spec.origin != Origin::Cri {
        return None;
    }
    let mut pod_status = pod::status(Pod::clone(seen));
    if event.views.pod.is_none() {
        pod_status.state = cri::PodSandboxState::SandboxNotready.into();
    }
    let id = event.container_id.as_ref().unwrap_or(&event.pod_id);
    Some(cri::ContainerEventResponse {
        container_id: id.to_string(),
        container_event_type: kind.into(),
        created_at: event.as_of,
        pod_sandbox_status: Some(pod_status),
        containers_statuses: container::statuses(&event.views.containers),
    })
}
