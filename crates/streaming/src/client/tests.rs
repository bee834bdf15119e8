//! The client against the server of this crate: what a command reads and writes, how it ends, and ports.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::Streams;
use crate::tests::{ALL, OUT, world};

const BOTH: [Transport; 2] = [Transport::Spdy, Transport::WebSocket];

/// What was written to it.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn bytes(&self) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut kept)
    }
}

impl AsyncWrite for Kept {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn target(url: String, transport: Transport) -> Target {
    Target {
        url,
        transport,
        tls: Tls::default(),
    }
}

/// Runs a command with this input; its outputs, and how it ended.
async fn ran(
    target: &Target,
    streams: Streams,
    input: &'static [u8],
) -> (Vec<u8>, Vec<u8>, Result<Exit, Error>) {
    let (stdout, stderr) = (Kept::default(), Kept::default());
    let stdio = Stdio {
        stdin: streams
            .stdin
            .then(|| -> Pin<Box<dyn tokio::io::AsyncRead + Send>> { Box::pin(input) }),
        stdout: Box::pin(stdout.clone()),
        stderr: Box::pin(stderr.clone()),
        sizes: None,
    };
    let ended = run(target, streams, stdio).await;
    (stdout.bytes(), stderr.bytes(), ended)
}

#[tokio::test]
async fn a_command_has_its_streams_and_its_exit_code_over_both_transports() {
    let world = world().await;
    for transport in BOTH {
        let url = world.sh("cat; echo err >&2; exit 5", ALL);
        let (stdout, stderr, ended) = ran(&target(url, transport), ALL, b"in and out").await;
        assert_eq!(stdout, b"in and out", "{transport:?}");
        assert_eq!(stderr, b"err\n");
        assert_eq!(ended.unwrap(), Exit(5));
    }
}

#[tokio::test]
async fn all_that_a_command_writes_arrives() {
    let world = world().await;
    for transport in BOTH {
        let url = world.sh("head -c 20000000 /dev/zero; printf end", OUT);
        let (stdout, _, ended) = ran(&target(url, transport), OUT, b"").await;
        assert_eq!(stdout.len(), 20_000_003, "{transport:?}");
        assert!(stdout.ends_with(b"end"));
        assert_eq!(ended.unwrap(), Exit(0));
    }
}

#[tokio::test]
async fn a_server_that_refuses_says_why_and_a_url_is_checked() {
    let world = world().await;
    for transport in BOTH {
        let mut url = world.sh("true", OUT);
        url.push('x');
        let (_, _, ended) = ran(&target(url, transport), OUT, b"").await;
        let refused = ended.unwrap_err().to_string();
        assert!(
            refused.contains("unable to upgrade connection: 404"),
            "{refused}"
        );
    }
    for (url, words) in [
        ("/exec/token", "it names no host"),
        ("ftp://127.0.0.1/x", "neither http nor https"),
        (
            "http://127.0.0.1:1/x",
            "connect to the stream at 127.0.0.1:1",
        ),
    ] {
        let (_, _, ended) = ran(&target(url.to_owned(), Transport::Spdy), OUT, b"").await;
        let why = ended.unwrap_err().to_string();
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn a_server_that_leaves_is_no_success() {
    let mut world = world().await;
    for transport in BOTH {
        let url = world.sh("echo ready; exec sleep 1000", OUT);
        let target = target(url, transport);
        let stdout = Kept::default();
        let stdio = Stdio {
            stdin: None,
            stdout: Box::pin(stdout.clone()),
            stderr: Box::pin(Kept::default()),
            sizes: None,
        };
        let running = tokio::spawn(async move { run(&target, OUT, stdio).await });
        while stdout.bytes().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        world.finish();
        let why = running.await.unwrap().unwrap_err().to_string();
        assert!(why.contains("ended before"), "{transport:?}: {why}");
        world = crate::tests::world().await;
    }
}

#[tokio::test]
async fn ports_carry_bytes_both_ways_and_say_what_went_wrong() {
    let world = world().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                all.reverse();
                stream.write_all(&all).await.unwrap();
            });
        }
    });
    for transport in BOTH {
        let url = world.ports(vec![port]);
        let ports = Ports::connect(&target(url, transport)).await.unwrap();
        // Several at once on one connection.
        let clients = (0..4_u8).map(|number| {
            let ports = ports.clone();
            async move {
                let (mut ours, theirs) = pair().await;
                let joined = tokio::spawn(async move { ports.join(port, theirs).await });
                let mut sent = vec![number; 300_000];
                sent[0] = b'!';
                ours.write_all(&sent).await.unwrap();
                ours.shutdown().await.unwrap();
                let mut answer = Vec::new();
                ours.read_to_end(&mut answer).await.unwrap();
                sent.reverse();
                assert_eq!(answer, sent);
                joined.await.unwrap().unwrap();
            }
        });
        futures_util::future::join_all(clients).await;
        let (_ours, theirs) = pair().await;
        let why = ports.join(1, theirs).await.unwrap_err().to_string();
        assert!(why.contains("port 1"), "{transport:?}: {why}");
    }
}

/// Both ends of a connection over loopback.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    (ours.unwrap(), theirs.unwrap().0)
}
