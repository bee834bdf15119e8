//! Bytes on their way from a connection to whoever reads one of its streams. A stream that is not read
//! holds a bounded part of a connection's memory; once that is full the connection is read no further,
//! so that TCP slows its peer down. SPDY as Kubernetes speaks it has no other flow control.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The most bytes that one piece has.
pub(crate) const PIECE: usize = 32 << 10;

/// Bytes of one stream that wait to be read.
const STREAM: usize = 256 << 10;

/// Bytes of all streams of one connection that wait to be read.
const CONNECTION: usize = 4 << 20;

/// What the streams of one connection may hold together.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CONNECTION)))
    }
}

/// Bytes that were received, with the room that they take.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    _room: [OwnedSemaphorePermit; 2],
}

/// The end that a connection fills. Dropping it is the end of the stream.
#[derive(Debug)]
pub(crate) struct Feed {
    pieces: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
    budget: Budget,
}

/// The end that is read.
#[derive(Debug)]
pub(crate) struct Inbox {
    pieces: mpsc::UnboundedReceiver<Piece>,
    /// Told how many bytes were taken.
    taken: Option<Box<dyn Taken>>,
}

/// Who wants to know how much of a stream was taken.
pub(crate) trait Taken: Send + Sync + std::fmt::Debug {
    fn taken(&mut self, bytes: usize);
}

/// A stream's two ends.
pub(crate) fn queue(budget: &Budget) -> (Feed, Inbox) {
    let (send, receive) = mpsc::unbounded_channel();
    let feed = Feed {
        pieces: send,
        room: Arc::new(Semaphore::new(STREAM)),
        budget: budget.clone(),
    };
    let inbox = Inbox {
        pieces: receive,
        taken: None,
    };
    (feed, inbox)
}

impl Feed {
    /// Adds at most [`PIECE`] bytes; waits for room. What nobody reads any more is dropped.
    pub(crate) async fn push(&self, bytes: Bytes) {
        debug_assert!(bytes.len() <= PIECE);
        // Each piece costs something beside its bytes: a peer that sends single ones gets no more.
        let size = u32::try_from(bytes.len().max(64)).unwrap_or(u32::MAX);
        let room = async {
            let own = Arc::clone(&self.room).acquire_many_owned(size).await.ok()?;
            let shared = Arc::clone(&self.budget.0);
            Some([own, shared.acquire_many_owned(size).await.ok()?])
        };
        tokio::select! {
            () = self.pieces.closed() => {}
            room = room => if let Some(room) = room {
                // Whoever reads may have left just now.
                let _ = self.pieces.send(Piece { bytes, _room: room });
            },
        }
    }
}

impl Inbox {
    /// An inbox that says how much was taken of it.
    pub(crate) fn telling(mut self, taken: impl Taken + 'static) -> Self {
        self.taken = Some(Box::new(taken));
        self
    }

    /// The next bytes; `None` at the end. Cancel-safe.
    pub(crate) async fn read(&mut self) -> Option<Bytes> {
        let piece = self.pieces.recv().await?;
        if let Some(taken) = &mut self.taken {
            taken.taken(piece.bytes.len());
        }
        Some(piece.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn what_is_not_read_is_bounded_and_nothing_is_lost() {
        let budget = Budget::default();
        let (feed, mut inbox) = queue(&budget);
        let piece = Bytes::from(vec![7; PIECE]);
        for _ in 0..STREAM / PIECE {
            feed.push(piece.clone()).await;
        }
        let mut more = Box::pin(feed.push(piece.clone()));
        let waited = tokio::time::timeout(Duration::from_millis(10), &mut more).await;
        assert!(waited.is_err(), "a full stream takes more");
        assert_eq!(inbox.read().await.unwrap(), piece);
        more.await;
        drop(feed);
        let mut left = 0;
        while let Some(bytes) = inbox.read().await {
            left += bytes.len();
        }
        assert_eq!(left, STREAM);
    }

    #[tokio::test]
    async fn streams_share_the_connections_memory() {
        let budget = Budget::default();
        let streams: Vec<_> = (0..CONNECTION / STREAM).map(|_| queue(&budget)).collect();
        for (feed, _) in &streams {
            for _ in 0..STREAM / PIECE {
                feed.push(Bytes::from(vec![0; PIECE])).await;
            }
        }
        let (one_more, _inbox) = queue(&budget);
        let push = one_more.push(Bytes::from_static(b"x"));
        let waited = tokio::time::timeout(Duration::from_millis(10), push).await;
        assert!(waited.is_err(), "beyond the connection's memory");
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_holds_up_nothing() {
        let (feed, inbox) = queue(&Budget::default());
        drop(inbox);
        for _ in 0..100 {
            feed.push(Bytes::from(vec![0; PIECE])).await;
        }
    }
}
