//! Answers that a client does not take: over HTTP/2 it may leave one standing while the connection
//! lives on, and each holds memory and a file.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::places::{Busy, Occupant};
use crate::http::{Answer, Body};

/// The answers under way on one connection.
#[derive(Debug, Clone)]
pub(super) struct Flows {
    occupant: Arc<Occupant>,
    begun: Instant,
    under_way: Arc<Mutex<Vec<Weak<AtomicU64>>>>,
}

impl Flows {
    pub(super) fn new(occupant: Arc<Occupant>) -> Flows {
        Flows {
            occupant,
            begun: Instant::now(),
            under_way: Arc::default(),
        }
    }

    /// Watches an answer from now on.
    pub(super) fn track(&self, answer: Answer) -> Answer {
        if answer.body().is_end_stream() {
            return answer;
        }
        let taken = Arc::new(AtomicU64::new(self.now()));
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|answer| answer.strong_count() > 0);
        under_way.push(Arc::downgrade(&taken));
        let (begun, busy) = (self.begun, self.occupant.answering());
        answer.map(|inner| {
            let tracked = Tracked {
                inner,
                begun,
                taken,
                _busy: busy,
            };
            tracked.boxed_unsync()
        })
    }

    /// Completes when an answer has stood for longer than `idle`.
    pub(super) async fn stalled(&self, idle: Duration) {
        let longest = idle.as_millis() as u64;
        loop {
            tokio::time::sleep(idle).await;
            let now = self.now();
            let under_way = self
                .under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut taken = under_way.iter().filter_map(Weak::upgrade);
            if taken.any(|taken| now.saturating_sub(taken.load(Ordering::Relaxed)) > longest) {
                return;
            }
        }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}

/// A body that says when it was last asked for more.
struct Tracked {
    inner: Body,
    begun: Instant,
    taken: Arc<AtomicU64>,
    _busy: Busy,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let now = self.begun.elapsed().as_millis() as u64;
        self.taken.store(now, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
