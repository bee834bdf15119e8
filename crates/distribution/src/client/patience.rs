//! How long a registry may take: for the head of an answer, between the bytes of a body, for a body as a
//! whole, and for taking what it is sent.
//!
//! Whatever waits for a registry waits here, or for a connection (`connect_timeout`). Must never wait
//! without bound for one that answers nothing, or drop by drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use reqwest::{Body, Response};
use tokio::time::{Instant, timeout};

use super::ClientConfig;
use super::transport::chain;

/// The least that must come of a body in each `stall_timeout`, in bytes. Less would let a server keep us
/// busy for ever, byte by byte.
pub(super) const LEAST: u64 = 64 << 10;
/// Pieces in which a body is sent, so that its progress is seen.
const PIECE: usize = 64 << 10;

/// Why nothing more is waited for.
#[derive(Debug)]
pub(super) struct Broken {
    /// In words.
    pub(super) cause: String,
    /// It was too slow.
    pub(super) timed_out: bool,
}

/// How fast a body comes. What its reader does in between does not count.
pub(super) struct Pace {
    window: Duration,
    waited: Duration,
    came: u64,
}

impl Pace {
    pub(super) fn new(config: &ClientConfig) -> Pace {
        Pace {
            window: config.stall_timeout,
            waited: Duration::ZERO,
            came: 0,
        }
    }

    /// The next piece of a body, and nothing at its end.
    pub(super) async fn chunk(&mut self, response: &mut Response) -> Result<Option<Bytes>, Broken> {
        loop {
            let begun = Instant::now();
            let left = self.window.saturating_sub(self.waited);
            let chunk = timeout(left, response.chunk()).await;
            self.waited += begun.elapsed();
            match chunk {
                Ok(Ok(chunk)) => {
                    self.came += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    return Ok(chunk);
                }
                Ok(Err(error)) => {
                    return Err(Broken {
                        cause: chain(&error),
                        timed_out: false,
                    });
                }
                Err(_) if self.came >= LEAST => {
                    (self.waited, self.came) = (Duration::ZERO, 0);
                }
                Err(_) => return Err(self.too_slow()),
            }
        }
    }

    fn too_slow(&self) -> Broken {
        let window = self.window;
        Broken {
            cause: match self.came {
                0 => format!("nothing more came within {window:?}"),
                came => format!("it comes too slowly: {came} bytes within {window:?}"),
            },
            timed_out: true,
        }
    }
}

/// How much of a request's body was taken to be sent.
#[derive(Debug)]
pub(super) struct Sending {
    taken: Arc<AtomicU64>,
    size: u64,
}

impl Sending {
    /// Of a body of so many bytes.
    pub(super) fn new(size: u64) -> Sending {
        Sending {
            taken: Arc::default(),
            size,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The same bytes, watched.
    pub(super) fn bytes(&self, bytes: Bytes) -> Body {
        let pieces = stream::unfold(bytes, |mut rest| async move {
            let piece = rest.split_to(PIECE.min(rest.len()));
            (!piece.is_empty()).then_some((Ok(piece), rest))
        });
        self.stream(pieces.boxed())
    }

    /// The same content, watched.
    pub(super) fn stream(&self, content: BoxStream<'static, std::io::Result<Bytes>>) -> Body {
        let taken = Arc::clone(&self.taken);
        Body::wrap_stream(content.inspect(move |piece| {
            let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            taken.fetch_add(length, Ordering::Relaxed);
        }))
    }

    /// Waits for the answer to a request with a body: as long as the registry goes on taking it, and
    /// then for twice `stall_timeout`, as it may have to look at all of it.
    pub(super) async fn answer<T>(
        &self,
        config: &ClientConfig,
        sending: impl Future<Output = T>,
    ) -> Result<T, Broken> {
        let mut sending = std::pin::pin!(sending);
        loop {
            let before = self.taken.load(Ordering::Relaxed);
            let over = before >= self.size;
            let limit = match over {
                true => config.stall_timeout.saturating_mul(2),
                false => config.stall_timeout,
            };
            if let Ok(answer) = timeout(limit, &mut sending).await {
                return Ok(answer);
            }
            if self.taken.load(Ordering::Relaxed) == before {
                let cause = match over {
                    true => format!("no answer within {limit:?}"),
                    false => format!("it took nothing more within {limit:?}"),
                };
                return Err(Broken {
                    cause,
                    timed_out: true,
                });
            }
        }
    }
}

/// Waits for the head of an answer to a request without a body.
pub(super) async fn answer<T>(
    limit: Duration,
    sending: impl Future<Output = T>,
) -> Result<T, Broken> {
    timeout(limit, sending).await.map_err(|_| Broken {
        cause: format!("no answer within {limit:?}"),
        timed_out: true,
    })
}
