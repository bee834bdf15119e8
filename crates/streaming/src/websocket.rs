//! WebSocket as Kubernetes uses it: messages whose first byte is a channel (`*.channel.k8s.io`), or
//! the bytes of a SPDY connection (`SPDY/3.1+portforward.k8s.io`). The framing is tungstenite's.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::queue::{Budget, Feed, Inbox, PIECE, queue};

/// The largest message that is taken. kubectl's have 32 KiB.
const MESSAGE: usize = 1 << 20;

/// Messages that wait to be sent, each of at most [`PIECE`] bytes.
const WAITING: usize = 16;

/// How long a client has to answer the end.
const LINGER: Duration = Duration::from_secs(5);

/// The first byte of a message that ends a channel, in version 5.
const CLOSE: u8 = 255;

/// How channels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Framing {
    /// Text: a digit, and the rest as base64.
    pub base64: bool,
    /// A client may end a channel by itself (version 5).
    pub close: bool,
}

/// A connection whose channels are open.
pub(crate) struct Session {
    out: mpsc::Sender<Message>,
    framing: Framing,
}

/// Our direction of a channel.
#[derive(Debug)]
pub(crate) struct Outbox {
    channel: u8,
    framing: Framing,
    out: mpsc::Sender<Message>,
}

/// Takes a connection over as a server whose handshake is done.
pub(crate) async fn accept<I: AsyncRead + AsyncWrite + Unpin>(io: I) -> WebSocketStream<I> {
    taken_over(io, Role::Server).await
}

/// The same as a client.
pub(crate) async fn connected<I: AsyncRead + AsyncWrite + Unpin>(io: I) -> WebSocketStream<I> {
    taken_over(io, Role::Client).await
}

async fn taken_over<I: AsyncRead + AsyncWrite + Unpin>(io: I, role: Role) -> WebSocketStream<I> {
    let config = WebSocketConfig::default()
        .read_buffer_size(PIECE)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE));
    WebSocketStream::from_raw_socket(io, role, Some(config)).await
}

/// Serves channels: of `inputs`, those that the client writes to, the ends to read are returned in
/// their order. The future moves the bytes; when it completes, the connection is closed.
pub(crate) fn serve<I: AsyncRead + AsyncWrite + Unpin + Send>(
    socket: WebSocketStream<I>,
    framing: Framing,
    inputs: &[u8],
) -> (
    Session,
    Vec<Inbox>,
    impl Future<Output = io::Result<()>> + Send,
) {
    let (out, mut outgoing) = mpsc::channel::<Message>(WAITING);
    let budget = Budget::default();
    let (mut feeds, inboxes): (Vec<_>, Vec<_>) = inputs
        .iter()
        .map(|&channel| {
            let (feed, inbox) = queue(&budget);
            ((channel, Some(feed)), inbox)
        })
        .unzip();
    let moved = async move {
        let (mut sink, mut messages) = socket.split();
        let read = async {
            while let Some(message) = messages.try_next().await.map_err(failed)? {
                take(message, framing, &mut feeds).await?;
            }
            io::Result::Ok(())
        };
        let write = async {
            while let Some(message) = outgoing.recv().await {
                let last = message.is_close();
                sink.feed(message).await.map_err(failed)?;
                if last || outgoing.is_empty() {
                    sink.flush().await.map_err(failed)?;
                }
                if last {
                    break;
                }
            }
            io::Result::Ok(())
        };
        let (mut read, mut write) = (std::pin::pin!(read), std::pin::pin!(write));
        tokio::select! {
            read = &mut read => read,
            written = &mut write => {
                written?;
                // The client answers the close, after what it had sent before.
                let _ = tokio::time::timeout(LINGER, read).await;
                Ok(())
            }
        }
    };
    (Session { out, framing }, inboxes, moved)
}

/// Gives a message's bytes to its channel.
async fn take(
    message: Message,
    framing: Framing,
    feeds: &mut [(u8, Option<Feed>)],
) -> io::Result<()> {
    let bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => text.into(),
        // The library answers these.
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {
            return Ok(());
        }
    };
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(());
    };
    if framing.close && first == CLOSE {
        let [channel] = rest else {
            return Err(bad("an end of a channel that names none"));
        };
        if let Some((_, feed)) = feeds.iter_mut().find(|(known, _)| known == channel) {
            *feed = None;
        }
        return Ok(());
    }
    let channel = match framing.base64 {
        true => first.wrapping_sub(b'0'),
        false => first,
    };
    let feed = feeds.iter().find(|(known, _)| *known == channel);
    let Some((_, Some(feed))) = feed else {
        // Of a channel that was not asked for, or that has ended.
        return Ok(());
    };
    let mut data = match framing.base64 {
        true => BASE64
            .decode(rest)
            .map(Bytes::from)
            .map_err(|_| bad("no base64"))?,
        false => bytes.slice(1..),
    };
    while !data.is_empty() {
        feed.push(data.split_to(data.len().min(PIECE))).await;
    }
    Ok(())
}

impl Session {
    /// The way to a channel.
    pub(crate) fn outbox(&self, channel: u8) -> Outbox {
        Outbox {
            channel,
            framing: self.framing,
            out: self.out.clone(),
        }
    }

    /// Closes the connection once all that was written is sent.
    pub(crate) async fn finish(&self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        // A closed connection is finished.
        let _ = self.out.send(Message::Close(Some(frame))).await;
    }
}

impl Outbox {
    /// Sends bytes; waits for room. Cancel-safe: all of them are sent or none.
    ///
    /// # Errors
    /// A connection that is closed.
    pub(crate) async fn write(&self, bytes: Bytes) -> io::Result<()> {
        let message = match self.framing.base64 {
            true => {
                let mut text = String::from(char::from(b'0' + self.channel));
                BASE64.encode_string(&bytes, &mut text);
                Message::text(text)
            }
            false => {
                let mut message = BytesMut::with_capacity(1 + bytes.len());
                message.put_u8(self.channel);
                message.put_slice(&bytes);
                Message::Binary(message.freeze())
            }
        };
        let sent = self.out.send(message).await;
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the connection is closed"))
    }
}

impl Outbox {
    /// Says that no more comes on this channel: a client's word of version 5.
    pub(crate) async fn end(self) {
        let end = Message::Binary(Bytes::from(vec![CLOSE, self.channel]));
        // A closed connection needs no end of a channel.
        let _ = self.out.send(end).await;
    }
}

/// The bytes that a WebSocket carries in its messages, as a connection. The future moves them.
pub(crate) fn tunnel<I: AsyncRead + AsyncWrite + Unpin + Send>(
    socket: WebSocketStream<I>,
) -> (DuplexStream, impl Future<Output = io::Result<()>> + Send) {
    let (inner, outer) = tokio::io::duplex(2 * PIECE);
    let moved = async move {
        let (mut sink, mut messages) = socket.split();
        let (mut from, mut to) = tokio::io::split(outer);
        let read = async {
            while let Some(message) = messages.try_next().await.map_err(failed)? {
                if let Message::Binary(bytes) = message {
                    to.write_all(&bytes).await?;
                }
            }
            to.shutdown().await
        };
        let write = async {
            let mut bytes = BytesMut::with_capacity(PIECE);
            while from.read_buf(&mut bytes).await? > 0 {
                let message = Message::Binary(bytes.split().freeze());
                sink.send(message).await.map_err(failed)?;
                bytes.reserve(PIECE);
            }
            sink.close().await.map_err(failed)
        };
        tokio::try_join!(read, write).map(drop)
    };
    (inner, moved)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn failed(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Client = WebSocketStream<DuplexStream>;

    async fn connect(framing: Framing) -> (Client, Session, Vec<Inbox>) {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (session, inboxes, moved) = serve(accept(theirs).await, framing, &[0, 4]);
        tokio::spawn(moved);
        let client = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        (client, session, inboxes)
    }

    const V4: Framing = Framing {
        base64: false,
        close: false,
    };
    const V5: Framing = Framing {
        base64: false,
        close: true,
    };
    const BASE: Framing = Framing {
        base64: true,
        close: false,
    };

    fn binary(bytes: &'static [u8]) -> Message {
        Message::Binary(Bytes::from_static(bytes))
    }

    #[tokio::test]
    async fn the_first_byte_is_the_channel() {
        let (mut client, session, mut inboxes) = connect(V4).await;
        client.send(binary(b"\x04size")).await.unwrap();
        client.send(binary(b"\x09nobody's")).await.unwrap();
        client.send(binary(b"")).await.unwrap();
        client.send(binary(b"\x00in")).await.unwrap();
        assert_eq!(inboxes[0].read().await.unwrap(), "in");
        assert_eq!(inboxes[1].read().await.unwrap(), "size");
        session
            .outbox(1)
            .write(Bytes::from_static(b"out"))
            .await
            .unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), binary(b"\x01out"));
    }

    #[tokio::test]
    async fn version_5_ends_a_channel_and_version_4_has_no_such_word() {
        let (mut client, _session, mut inboxes) = connect(V5).await;
        client.send(binary(b"\x00last")).await.unwrap();
        client.send(binary(b"\xff\x00")).await.unwrap();
        assert_eq!(inboxes[0].read().await.unwrap(), "last");
        assert_eq!(inboxes[0].read().await, None);
        let (mut client, _session, mut inboxes) = connect(V4).await;
        client.send(binary(b"\xff\x00")).await.unwrap();
        client.send(binary(b"\x00more")).await.unwrap();
        assert_eq!(inboxes[0].read().await.unwrap(), "more");
    }

    #[tokio::test]
    async fn base64_is_text_with_a_digit_before_it() {
        let (mut client, session, mut inboxes) = connect(BASE).await;
        client.send(Message::text("0aGVsbG8=")).await.unwrap();
        assert_eq!(inboxes[0].read().await.unwrap(), "hello");
        session
            .outbox(2)
            .write(Bytes::from_static(b"hello"))
            .await
            .unwrap();
        assert_eq!(
            client.next().await.unwrap().unwrap(),
            Message::text("2aGVsbG8=")
        );
    }

    #[tokio::test]
    async fn the_end_comes_after_what_was_written() {
        let (mut client, session, _inboxes) = connect(V4).await;
        let outbox = session.outbox(1);
        for _ in 0..5 {
            outbox.write(Bytes::from_static(b"x")).await.unwrap();
        }
        session.finish().await;
        for _ in 0..5 {
            assert_eq!(client.next().await.unwrap().unwrap(), binary(b"\x01x"));
        }
        assert!(client.next().await.unwrap().unwrap().is_close());
    }

    #[tokio::test]
    async fn what_is_too_large_or_damaged_ends_the_connection() {
        let large = Message::Binary(vec![0; MESSAGE + 1].into());
        for (framing, message) in [
            (V4, large),
            (V5, binary(b"\xff")),
            (BASE, Message::text("0***")),
        ] {
            let (mut client, _session, mut inboxes) = connect(framing).await;
            // It may be refused while it is being sent.
            let _ = client.send(message).await;
            assert_eq!(inboxes[0].read().await, None);
        }
    }

    #[tokio::test]
    async fn a_tunnel_carries_bytes_whatever_the_messages() {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (mut inner, moved) = tunnel(accept(theirs).await);
        tokio::spawn(moved);
        let mut client: Client = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        client.send(binary(b"ab")).await.unwrap();
        client.send(binary(b"cd")).await.unwrap();
        let mut four = [0; 4];
        inner.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"abcd");
        inner.write_all(b"answer").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), binary(b"answer"));
        drop(inner);
        assert!(client.next().await.unwrap().unwrap().is_close());
    }
}
