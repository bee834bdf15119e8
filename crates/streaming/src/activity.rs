//! Whether a connection is used: one that carries nothing for so long is closed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counts what a connection carries. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activity(Arc<AtomicU64>);

/// How often it is looked at within the limit.
const LOOKS: u32 = 8;

impl Activity {
    /// Completes when nothing was carried for `limit`, or an eighth of it longer.
    pub(crate) async fn idle(&self, limit: Duration) {
        let (mut seen, mut quiet) = (self.0.load(Ordering::Relaxed), 0);
        while quiet <= LOOKS {
            tokio::time::sleep(limit / LOOKS).await;
            let now = self.0.load(Ordering::Relaxed);
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(crate) struct Counted<I> {
    pub io: I,
    pub activity: Activity,
}

impl<I> Counted<I> {
    fn note<T>(&self, outcome: &Poll<io::Result<T>>) {
        if matches!(outcome, Poll::Ready(Ok(_))) {
            self.activity.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        self.note(&read);
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_connection_is_idle_once_nothing_was_carried_for_that_long() {
        let limit = Duration::from_millis(400);
        let activity = Activity::default();
        let (mut near, far) = tokio::io::duplex(64);
        let mut far = Counted {
            io: far,
            activity: activity.clone(),
        };
        let used = async {
            for _ in 0..20 {
                tokio::time::sleep(limit / 16).await;
                near.write_all(b"x").await.unwrap();
                far.read_u8().await.unwrap();
            }
        };
        let idle = activity.idle(limit);
        let mut idle = std::pin::pin!(idle);
        tokio::select! {
            () = &mut idle => panic!("idle while it was used"),
            () = used => {}
        }
        idle.await;
    }
}
