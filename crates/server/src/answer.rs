//! Answers in memory: as small as can be while a slow client takes them, and given back afterwards.
//!
//! - An answer is encoded at once, so that the engine's and the schema's types do not live until
//!   its client reads. A stream without an end ([`Endless`]) is encoded as its client reads.
//! - Long answers that are equal are one: many clients that list the same pods share it.
//! - When a long answer is gone, the allocator's free memory goes back to the kernel.
//!
//! What an answer holds besides its bytes (a [`Held`] of its response) is dropped with it.

use std::any::Any;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tonic::Status;

use crate::frame::Answer;

/// Answers from here on are shared, and their memory is given back.
const LONG: usize = 256 * 1024;
/// Pauses before memory is given back, and between two times.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// Something that lives as long as an answer does: an extension of its response.
#[derive(Clone)]
pub(crate) struct Held(#[expect(dead_code, reason = "kept, not used")] Arc<dyn Any + Send + Sync>);

impl Held {
    pub(crate) fn new(what: impl Any + Send + Sync) -> Self {
        Self(Arc::new(what))
    }
}

/// Something that lives until an answer is encoded: an extension of its response.
#[derive(Clone)]
pub(crate) struct Building(
    #[expect(dead_code, reason = "kept, not used")] Arc<dyn Any + Send + Sync>,
);

impl Building {
    pub(crate) fn new(what: impl Any + Send + Sync) -> Self {
        Self(Arc::new(what))
    }
}

/// Marks an answer as a stream that ends when its client or the server does: an extension of its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endless;

/// The long answers that are under way. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    long: Mutex<Vec<Bytes>>,
    gone: Notify,
}

impl Answers {
    /// Gives memory back, each time that a long answer is gone; for ever.
    pub(crate) async fn give_back(self) {
        loop {
            self.shared.gone.notified().await;
            // HTTP/2 lets go of an answer's bytes somewhat after its body, and a call whose client
            // has left ends when its work does.
            let mut pauses = PAUSES.into_iter();
            let mut pause = PAUSES[0];
            loop {
                pause = pauses.next().unwrap_or(pause);
                tokio::time::sleep(pause).await;
                let left = self.tidy();
                // Only its panic could fail.
                let _ = tokio::task::spawn_blocking(engine::trim_memory).await;
                if left == 0 && pauses.len() == 0 {
                    break;
                }
            }
        }
    }

    /// The same bytes, of an equal answer if there is one.
    fn share(&self, bytes: Bytes) -> Bytes {
        if bytes.len() < LONG {
            return bytes;
        }
        let mut long = self.lock();
        if let Some(equal) = long.iter().find(|other| **other == bytes) {
            return equal.clone();
        }
        long.push(bytes.clone());
        bytes
    }

    /// Forgets those that only this remembers; how many are left.
    fn tidy(&self) -> usize {
        let mut long = self.lock();
        long.retain(|bytes| !bytes.is_unique());
        long.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Bytes>> {
        let long = &self.shared.long;
        long.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer that is encoded before it is sent.
    pub(crate) async fn encoded(
        &self,
        answer: impl Future<Output = Result<Answer, Infallible>>,
    ) -> Result<Answer, Infallible> {
        let mut unanswered = Unanswered(Some(self.clone()));
        let answer = answer.await?;
        if answer.extensions().get::<Endless>().is_some() {
            unanswered.0 = None;
            return Ok(answer);
        }
        let (mut parts, body) = answer.into_parts();
        let held = parts.extensions.remove::<Held>();
        let building = parts.extensions.remove::<Building>();
        let mut whole = self.encode(body).await;
        whole._held = held;
        drop(building);
        unanswered.0 = None;
        Ok(Answer::from_parts(parts, tonic::body::Body::new(whole)))
    }

    /// The whole of an answer's body.
    async fn encode(&self, mut body: tonic::body::Body) -> Whole {
        let mut whole = Whole {
            frames: VecDeque::new(),
            answers: self.clone(),
            long: false,
            _held: None,
        };
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let frame = frame.map(|frame| frame.map_data(|bytes| self.share(bytes)));
            whole.long |= matches!(&frame, Ok(frame) if frame.data_ref().is_some_and(|data| data.len() >= LONG));
            let failed = frame.is_err();
            whole.frames.push_back(frame);
            if failed {
                break;
            }
        }
        whole
    }
}

/// A call that has no answer yet. Dropped so, its client has left, and what was made for it goes.
struct Unanswered(Option<Answers>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(answers) = &self.0 {
            answers.shared.gone.notify_one();
        }
    }
}

/// The frames of an answer that are not sent yet.
struct Whole {
    frames: VecDeque<Result<Frame<Bytes>, Status>>,
    answers: Answers,
    long: bool,
    _held: Option<Held>,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.get_mut().frames.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let data = self
            .frames
            .iter()
            .filter_map(|frame| frame.as_ref().ok()?.data_ref());
        SizeHint::with_exact(data.map(|data| data.len() as u64).sum())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if self.long {
            self.frames.clear();
            self.answers.shared.gone.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_long_answers_are_one_and_are_forgotten_with_the_last() {
        let answers = Answers::default();
        let long = || answers.share(Bytes::from(vec![7; LONG]));
        let (one, two) = (long(), long());
        assert_eq!(one.as_ptr(), two.as_ptr());
        let other = answers.share(Bytes::from(vec![8; LONG]));
        assert_ne!(one.as_ptr(), other.as_ptr());
        let short = answers.share(Bytes::from_static(b"short"));
        assert_eq!(answers.lock().len(), 2);
        drop((one, short, other));
        assert_eq!(answers.tidy(), 1);
        drop(two);
        assert_eq!(answers.tidy(), 0);
    }
}
