//! Port-forward: each connection of the client's side is a pair of streams, one for its bytes and one
//! for what went wrong, and a connection to a port in the pod. One that hangs holds up no other, as far
//! as the client reads and writes them each for itself.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Backend;
use crate::outbox::Outbox;
use crate::queue::{Inbox, PIECE};
use crate::spdy;

/// How long one stream of a pair waits for the other.
pub(crate) const PAIR: Duration = Duration::from_secs(30);

/// Where connections go.
#[derive(Debug)]
pub(crate) struct Pod<B> {
    pub backend: Arc<B>,
    pub id: Arc<str>,
}

impl<B> Clone for Pod<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            id: Arc::clone(&self.id),
        }
    }
}

/// One forwarded connection, as the client sees it.
struct Connection {
    inbox: Inbox,
    outbox: Outbox,
    error: Outbox,
}

/// One of the streams of a pair, until the other comes.
struct Half {
    port: u16,
    data: Option<(Inbox, Outbox)>,
    error: Option<Outbox>,
    until: Instant,
}

/// Serves the pairs that a client opens until it has left.
pub(crate) async fn spdy<B: Backend>(mut session: spdy::Session, pod: Pod<B>) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut running = JoinSet::new();
    loop {
        let oldest = halves.values().map(|half| half.until).min();
        let expired = async {
            match oldest {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            stream = session.accept() => {
                let Some(stream) = stream else { break };
                if let Some((port, connection)) = pair(&mut halves, stream) {
                    running.spawn(forward(pod.clone(), port, connection));
                }
            }
            // Dropped streams are reset.
            () = expired => halves.retain(|_, half| half.until > Instant::now()),
            Some(_) = running.join_next() => {}
        }
    }
}

/// Takes a stream in; gives the connection that it completes.
fn pair(halves: &mut HashMap<String, Half>, stream: spdy::Stream) -> Option<(u16, Connection)> {
    let headers = &stream.headers;
    let port = headers.get("port").and_then(|port| port.parse().ok());
    let kind = headers.get("streamType");
    let (Some(port), Some(kind @ ("data" | "error"))) = (port, kind) else {
        tracing::debug!("a stream of port-forward without a port or a type");
        return None;
    };
    if port == 0 {
        return None;
    }
    let is_data = kind == "data";
    let request = match headers.get("requestID") {
        Some(request) => request.to_owned(),
        // Clients from before requestID open the error stream first, and the other right after.
        None if is_data => format!("stream {}", stream.id.saturating_sub(2)),
        None => format!("stream {}", stream.id),
    };
    let half = halves.entry(request.clone()).or_insert_with(|| Half {
        port,
        data: None,
        error: None,
        until: Instant::now() + PAIR,
    });
    let outbox = Outbox::Spdy(stream.outbox);
    // A second stream of the same kind takes the place of the first, which is reset.
    match is_data {
        true => half.data = Some((stream.inbox, outbox)),
        false => half.error = Some(outbox),
    }
    if half.data.is_none() || half.error.is_none() {
        return None;
    }
    let half = halves.remove(&request)?;
    let (inbox, outbox) = half.data?;
    let error = half.error?;
    let connection = Connection {
        inbox,
        outbox,
        error,
    };
    Some((half.port, connection))
}

/// Serves the channels of a WebSocket: two of them for each port, which begin with its number.
pub(crate) async fn channels<B: Backend>(
    ports: &[u16],
    inboxes: Vec<Inbox>,
    outbox: impl Fn(u8) -> Outbox,
    pod: Pod<B>,
) {
    let mut running = JoinSet::new();
    for ((number, &port), inbox) in (0_u8..).zip(ports).zip(inboxes) {
        let (data, error) = (outbox(2 * number), outbox(2 * number + 1));
        for channel in [&data, &error] {
            let _ = channel
                .write(Bytes::copy_from_slice(&port.to_le_bytes()))
                .await;
        }
        let connection = Connection {
            inbox,
            outbox: data,
            error,
        };
        running.spawn(forward(pod.clone(), port, connection));
    }
    while running.join_next().await.is_some() {}
}

async fn forward<B: Backend>(pod: Pod<B>, port: u16, connection: Connection) {
    let Connection {
        inbox,
        outbox,
        error,
    } = connection;
    let moved = async {
        let stream = pod.backend.connect(&pod.id, port).await?;
        copy(stream, inbox, outbox)
            .await
            .map_err(|error| format!("port {port} of the pod: {error}"))
    };
    if let Err(why) = moved.await {
        tracing::debug!(pod = &*pod.id, port, "port-forward: {why}");
        let mut why = Bytes::from(why);
        why.truncate(PIECE);
        // A client that has left does not hear it.
        let _ = error.write(why).await;
    }
    error.close();
}

/// Moves bytes both ways until both have ended, or the pod's side has: what a client still sends to a
/// closed connection goes nowhere.
async fn copy(mut stream: TcpStream, mut inbox: Inbox, outbox: Outbox) -> io::Result<()> {
    let (mut from, mut to) = stream.split();
    let sent = async {
        while let Some(bytes) = inbox.read().await {
            to.write_all(&bytes).await?;
        }
        if !outbox.is_wanted() {
            return Ok(());
        }
        to.shutdown().await?;
        // The answer may come after all that was asked.
        std::future::pending::<io::Result<()>>().await
    };
    let received = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let bytes = Bytes::copy_from_slice(&buffer[..read]);
            outbox.write(bytes).await?;
        }
    };
    let moved = tokio::select! {
        received = received => received,
        sent = sent => sent,
    };
    outbox.close();
    moved
}
