//! port-forward from the client's side: each connection is a pair of streams, one for its bytes and one for
//! what went wrong. Over a WebSocket the same SPDY connection is carried in its messages.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{Error, Target, Transport, dial};
use crate::queue::{Inbox, PIECE};
use crate::{spdy, websocket};

const SPDY: &[&str] = &["portforward.k8s.io"];
const TUNNEL: &[&str] = &["SPDY/3.1+portforward.k8s.io"];

/// How long the server has to say what went wrong once a connection is over.
const WORDS: Duration = Duration::from_secs(5);

/// What is kept of it.
const KEPT: usize = 16 << 10;

/// A connection to a pod's ports. Cheap to clone; it ends when the last of them is dropped.
#[derive(Clone)]
pub struct Ports {
    opener: Arc<spdy::Opener>,
    next: Arc<AtomicU64>,
    over: watch::Receiver<bool>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports")
    }
}

impl Ports {
    /// Comes to the stream.
    ///
    /// # Errors
    /// Nobody there, or a server that refuses.
    pub async fn connect(target: &Target) -> Result<Self, Error> {
        let (ended, over) = watch::channel(false);
        let opener = match target.transport {
            Transport::Spdy => {
                let (io, _) = dial::upgrade(target, SPDY).await?;
                let (opener, moved) = spdy::connect(io)?;
                tokio::spawn(async move {
                    note(moved.await);
                    ended.send_replace(true);
                });
                opener
            }
            Transport::WebSocket => {
                let (io, _) = dial::upgrade(target, TUNNEL).await?;
                let (io, carried) = websocket::tunnel(websocket::connected(io).await);
                let (opener, moved) = spdy::connect(io)?;
                tokio::spawn(async move {
                    let moved = async {
                        tokio::select! {
                            carried = carried => carried,
                            moved = moved => moved,
                        }
                    };
                    note(moved.await);
                    ended.send_replace(true);
                });
                opener
            }
        };
        Ok(Self {
            opener: Arc::new(opener),
            next: Arc::default(),
            over,
        })
    }

    /// Completes when the server has ended the connection.
    pub async fn lost(&self) {
        // An error is the same: nobody moves its bytes any more.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }

    /// Joins a connection of ours with a port in the pod until either side has ended.
    ///
    /// # Errors
    /// A connection that is closed, or what the server says of the port.
    pub async fn join(&self, port: u16, local: TcpStream) -> Result<(), Error> {
        let (port, request) = (
            port.to_string(),
            self.next.fetch_add(1, Ordering::Relaxed).to_string(),
        );
        let headers = |kind| {
            [
                ("streamtype", kind),
                ("port", &*port),
                ("requestid", &*request),
            ]
        };
        let error = self.opener.open(&headers("error")).await?;
        // Nothing is said to the server there.
        error.outbox.close();
        let data = self.opener.open(&headers("data")).await?;
        let copied = copy(local, data.inbox, &data.outbox).await;
        let said = tokio::time::timeout(WORDS, words(error.inbox)).await;
        match said.unwrap_or_default() {
            said if said.is_empty() => Ok(copied?),
            said => Err(Error::Command(said)),
        }
    }
}

fn note(ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!("connection to a pod's ports: {error}");
    }
}

/// Moves bytes both ways until the pod's side has ended.
async fn copy(mut local: TcpStream, mut inbox: Inbox, outbox: &spdy::Outbox) -> io::Result<()> {
    let (mut from, mut to) = local.split();
    let sent = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            outbox
                .write(Bytes::copy_from_slice(&buffer[..read]))
                .await?;
        }
        outbox.end();
        // The answer may come after all that was asked.
        std::future::pending::<io::Result<()>>().await
    };
    let received = async {
        while let Some(bytes) = inbox.read().await {
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    tokio::select! {
        sent = sent => sent,
        received = received => received,
    }
}

async fn words(mut inbox: Inbox) -> String {
    let mut all = Vec::new();
    while let Some(bytes) = inbox.read().await {
        let room = KEPT.saturating_sub(all.len());
        all.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    String::from_utf8_lossy(&all).trim().to_owned()
}
