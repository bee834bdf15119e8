//! Any `:authority` is accepted. It has no meaning on a unix socket, and clients that are not
//! written in Go send the socket's path, raw or percent-encoded (grpc-core and so Python, C++ and
//! Ruby; Java; Swift). h2 answers that by PROTOCOL_ERROR, and has no setting for it. So this stands
//! between socket and h2, looks into the HEADERS frames that come (RFC 9113, section 6.2), and
//! replaces an authority that h2 would refuse (`hpack.rs`). Must never change anything else, nor
//! hold more than one frame.

mod hpack;
mod huffman;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// What a client begins with (RFC 9113, section 3.4).
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Bytes before a frame's payload.
const HEADER: usize = 9;
/// The longest frame that this side allows, as nothing else is configured.
const LONGEST: usize = 16 * 1024;
/// HEADERS, and its flags.
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// How much is read at once.
const READ: usize = 16 * 1024;

/// A connection on which any authority is accepted.
#[derive(Debug)]
pub(crate) struct AnyAuthority<S> {
    stream: S,
    frames: Frames,
    /// Read and not yet taken.
    ready: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl<S> AnyAuthority<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            ready: Vec::new(),
            taken: 0,
            ended: false,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.taken == this.ready.len() && !this.ended {
            this.ready.clear();
            this.taken = 0;
            let mut space = [0; READ];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            match read.filled() {
                [] => {
                    this.ended = true;
                    // A frame that is cut is h2's to judge.
                    this.ready.append(&mut this.frames.held);
                }
                bytes => this.frames.take(bytes, &mut this.ready),
            }
        }
        let rest = &this.ready[this.taken..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        this.taken += count;
        if this.taken == this.ready.len() {
            // Memory of a connection that is quiet is given back.
            (this.ready, this.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

/// Where in the client's bytes we are.
#[derive(Debug)]
struct Frames {
    /// Bytes that go through as they are.
    through: usize,
    /// The beginning of a frame: its header, and all of a HEADERS frame.
    held: Vec<u8>,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            through: PREFACE,
            held: Vec::new(),
        }
    }
}

impl Frames {
    /// Takes what was read, and adds to `ready` what h2 may see.
    fn take(&mut self, mut bytes: &[u8], ready: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.through > 0 {
                let (now, later) = bytes.split_at(self.through.min(bytes.len()));
                ready.extend_from_slice(now);
                self.through -= now.len();
                bytes = later;
                continue;
            }
            let missing = self.whole() - self.held.len();
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.held.extend_from_slice(now);
            bytes = later;
            if self.held.len() == self.whole() {
                self.release(ready);
            }
        }
    }

    /// How much is to be held before it can be let go.
    fn whole(&self) -> usize {
        match frame(&self.held) {
            Some((HEADERS, length)) if length <= LONGEST => HEADER + length,
            _ => HEADER,
        }
    }

    fn release(&mut self, ready: &mut Vec<u8>) {
        if let Some((kind, length)) = frame(&self.held)
            && self.held.len() < HEADER + length
        {
            debug_assert!(kind != HEADERS || length > LONGEST);
            self.through = length;
        }
        match repaired(&self.held) {
            Some(frame) => ready.extend_from_slice(&frame),
            None => ready.extend_from_slice(&self.held),
        }
        self.held.clear();
    }
}

/// Kind and length of the payload of the frame that begins here, once its header is whole.
fn frame(bytes: &[u8]) -> Option<(u8, usize)> {
    let [a, b, c, kind] = *bytes.first_chunk::<HEADER>()?.first_chunk::<4>()?;
    let length = u32::from_be_bytes([0, a, b, c]);
    Some((kind, length as usize))
}

/// A HEADERS frame with another authority; `None` if there is nothing to repair.
fn repaired(bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = bytes.split_at_checked(HEADER)?;
    if frame(bytes)? != (HEADERS, payload.len()) {
        return None;
    }
    let flags = header[4];
    let (mut before, mut after) = (0, 0);
    if flags & PADDED != 0 {
        before += 1;
        after = usize::from(*payload.first()?);
    }
    if flags & PRIORITY != 0 {
        before += 5;
    }
    let end = payload.len().checked_sub(after)?;
    let block = hpack::repaired(payload.get(before..end)?)?;
    let length = before + block.len() + after;
    if length > LONGEST {
        return None;
    }
    let [_, a, b, c] = u32::try_from(length).ok()?.to_be_bytes();
    let mut whole = vec![a, b, c];
    whole.extend_from_slice(&header[3..]);
    whole.extend_from_slice(&payload[..before]);
    whole.extend_from_slice(&block);
    whole.extend_from_slice(&payload[end..]);
    Some(whole)
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: Connected> Connected for AnyAuthority<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests;
