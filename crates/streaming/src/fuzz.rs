//! What must hold for the bytes of any client: each function takes them as all that a client sends, and
//! panics when something does not hold. For the seeded tests, and for `fuzz/`.
//!
//! What a client is answered is thrown away; that a connection ends with its client's bytes, and that
//! nobody is given more than was sent, is what is looked at, beside what would panic by itself.

#![allow(
    clippy::unwrap_used,
    reason = "test code, which says by a panic what does not hold"
)]

use std::io::Cursor;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::outbox::Outbox;
use crate::queue::Inbox;
use crate::spdy::writer::Writer;
use crate::spdy::{self, Session, Stream};
use crate::websocket::{self, Framing};

/// A client that sends these bytes and no more, and reads what it gets.
fn client(bytes: &[u8]) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink())
}

fn run(serve: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(serve);
}

/// Any bytes as a SPDY connection.
pub fn spdy(bytes: &[u8]) {
    run(serve_spdy(client(bytes), bytes.len()));
}

/// Any bytes as what a client with a compression in good order does: streams with headers, data, and
/// frames as they come.
pub fn spdy_session(bytes: &[u8]) {
    spdy(&session(bytes));
}

/// Any bytes as a WebSocket's frames; the first one says what its messages carry.
pub fn websocket(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let framing = Framing {
        base64: kind & 1 != 0,
        close: kind & 2 != 0,
    };
    let tunnel = kind & 4 != 0;
    run(async {
        let socket = websocket::accept(client(bytes)).await;
        if tunnel {
            let (inner, moved) = websocket::tunnel(socket);
            let ((), _ended) = tokio::join!(serve_spdy(inner, bytes.len()), moved);
            return;
        }
        let (session, inboxes, moved) = websocket::serve(socket, framing, &[0, 4]);
        let outbox = Outbox::WebSocket(session.outbox(1));
        let read = async {
            let read = join_all(inboxes.into_iter().map(|one| echo(one, Some(&outbox)))).await;
            session.finish().await;
            read.into_iter().sum::<usize>()
        };
        let (read, _ended) = tokio::join!(read, moved);
        assert!(read <= bytes.len(), "{read} of {} bytes", bytes.len());
    });
}

/// Serves streams by sending back what comes.
async fn serve_spdy(io: impl AsyncRead + AsyncWrite + Send + 'static, sent: usize) {
    let (session, moved) = spdy::serve(io).unwrap();
    let (read, _ended) = tokio::join!(accept_all(session), moved);
    assert!(read <= sent, "{read} of {sent} bytes");
}

/// All streams at once, as one that is not read holds up the others.
async fn accept_all(mut session: Session) -> usize {
    let (mut streams, mut last) = (JoinSet::new(), 0);
    while let Some(stream) = session.accept().await {
        assert!(
            stream.id % 2 == 1 && stream.id > last,
            "stream {} after {last}",
            stream.id
        );
        last = stream.id;
        streams.spawn(serve_stream(stream));
    }
    session.finish();
    streams.join_all().await.into_iter().sum()
}

/// Read or not, sent back or not, closed or reset: the length of a header says so.
async fn serve_stream(stream: Stream) -> usize {
    let Stream {
        headers,
        inbox,
        outbox,
        ..
    } = stream;
    let outbox = Outbox::Spdy(outbox);
    match headers.get("port").map(str::len) {
        Some(1) => {
            drop(inbox);
            outbox.close();
            0
        }
        Some(3) => {
            drop(outbox);
            echo(inbox, None).await
        }
        _ => {
            let read = echo(inbox, Some(&outbox)).await;
            outbox.close();
            read
        }
    }
}

/// How many bytes come; they are sent back for as long as the client takes them.
async fn echo(mut inbox: Inbox, to: Option<&Outbox>) -> usize {
    let (mut sum, mut to) = (0, to);
    while let Some(bytes) = inbox.read().await {
        sum += bytes.len();
        if let Some(outbox) = to
            && outbox.write(bytes).await.is_err()
        {
            to = None;
        }
    }
    sum
}

/// The frames of a client that does what the bytes say: an act, how many bytes it is given, and these.
fn session(mut bytes: &[u8]) -> Vec<u8> {
    let mut client = Writer::new().unwrap();
    let mut next = 1;
    while let Some((&[act, size], rest)) = bytes.split_first_chunk() {
        let (given, rest) = rest.split_at(usize::from(size).min(rest.len()));
        bytes = rest;
        let text = String::from_utf8_lossy(given);
        let id = next - 2 * u32::from(act >> 4).min(next / 2);
        match act & 7 {
            0 | 1 => {
                let headers = [("streamtype", &*text), ("port", "80")];
                client.open(next, &headers).unwrap();
                next += 2;
            }
            2 => {
                let headers = [("streamtype", "data"), ("port", &*text)];
                client.open(next, &headers).unwrap();
                next += 2;
            }
            3 => client.data(id, false, given),
            4 => client.data(id, true, given),
            5 => client.data(id, false, &given.repeat(1000)),
            6 => client.reset(id),
            _ => client.raw(given),
        }
    }
    client.take()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutator;

    #[test]
    fn no_bytes_of_a_spdy_client_do_harm() {
        let acts: &[&[u8]] = &[
            b"\0\x05stdin\0\x06stdout\x13\x05hello\x04\x00\x05\x40",
            b"\x02\x01p\x02\x03res\x02\x02ok\x03\x04abcd\x23\x04abcd\x06\0\x16\0",
            b"\x07\x0c\x80\x03\0\x06\0\0\0\x04\0\0\0\x01\x07\x08\x80\x03\0\x07\0\0\0\0",
        ];
        let frames: Vec<Vec<u8>> = acts.iter().map(|acts| session(acts)).collect();
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        mutator::run(1_500, acts, spdy_session);
        mutator::run(1_500, &frames, spdy);
    }

    #[test]
    fn no_bytes_of_a_websocket_client_do_harm() {
        let message = |kind: u8, opcode: u8, bytes: &[u8]| {
            let length = u8::try_from(bytes.len()).unwrap();
            // A mask of zeros changes nothing.
            [&[kind, 0x80 | opcode, 0x80 | length, 0, 0, 0, 0], bytes].concat()
        };
        let mut open = Writer::new().unwrap();
        open.open(1, &[("port", "80")]).unwrap();
        let corpus = [
            message(0, 2, b"\0hello"),
            message(1, 1, b"0aGVsbG8="),
            message(2, 2, b"\xff\0"),
            message(2, 9, b"ping"),
            message(2, 8, b"\x03\xe8"),
            message(4, 2, &open.take()),
        ];
        let corpus: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
        mutator::run(4_000, &corpus, websocket);
    }
}
