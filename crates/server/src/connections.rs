//! The clients of the CRI socket: gRPC (HTTP/2) and the inspect endpoints (HTTP/1) share it, as with CRI-O. A
//! client is known by its first bytes, which are looked at and not taken.
//!
//! Must never let one client's silence keep another waiting: each is looked at by a task of its own, and has
//! a limit for its first words.

use std::io;
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use crate::inspect::Inspect;

/// What an HTTP/2 client begins with (RFC 9113, section 3.4); no method of HTTP/1 begins like it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// How long a client may be silent before it has said what it speaks.
const FIRST_WORDS: Duration = Duration::from_secs(60);
/// Between the first looks at a client that has sent a part of the preface; then ever longer.
const AGAIN: Duration = Duration::from_millis(10);
/// After a failed accept (no more files, usually) clients wait this long.
const PAUSE: Duration = Duration::from_millis(50);
/// Known clients that wait to be served.
const WAITING: usize = 64;

/// Accepts clients until the stream that is returned is dropped: it has those that speak gRPC.
pub(crate) fn accept(
    listener: UnixListener,
    inspect: Inspect,
) -> impl Stream<Item = io::Result<UnixStream>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((client, _)) => {
                    tokio::spawn(hand_over(client, sender.clone(), inspect.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "clients of the CRI socket wait");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

async fn hand_over(
    client: UnixStream,
    grpc: mpsc::Sender<io::Result<UnixStream>>,
    inspect: Inspect,
) {
    // Dropped, a client that said nothing is disconnected.
    let speaks_http2 = match tokio::time::timeout(FIRST_WORDS, speaks_http2(&client)).await {
        Ok(Ok(Some(answer))) => answer,
        Ok(Ok(None) | Err(_)) | Err(_) => return,
    };
    match speaks_http2 {
        // Nobody serves any more if it cannot be sent.
        true => drop(grpc.send(Ok(client)).await),
        false => inspect.serve(client).await,
    }
}

/// Whether a client speaks HTTP/2; `None`: it has left.
async fn speaks_http2(client: &UnixStream) -> io::Result<Option<bool>> {
    let mut pause = AGAIN;
    loop {
        client.readable().await?;
        let mut first = [0; PREFACE.len()];
        let looked = client.try_io(Interest::READABLE, || {
            let (length, _) = rustix::net::recv(client, &mut first, RecvFlags::PEEK)?;
            Ok(length)
        });
        let said = match looked {
            Ok(0) => return Ok(None),
            Ok(length) => &first[..length],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if !PREFACE.starts_with(said) {
            return Ok(Some(false));
        }
        if said.len() == PREFACE.len() {
            return Ok(Some(true));
        }
        // What was looked at stays readable.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_client_is_known_by_its_first_bytes_however_they_come() {
        for (said, speaks) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], true),
            (b"GET /info HTTP/1.1\r\n", false),
            (b"PROPFIND / HTTP/1.1\r\n", false),
            (b"\0", false),
        ] {
            let (mut client, server) = UnixStream::pair().unwrap();
            let known = tokio::spawn(async move { speaks_http2(&server).await.unwrap() });
            for byte in said {
                if client.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            assert_eq!(known.await.unwrap(), Some(speaks));
        }
    }

    #[tokio::test]
    async fn one_that_leaves_in_the_middle_of_the_preface_is_gone() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"PRI *").await.unwrap();
        drop(client);
        // It stays readable; only its limit ends it.
        let known = tokio::time::timeout(Duration::from_millis(100), speaks_http2(&server)).await;
        assert!(known.is_err() || known.unwrap().unwrap() != Some(true));
    }
}
