//! What shims tell by themselves: [`serve`] is the service that they forward events to, at the socket
//! that `start` was given. An event is a shortcut: whoever misses some asks for the present state.
//!
//! A socket is one pod's, so an event names its pod by the socket it came over, and a container of
//! another pod cannot be spoken of. Clients, frames and what waits to be taken are bounded; a client
//! that sends what is no event is hung up on.
//!
//! Definition: <https://github.com/containerd/containerd/blob/main/api/services/ttrpc/events/v1/events.proto>

use std::path::Path;
use std::sync::Arc;

use base::socket::{self, SocketFile};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use ttrpc::{Code, Frame, Inbox, Kind, Status, encode};

use crate::error::{Error, Result};
use crate::value::Exit;
use crate::wire;

/// How many clients one socket has at a time; more wait in its queue.
const CLIENTS: usize = 32;
/// The longest event, in bytes: the longest ones name all mounts of a container.
const MAX_EVENT: usize = 1 << 20;
/// The longest id in an event, in bytes.
const MAX_ID: usize = 256;

/// What happened. `container` is an id in the shim's words: who takes the event knows which it may
/// speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which container.
    pub container: String,
    /// What happened to it.
    pub what: What,
}

/// See [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// It was made.
    Created,
    /// It runs.
    Started,
    /// A process has ended: the container's first if `exec` is `None`.
    Exited {
        /// The process that was added.
        exec: Option<String>,
        /// How.
        exit: Exit,
    },
    /// The kernel killed for want of memory.
    OutOfMemory,
    /// It is forgotten, or a process of it.
    Deleted {
        /// The process that was added.
        exec: Option<String>,
    },
    /// It is frozen.
    Paused,
    /// It is thawed.
    Resumed,
}

/// Makes the socket that a pod's shims forward events to, and its file, which goes with it; none where another
/// process takes the events. A socket that an engine left which is dead is taken over.
///
/// # Errors
/// Something else that is there, or what [`base::socket::listen`] says.
pub fn listen(path: &Path) -> Result<Option<(SocketFile, UnixListener)>> {
    let (file, listener) = match socket::listen(path, 0o600) {
        Err(socket::Error::InUse { .. }) => return Ok(None),
        other => other?,
    };
    let tell = |error| Error::io("listen at", path)(error);
    listener.set_nonblocking(true).map_err(tell)?;
    let listener = UnixListener::from_std(listener).map_err(tell)?;
    Ok(Some((file, listener)))
}

/// Takes events for as long as somebody takes them from `to`. A taker that is slow holds up the shims
/// of its own pod. Events of another namespace than `namespace` are refused.
///
/// # Errors
/// A socket that takes no more clients.
pub async fn serve(
    listener: UnixListener,
    namespace: Arc<str>,
    to: mpsc::Sender<Event>,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(CLIENTS));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.map_err(std::io::Error::other)?;
        let socket = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            () = to.closed() => return Ok(()),
        };
        let trusted = socket
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw());
        if !trusted {
            continue;
        }
        let (namespace, to) = (Arc::clone(&namespace), to.clone());
        clients.spawn(async move {
            // The client learns it by the end of the connection.
            let _ = converse(socket, &namespace, &to).await;
            drop(place);
        });
    }
}

async fn converse(
    mut socket: UnixStream,
    namespace: &str,
    to: &mpsc::Sender<Event>,
) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    let mut inbox = Inbox::default();
    let mut buffer = vec![0; 16 << 10];
    loop {
        while let Some(frame) = inbox.frame(MAX_EVENT)? {
            let stream = frame.stream;
            let status = match read(frame, namespace)? {
                Ok(event) => {
                    if let Some(event) = event {
                        to.send(event).await.map_err(|error| error.to_string())?;
                    }
                    None
                }
                Err(status) => Some(status),
            };
            let response = ttrpc::Response {
                status,
                payload: Vec::new(),
            };
            let answer = encode(stream, Kind::Response, &response)?;
            socket.write_all(&answer).await.map_err(said)?;
        }
        match socket.read(&mut buffer).await.map_err(said)? {
            0 => return Ok(()),
            count => inbox.add(&buffer[..count]),
        }
    }
}

/// The event of a frame, if it is one that is known; or what the client is to be told.
///
/// # Errors
/// In words: it is no call.
fn read(frame: Frame, namespace: &str) -> Result<Result<Option<Event>, Status>, String> {
    if frame.kind != Kind::Request {
        return Err("an answer to nothing".to_owned());
    }
    let request = ttrpc::Request::decode(&frame.body[..]).map_err(|error| error.to_string())?;
    if (&*request.service, &*request.method)
        != ("containerd.services.events.ttrpc.v1.Events", "Forward")
    {
        return Ok(Err(status(
            Code::Unimplemented,
            "only events are taken here",
        )));
    }
    let forward =
        wire::ForwardRequest::decode(&request.payload[..]).map_err(|error| error.to_string())?;
    let Some(envelope) = forward.envelope.filter(|it| it.namespace == namespace) else {
        return Ok(Err(status(Code::InvalidArgument, "no event of this pod")));
    };
    let Some(any) = envelope.event else {
        return Ok(Err(status(Code::InvalidArgument, "no event")));
    };
    match event(&any) {
        Ok(event) => Ok(Ok(event)),
        Err(reason) => Ok(Err(status(Code::InvalidArgument, &reason))),
    }
}

fn status(code: Code, message: &str) -> Status {
    Status {
        code: code.number(),
        message: message.to_owned(),
    }
}

/// Reads an event by its type; `None`: of a kind that nobody needs.
fn event(any: &wire::Any) -> Result<Option<Event>, String> {
    fn decode<M: Message + Default>(any: &wire::Any) -> Result<M, String> {
        M::decode(&any.value[..]).map_err(|error| format!("no such event: {error}"))
    }
    let kind = any.type_url.rsplit('/').next().unwrap_or_default();
    let (container, what) = match kind.strip_prefix("containerd.events.Task") {
        Some("Create") => (decode::<wire::TaskCreate>(any)?.container_id, What::Created),
        Some("Start") => (decode::<wire::TaskStart>(any)?.container_id, What::Started),
        Some("Exit") => {
            let it: wire::TaskExit = decode(any)?;
            let exit = Exit::of(it.exit_status, it.exited_at);
            let exec = process(it.id, &it.container_id)?;
            (it.container_id, What::Exited { exec, exit })
        }
        Some("Delete") => {
            let it: wire::TaskDelete = decode(any)?;
            let exec = process(it.id, &it.container_id)?;
            (it.container_id, What::Deleted { exec })
        }
        Some("OOM") => (
            decode::<wire::TaskEvent>(any)?.container_id,
            What::OutOfMemory,
        ),
        Some("Paused") => (decode::<wire::TaskEvent>(any)?.container_id, What::Paused),
        Some("Resumed") => (decode::<wire::TaskEvent>(any)?.container_id, What::Resumed),
        _ => return Ok(None),
    };
    let container = identifier(container)?;
    Ok(Some(Event { container, what }))
}

/// The process that an event speaks of; the container's first has the container's id or none.
fn process(id: String, container: &str) -> Result<Option<String>, String> {
    if id.is_empty() || id == container {
        return Ok(None);
    }
    identifier(id).map(Some)
}

fn identifier(id: String) -> Result<String, String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(fine) {
        true => Ok(id),
        false => Err("no such id".to_owned()),
    }
}

/// Forwards an event for a shim that has no client: what `BIN publish` does. `event` is the message
/// that the shim gave.
///
/// # Errors
/// What is no event, or a taker that is gone, silent, or refuses it.
pub fn publish(address: &Path, namespace: &str, topic: &str, event: &[u8]) -> Result<()> {
    let refused = |reason: String| Error::Request {
        verb: "publish",
        id: topic.to_owned(),
        reason,
    };
    let any = wire::Any::decode(event).map_err(|error| refused(error.to_string()))?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let message = wire::ForwardRequest {
        envelope: Some(wire::Envelope {
            timestamp: Some(wire::Timestamp {
                seconds: i64::try_from(now.as_secs()).unwrap_or_default(),
                nanos: now.subsec_nanos().cast_signed(),
            }),
            namespace: namespace.to_owned(),
            topic: topic.to_owned(),
            event: Some(any),
        }),
    };
    let ask = crate::Ask {
        verb: "publish",
        id: topic.to_owned(),
        service: "containerd.services.events.ttrpc.v1.Events".to_owned(),
        method: "Forward",
        payload: message.encode_to_vec(),
        limit: Some(crate::task::ANSWER_LIMIT),
        read: crate::task::nothing(),
    };
    // The version is of the task service, which is not asked.
    crate::Shim::new(address.to_owned(), crate::Version::V2, namespace).ask(ask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::message;

    #[test]
    fn events_are_read_by_their_type() {
        let exit = wire::TaskExit {
            container_id: "c".into(),
            id: "c".into(),
            pid: 1,
            exit_status: 3,
            exited_at: None,
        };
        let read = event(&message("containerd.events.TaskExit", &exit)).unwrap();
        let what = What::Exited {
            exec: None,
            exit: Exit { code: 3, at: None },
        };
        assert_eq!(
            read,
            Some(Event {
                container: "c".into(),
                what
            })
        );
        assert_eq!(event(&message("x.Y", &exit)), Ok(None));
    }

    #[test]
    fn an_id_that_is_a_path_is_no_event() {
        for bad in ["../x", "", "a/b", "a\nb"] {
            let start = wire::TaskStart {
                container_id: bad.into(),
                pid: 1,
            };
            assert!(event(&message("containerd.events.TaskStart", &start)).is_err());
        }
    }
}
