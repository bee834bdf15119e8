//! A stream that fails when its client neither reads nor writes for a while.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::places::Occupant;

/// Silence in both directions for `idle` ends the stream; while `working` is not 0 only a client
/// that does not take what is sent is silent.
pub(super) struct Patience<S> {
    inner: S,
    idle: Duration,
    working: Arc<AtomicUsize>,
    occupant: Arc<Occupant>,
    until: Pin<Box<Sleep>>,
    /// Whether bytes are waiting for the client to take them.
    stuck: bool,
}

impl<S> Patience<S> {
    pub(super) fn new(
        inner: S,
        idle: Duration,
        working: Arc<AtomicUsize>,
        occupant: Arc<Occupant>,
    ) -> Patience<S> {
        Patience {
            inner,
            idle,
            working,
            occupant,
            until: Box::pin(tokio::time::sleep(idle)),
            stuck: false,
        }
    }

    /// Something went either way.
    fn renew(&mut self) {
        let until = Instant::now() + self.idle;
        self.until.as_mut().reset(until);
    }

    /// Waits on, or not.
    fn wait<T>(&mut self, context: &mut Context<'_>, excused: bool) -> Poll<io::Result<T>> {
        while self.until.as_mut().poll(context).is_ready() {
            if !excused {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.renew();
        }
        Poll::Pending
    }

    fn sent(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(length)) = &polled {
            self.occupant.moved(*length);
        }
        match polled {
            Poll::Pending => {
                if !std::mem::replace(&mut self.stuck, true) {
                    self.renew();
                }
                self.wait(context, false)
            }
            ready => {
                self.stuck = false;
                self.renew();
                ready
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if Pin::new(&mut self.inner)
            .poll_read(context, buffer)?
            .is_pending()
        {
            let excused = self.working.load(Ordering::Relaxed) > 0;
            return self.wait(context, excused);
        }
        self.occupant.moved(buffer.filled().len() - before);
        self.renew();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.sent(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.sent(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(context);
        match polled {
            Poll::Pending => self.wait(context, false),
            done => done,
        }
    }
}
