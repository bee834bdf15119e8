//! The client's side of a SPDY/3.1 connection: it opens streams, whose numbers are odd, and takes none. The
//! rest is the server's code: frames, windows and bounds are the same both ways.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};

use super::headers::{Deflater, Headers};
use super::{Ends, Out, Stream, frame, take_over};

/// Room that is waited for before a stream is opened: its headers are smaller.
const HEADERS: usize = 1 << 10;

/// A connection on which streams are opened.
pub(crate) struct Opener {
    ends: Ends,
    /// All blocks of headers are one compressed text: whoever holds it sends what it made before another does.
    deflater: Mutex<Deflater>,
    next: AtomicU32,
}

/// Takes a connection over as SPDY's client. The future moves its bytes; when it completes, the connection
/// is closed and everything that was read of it ends.
///
/// # Errors
/// A dictionary that zlib does not take.
pub(crate) fn connect(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
) -> io::Result<(Opener, impl Future<Output = io::Result<()>> + Send)> {
    let (ends, moved) = take_over(io, None)?;
    let opener = Opener {
        ends,
        deflater: Mutex::new(Deflater::new()?),
        next: AtomicU32::new(1),
    };
    Ok((opener, moved))
}

impl Opener {
    /// Opens a stream with these headers, whose names must be in small letters (2.6.10). The server's answer is not waited for: if it refuses the stream,
    /// that ends.
    ///
    /// # Errors
    /// A connection that is closed.
    pub(crate) async fn open(&self, headers: &[(&str, &str)]) -> io::Result<Stream> {
        debug_assert!(headers.iter().all(|(name, _)| *name == name.to_lowercase()));
        let room = self.ends.sender.room(HEADERS).await?;
        let mut deflater = self.deflater.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.next.fetch_add(2, Ordering::Relaxed);
        let ends = &self.ends;
        ends.streams.last.store(id, Ordering::Relaxed);
        let block = deflater.block(headers)?;
        let stream = ends
            .streams
            .add(id, Headers::default(), true, &ends.sender, &ends.budget);
        ends.sender
            .send(Out::Frame(frame::syn_stream(id, &block), Some(room)))?;
        Ok(stream)
    }

    /// Closes the connection once all that was written is sent.
    pub(crate) fn finish(&self) {
        // A closed connection is finished.
        let _ = self.ends.sender.send(Out::End(frame::go_away(0)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::mutator;
    use crate::spdy::frame::ResetStatus;
    use crate::spdy::writer::Writer;

    /// A client with two streams, and a server that sends these bytes and leaves.
    async fn served(bytes: &[u8]) {
        let (ours, mut theirs) = duplex(4 << 10);
        let (opener, moved) = connect(ours).unwrap();
        let moved = tokio::spawn(moved);
        let mut streams = Vec::new();
        for kind in ["stdout", "error"] {
            streams.push(opener.open(&[("streamtype", kind)]).await.unwrap());
        }
        let (mut from, mut to) = tokio::io::split(&mut theirs);
        let sent = async {
            // A client that has had enough closes before.
            let _ = to.write_all(bytes).await;
            let _ = to.shutdown().await;
        };
        let read = async {
            let mut all = Vec::new();
            let _ = from.read_to_end(&mut all).await;
        };
        let used = async {
            let mut total = 0;
            for stream in &mut streams {
                while let Some(piece) = stream.inbox.read().await {
                    total += piece.len();
                }
            }
            opener.finish();
            total
        };
        let ((), (), total) = tokio::join!(sent, read, used);
        assert!(total <= bytes.len());
        let _ = moved.await.unwrap();
    }

    #[test]
    fn no_bytes_of_a_server_do_harm() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut writer = Writer::new().unwrap();
        let reply = Deflater::new().unwrap().block(&[("a", "b")]).unwrap();
        writer.raw(&frame::syn_reply(1, &reply));
        writer.data(1, false, b"hello");
        writer.raw(&frame::ping(2));
        writer.data(3, true, b"{}");
        writer.data(1, true, b"");
        let good = writer.take();
        writer.open(2, &[("streamtype", "data")]).unwrap();
        writer.data(9, false, &[7; 100]);
        writer.raw(&frame::reset(1, ResetStatus::Cancel));
        writer.raw(&frame::window_update(0, 1));
        writer.raw(&frame::go_away(0));
        let odd = writer.take();
        mutator::run(1_500, &[good.as_slice(), odd.as_slice()], |bytes| {
            let limit = Duration::from_secs(30);
            let ended = async { tokio::time::timeout(limit, served(bytes)).await };
            runtime
                .block_on(ended)
                .expect("a server's bytes held the client");
        });
    }
}
