//! Bodies: what is read from clients within limits of size and time, and files on their way out.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::try_unfold;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::range::Span;
use super::{App, Body};
use crate::error::{Error, Result};

/// What is read from a file at once.
const CHUNK: usize = 256 << 10;

/// What is read of a refused request, and for how long.
const MOST_DISCARDED: usize = 8 << 20;
const DISCARDING: Duration = Duration::from_secs(5);

/// How many requests of a connection wait for their body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Whether one does.
    pub(crate) fn is_some(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn begin(&self) -> WaitsFor {
        self.0.fetch_add(1, Ordering::Relaxed);
        WaitsFor(self.clone())
    }
}

/// A request that waits.
struct WaitsFor(Waiting);

impl Drop for WaitsFor {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body on its way here.
pub(super) struct Coming {
    pub(super) body: Incoming,
    pub(super) waiting: Waiting,
}

/// The next bytes of a body; `None` at its end. Errors with `Slow` or `Body`.
pub(super) async fn next(app: &App, coming: &mut Coming) -> Result<Option<Bytes>> {
    let _waits = coming.waiting.begin();
    loop {
        let frame = tokio::time::timeout(app.limits.idle, coming.body.frame());
        let frame = frame.await.map_err(|_| Error::Slow(app.limits.idle))?;
        let Some(frame) = frame else {
            return Ok(None);
        };
        // What is no data is trailers.
        if let Ok(data) = frame.map_err(Error::Body)?.into_data() {
            app.metrics.received(data.len() as u64);
            return Ok(Some(data));
        }
    }
}

/// Memory for bodies that are gathered whole: what is small needs none of it.
#[derive(Debug)]
pub(crate) struct Room(Arc<Semaphore>);

/// A part of that memory.
const ROOM_PART: usize = 64 << 10;
/// All of it: 256 MiB.
const ROOM_PARTS: usize = 4096;

impl Room {
    pub(crate) fn new() -> Room {
        Room(Arc::new(Semaphore::new(ROOM_PARTS)))
    }
}

/// A body, and the room that it takes.
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    _room: Vec<OwnedSemaphorePermit>,
}

/// A whole body of at most `max` bytes. Errors with `ManifestTooLarge`, before it is read if it says
/// its size, with `Slow` if it takes longer than a client may be silent, and with `TooManyManifests`.
pub(super) async fn whole(app: &App, coming: &mut Coming, max: u64) -> Result<Whole> {
    let limit = app.limits.idle;
    let gathered = tokio::time::timeout(limit, gather(app, coming, max)).await;
    gathered.map_err(|_| Error::Slow(limit))?
}

async fn gather(app: &App, coming: &mut Coming, max: u64) -> Result<Whole> {
    let too_large = || Error::ManifestTooLarge { max };
    if coming.body.size_hint().lower() > max {
        return Err(too_large());
    }
    let (mut bytes, mut room) = (Vec::new(), Vec::new());
    while let Some(data) = next(app, coming).await? {
        let length = bytes.len() + data.len();
        if length as u64 > max {
            return Err(too_large());
        }
        while room.len() < length / ROOM_PART {
            let more = Arc::clone(&app.room.0).try_acquire_owned();
            room.push(more.map_err(|_| Error::TooManyManifests)?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Whole { bytes, _room: room })
}

/// Takes what is left of a refused request, up to a point: a client that is cut off while it sends
/// may never see the answer.
pub(super) async fn discard(mut body: Incoming) {
    let take = async {
        let mut left = MOST_DISCARDED;
        while left > 0 {
            match body.frame().await {
                Some(Ok(frame)) => {
                    left = left.saturating_sub(frame.data_ref().map_or(1, Bytes::len))
                }
                Some(Err(_)) | None => break,
            }
        }
    };
    // What takes longer is not worth it.
    let _ = tokio::time::timeout(DISCARDING, take).await;
}

/// A part of a file as a body with a known length.
pub(super) fn file(app: &Arc<App>, mut file: File, span: Span) -> io::Result<Body> {
    file.seek(SeekFrom::Start(span.start))?;
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(CHUNK);
    let source = (file.take(span.length()), Arc::clone(app));
    let stream = try_unfold(source, |(mut file, app)| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let length = file.read_buf(&mut chunk).await?;
        if length == 0 {
            // A file that is shorter than it was: the client must not take this for the whole.
            return match file.limit() {
                0 => Ok(None),
                _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            };
        }
        app.metrics.sent(length as u64);
        Ok(Some((Frame::data(chunk.freeze()), (file, app))))
    });
    let body = Sized {
        inner: StreamBody::new(stream).boxed_unsync(),
        left: span.length(),
    };
    Ok(body.boxed_unsync())
}

/// A body of known length.
struct Sized {
    inner: Body,
    left: u64,
}

impl hyper::body::Body for Sized {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = std::pin::Pin::new(&mut self.inner).poll_frame(context);
        if let std::task::Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.left = self.left.saturating_sub(length);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
