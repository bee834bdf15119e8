//! A SPDY/3.1 connection, as the server of Kubernetes' streams sees it: a client opens streams, each of
//! them carries bytes both ways and is closed in each direction by itself.
//!
//! As every client and server of these protocols, it keeps no windows when it sends: the clients never
//! enlarge them, so that a stream would stand still after 64 KiB. It tells how much it has read, for
//! clients that do keep them. What a peer may cost is bounded: frames and headers ([`frame`],
//! [`headers`]), streams at a time, unread bytes ([`crate::queue`]) and unsent ones ([`ROOM`]).

mod frame;
mod headers;
mod opener;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::queue::{Budget, Feed, Inbox, PIECE, Taken, queue};
use frame::{Frame, ResetStatus, StreamId};
pub(crate) use headers::Headers;
use headers::{Deflater, Inflater};
pub(crate) use opener::{Opener, connect};

/// Bytes that wait to be sent, of all streams.
const ROOM: usize = 512 << 10;

/// Streams that a client may have open. A forwarded connection takes two.
const STREAMS: usize = 512;

/// How long a client has to close its side after the end.
const LINGER: Duration = Duration::from_secs(5);

/// Read bytes that a client is told of at once.
const CREDIT: u32 = 32 << 10;

/// A stream that a client has opened and that was accepted.
pub(crate) struct Stream {
    /// Its number: odd, and larger than that of the stream before.
    pub id: StreamId,
    pub headers: Headers,
    pub inbox: Inbox,
    pub outbox: Outbox,
}

/// A connection. Dropping it ends nothing; [`Session::finish`] does.
pub(crate) struct Session {
    opened: mpsc::Receiver<Stream>,
    sender: Sender,
    streams: Arc<Streams>,
}

/// One thing to be sent.
#[derive(Debug)]
enum Out {
    Frame(Bytes, Option<OwnedSemaphorePermit>),
    Data([u8; 8], Bytes, Option<OwnedSemaphorePermit>),
    /// The last frame.
    End(Bytes),
}

/// The way to a connection's writer.
#[derive(Debug, Clone)]
struct Sender {
    out: mpsc::UnboundedSender<Out>,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Streams {
    open: Mutex<HashMap<StreamId, Entry>>,
    /// The largest number of a stream that was taken.
    last: AtomicU32,
}

/// A stream while at least one of its directions is open.
#[derive(Debug)]
struct Entry {
    /// The client's direction.
    feed: Option<Arc<Feed>>,
    /// Ours.
    writable: bool,
}

/// Takes a connection over as SPDY's server. The future moves its bytes; when it completes, the
/// connection is closed and everything that was read of it ends. Errors with what is no SPDY.
pub(crate) fn serve(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
) -> io::Result<(Session, impl Future<Output = io::Result<()>> + Send)> {
    let (taken, opened) = mpsc::channel(STREAMS);
    let (ends, moved) = take_over(io, Some(taken))?;
    let session = Session {
        opened,
        sender: ends.sender,
        streams: ends.streams,
    };
    Ok((session, moved))
}

/// What both sides of a connection have of it.
struct Ends {
    sender: Sender,
    streams: Arc<Streams>,
    budget: Budget,
}

/// Moves a connection's bytes. Streams that the peer opens are `taken`, or refused if nobody takes any.
fn take_over(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    taken: Option<mpsc::Sender<Stream>>,
) -> io::Result<(Ends, impl Future<Output = io::Result<()>> + Send)> {
    let (read, write) = tokio::io::split(io);
    let (out, outgoing) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(ROOM));
    let ends = Ends {
        sender: Sender { out, room },
        streams: Arc::default(),
        budget: Budget::default(),
    };
    let reader = Reader {
        io: BufReader::with_capacity(PIECE, read),
        inflater: Inflater::new(),
        deflater: Deflater::new()?,
        sender: ends.sender.clone(),
        streams: Arc::clone(&ends.streams),
        budget: ends.budget.clone(),
        taken,
    };
    let ending = Arc::clone(&ends.streams);
    let moved = async move {
        let (read, write) = (reader.run(), send_all(outgoing, write));
        let (mut read, mut write) = (std::pin::pin!(read), std::pin::pin!(write));
        let moved = tokio::select! {
            read = &mut read => read,
            written = &mut write => {
                written?;
                // What a client sent meanwhile must be read: to close with it unread would throw away
                // what is still on its way to the client.
                let _ = tokio::time::timeout(LINGER, read).await;
                Ok(())
            }
        };
        ending.end_all();
        moved
    };
    Ok((ends, moved))
}

impl Session {
    /// The next stream that the client opens; `None` once the connection is closed. Cancel-safe.
    pub(crate) async fn accept(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }

    /// Closes the connection once all that was written is sent.
    pub(crate) fn finish(&self) {
        // A closed connection is finished.
        let last = self.streams.last.load(Ordering::Relaxed);
        let _ = self.sender.out.send(Out::End(frame::go_away(last)));
    }
}

impl Sender {
    /// Waits for room for so many bytes.
    async fn room(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let size = u32::try_from(bytes.max(64)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(size);
        tokio::select! {
            () = self.out.closed() => Err(gone()),
            room = room => room.map_err(|_| gone()),
        }
    }

    fn send(&self, out: Out) -> io::Result<()> {
        self.out.send(out).map_err(|_| gone())
    }

    /// Sends a small frame that the client has caused; one that asks for more than it reads waits.
    async fn answer(&self, frame: Bytes) -> io::Result<()> {
        let room = self.room(frame.len()).await?;
        self.send(Out::Frame(frame, Some(room)))
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection is closed")
}

async fn send_all(
    mut outgoing: mpsc::UnboundedReceiver<Out>,
    mut io: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(out) = outgoing.recv().await {
        match out {
            Out::Frame(mut frame, _room) => io.write_all_buf(&mut frame).await?,
            Out::Data(head, data, _room) => {
                io.write_all_buf(&mut Buf::chain(head.as_slice(), data))
                    .await?;
            }
            Out::End(mut frame) => {
                io.write_all_buf(&mut frame).await?;
                break;
            }
        }
        if outgoing.is_empty() {
            io.flush().await?;
        }
    }
    io.shutdown().await
}

struct Reader<R> {
    io: BufReader<R>,
    inflater: Inflater,
    deflater: Deflater,
    sender: Sender,
    streams: Arc<Streams>,
    budget: Budget,
    /// Who takes the streams that the peer opens.
    taken: Option<mpsc::Sender<Stream>>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads until the client closes the connection.
    async fn run(mut self) -> io::Result<()> {
        while let Some(frame) = frame::read(&mut self.io).await? {
            match frame {
                Frame::SynStream { id, fin, headers } => {
                    // Read in any case: the next block builds on it.
                    let headers = self.inflater.block(&headers)?;
                    self.open(id, fin, headers).await?;
                }
                Frame::Headers { id, fin, headers } => {
                    self.inflater.block(&headers)?;
                    if fin {
                        self.streams.end_reading(id);
                    }
                }
                Frame::Data { id, fin, length } => self.data(id, fin, length).await?,
                Frame::Reset { id } => self.streams.forget(id),
                // We ask nothing: every one is the peer's.
                Frame::Ping { id } => self.sender.answer(frame::ping(id)).await?,
                Frame::GoAway | Frame::Ignored => {}
            }
        }
        Ok(())
    }

    fn last(&self) -> StreamId {
        self.streams.last.load(Ordering::Relaxed)
    }

    async fn open(&mut self, id: StreamId, fin: bool, headers: Headers) -> io::Result<()> {
        let refused = if self.taken.is_none() {
            Some(ResetStatus::RefusedStream)
        } else if id.is_multiple_of(2) || id <= self.last() {
            Some(ResetStatus::ProtocolError)
        } else if self.streams.lock().len() >= STREAMS {
            Some(ResetStatus::RefusedStream)
        } else {
            None
        };
        if let Some(status) = refused {
            return self.sender.answer(frame::reset(id, status)).await;
        }
        self.streams.last.store(id, Ordering::Relaxed);
        let stream = self
            .streams
            .add(id, headers, !fin, &self.sender, &self.budget);
        let reply = frame::syn_reply(id, &self.deflater.block(&[])?);
        self.sender.answer(reply).await?;
        if let Some(taken) = &self.taken {
            // Nobody takes further streams: the outbox resets it as it is dropped.
            drop(taken.try_send(stream));
        }
        Ok(())
    }

    async fn data(&mut self, id: StreamId, fin: bool, length: usize) -> io::Result<()> {
        let feed = self.streams.feed(id);
        if feed.is_none() && !self.streams.lock().contains_key(&id) && id > self.last() {
            let reset = frame::reset(id, ResetStatus::InvalidStream);
            self.sender.answer(reset).await?;
        }
        let mut left = length;
        while left > 0 {
            let piece = self.piece(left).await?;
            left -= piece.len();
            if let Some(feed) = &feed {
                feed.push(piece).await;
            }
        }
        if fin {
            self.streams.end_reading(id);
        }
        Ok(())
    }

    async fn piece(&mut self, left: usize) -> io::Result<Bytes> {
        let mut piece = BytesMut::with_capacity(left.min(PIECE));
        let mut part = (&mut self.io).take(left.min(PIECE) as u64);
        while part.read_buf(&mut piece).await? > 0 && piece.len() < left.min(PIECE) {}
        match piece.is_empty() {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(piece.freeze()),
        }
    }
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<StreamId, Entry>> {
        // Nothing panics under the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream that is open from now on; its peer writes to it only if it is `fed`.
    fn add(
        self: &Arc<Self>,
        id: StreamId,
        headers: Headers,
        fed: bool,
        sender: &Sender,
        budget: &Budget,
    ) -> Stream {
        let (feed, inbox) = queue(budget);
        let inbox = inbox.telling(Credit {
            id,
            bytes: 0,
            sender: sender.clone(),
        });
        let entry = Entry {
            feed: fed.then(|| Arc::new(feed)),
            writable: true,
        };
        self.lock().insert(id, entry);
        let outbox = Outbox {
            id,
            sender: sender.clone(),
            streams: Arc::clone(self),
            closed: false,
        };
        Stream {
            id,
            headers,
            inbox,
            outbox,
        }
    }

    fn feed(&self, id: StreamId) -> Option<Arc<Feed>> {
        self.lock().get(&id)?.feed.clone()
    }

    /// The client sends no more.
    fn end_reading(&self, id: StreamId) {
        self.change(id, |entry| entry.feed = None);
    }

    /// We send no more.
    fn end_writing(&self, id: StreamId) {
        self.change(id, |entry| entry.writable = false);
    }

    fn change(&self, id: StreamId, change: impl FnOnce(&mut Entry)) {
        let mut streams = self.lock();
        let Some(entry) = streams.get_mut(&id) else {
            return;
        };
        change(entry);
        if entry.feed.is_none() && !entry.writable {
            streams.remove(&id);
        }
    }

    /// The connection is closed.
    fn end_all(&self) {
        self.lock().clear();
    }

    fn forget(&self, id: StreamId) {
        self.lock().remove(&id);
    }

    fn is_open(&self, id: StreamId) -> bool {
        self.lock().contains_key(&id)
    }
}

/// Our direction of a stream. Dropped before it is closed, it resets the stream.
#[derive(Debug)]
pub(crate) struct Outbox {
    id: StreamId,
    sender: Sender,
    streams: Arc<Streams>,
    closed: bool,
}

impl Outbox {
    /// Sends bytes; waits for room. Cancel-safe: all of them are sent or none.
    ///
    /// # Errors
    /// A stream that the client has reset, or a connection that is closed.
    pub(crate) async fn write(&self, bytes: Bytes) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let room = self.sender.room(bytes.len()).await?;
        if !self.is_open() {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the stream was reset",
            ));
        }
        let head = frame::data(self.id, false, bytes.len());
        self.sender.send(Out::Data(head, bytes, Some(room)))
    }

    /// The client has not reset the stream.
    pub(crate) fn is_open(&self) -> bool {
        self.streams.is_open(self.id)
    }

    /// Says that no more comes.
    pub(crate) fn close(mut self) {
        self.end();
        self.closed = true;
    }

    /// The same while the stream is still read.
    pub(crate) fn end(&self) {
        let head = frame::data(self.id, true, 0);
        // A connection that is closed needs no end of a stream.
        let _ = self.sender.send(Out::Data(head, Bytes::new(), None));
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        if self.closed {
            return self.streams.end_writing(self.id);
        }
        if self.is_open() {
            self.streams.forget(self.id);
            let reset = frame::reset(self.id, ResetStatus::Cancel);
            let _ = self.sender.send(Out::Frame(reset, None));
        }
    }
}

/// Tells the client what was read, for clients that keep windows.
#[derive(Debug)]
struct Credit {
    id: StreamId,
    bytes: u32,
    sender: Sender,
}

impl Taken for Credit {
    fn taken(&mut self, bytes: usize) {
        self.bytes = self
            .bytes
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.bytes < CREDIT {
            return;
        }
        for id in [self.id, 0] {
            let more = frame::window_update(id, self.bytes);
            // At most one frame for so many bytes that were read: bounded by what the client sends.
            let _ = self.sender.send(Out::Frame(more, None));
        }
        self.bytes = 0;
    }
}

#[cfg(test)]
pub(crate) mod client;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod writer;
