//! SPDY/3.1's frames: what is read of a peer is bounded and checked here, before anything is kept.
//! Specification: <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>, 2.2 and 2.6.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A number of a stream, 31 bits.
pub(crate) type StreamId = u32;

/// The largest control frame that is taken: the headers of Kubernetes' streams have 200 bytes.
const CONTROL: usize = 16 << 10;

/// The version in control frames: SPDY/3.1 differs from 3 by its session window alone.
const VERSION: u16 = 3;

const FIN: u8 = 1;

/// Why a stream is reset (2.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ResetStatus {
    ProtocolError = 1,
    InvalidStream = 2,
    RefusedStream = 3,
    Cancel = 5,
}

/// What was read. Data frames come as their heads: their content is read piece by piece, so that no
/// peer decides how much memory one takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    SynStream {
        id: StreamId,
        fin: bool,
        headers: Bytes,
    },
    /// Headers of a stream that is open, or an answer to one that was never opened here: the block has
    /// to be read, as blocks share one compression.
    Headers {
        id: StreamId,
        fin: bool,
        headers: Bytes,
    },
    Reset {
        id: StreamId,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// SETTINGS and WINDOW_UPDATE: nothing here depends on them.
    Ignored,
    Data {
        id: StreamId,
        fin: bool,
        length: usize,
    },
}

/// What a peer sent that no SPDY is.
fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads the next frame, of a data frame its head; `None` at the end.
///
/// # Errors
/// What is no frame, or one that is too large, which is the end of the connection.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut head = [0_u8; 8];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await?;
    let [a, b, c, d, flags, x, y, z] = head;
    let length = u32::from_be_bytes([0, x, y, z]) as usize;
    if a & 0x80 == 0 {
        return Ok(Some(Frame::Data {
            id: u32::from_be_bytes([a, b, c, d]),
            fin: flags & FIN != 0,
            length,
        }));
    }
    let version = u16::from_be_bytes([a & 0x7f, b]);
    if version != VERSION {
        return Err(bad(format!("version {version} of SPDY")));
    }
    if length > CONTROL {
        return Err(bad(format!("a control frame of {length} bytes")));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    control(u16::from_be_bytes([c, d]), flags, body.into()).map(Some)
}

fn control(kind: u16, flags: u8, mut body: Bytes) -> io::Result<Frame> {
    let fin = flags & FIN != 0;
    let number = |at: usize| -> io::Result<u32> {
        let bytes = body.get(at..at + 4).ok_or_else(|| bad("a short frame"))?;
        Ok(bytes
            .iter()
            .fold(0, |sum, &byte| sum << 8 | u32::from(byte)))
    };
    let id = |at| number(at).map(|number| number & 0x7fff_ffff);
    Ok(match kind {
        1 => {
            let id = id(0)?;
            // Associated stream, priority and slot say nothing here.
            if body.len() < 10 {
                return Err(bad("a short SYN_STREAM"));
            }
            let headers = body.split_off(10);
            Frame::SynStream { id, fin, headers }
        }
        2 | 8 => {
            let id = id(0)?;
            let headers = body.split_off(4);
            Frame::Headers { id, fin, headers }
        }
        3 => Frame::Reset { id: id(0)? },
        4 | 9 => Frame::Ignored,
        6 => Frame::Ping { id: number(0)? },
        7 => Frame::GoAway,
        // An unknown control frame has to be ignored (2.2.1).
        _ => Frame::Ignored,
    })
}

fn head(kind: u16, flags: u8, length: usize, more: usize) -> BytesMut {
    let mut frame = BytesMut::with_capacity(8 + length + more);
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u8(flags);
    frame.put_uint(length as u64, 3);
    frame
}

/// A new stream with these headers: their compressed block is given.
pub(crate) fn syn_stream(id: StreamId, headers: &[u8]) -> Bytes {
    let mut frame = head(1, 0, 10 + headers.len(), 0);
    frame.put_u32(id);
    // No associated stream, the highest priority, no slot.
    frame.put_slice(&[0; 6]);
    frame.put_slice(headers);
    frame.freeze()
}

/// A reply to a stream that is taken, without headers: their compressed block is given.
pub(crate) fn syn_reply(id: StreamId, headers: &[u8]) -> Bytes {
    let mut frame = head(2, 0, 4 + headers.len(), 0);
    frame.put_u32(id);
    frame.put_slice(headers);
    frame.freeze()
}

/// The abnormal end of a stream.
pub(crate) fn reset(id: StreamId, status: ResetStatus) -> Bytes {
    let mut frame = head(3, 0, 8, 0);
    frame.put_u32(id);
    frame.put_u32(status as u32);
    frame.freeze()
}

/// The answer to a ping.
pub(crate) fn ping(id: u32) -> Bytes {
    let mut frame = head(6, 0, 4, 0);
    frame.put_u32(id);
    frame.freeze()
}

/// The end of the session in good order.
pub(crate) fn go_away(last: StreamId) -> Bytes {
    let mut frame = head(7, 0, 8, 0);
    frame.put_u32(last);
    frame.put_u32(0);
    frame.freeze()
}

/// Room for so many bytes more of a stream, or of the session for number 0 (2.6.8).
pub(crate) fn window_update(id: StreamId, bytes: u32) -> Bytes {
    let mut frame = head(9, 0, 8, 0);
    frame.put_u32(id);
    frame.put_u32(bytes & 0x7fff_ffff);
    frame.freeze()
}

/// The head of a data frame.
pub(crate) fn data(id: StreamId, fin: bool, length: usize) -> [u8; 8] {
    let [a, b, c, d] = id.to_be_bytes();
    let [_, x, y, z] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, if fin { FIN } else { 0 }, x, y, z]
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn first(mut bytes: &[u8]) -> io::Result<Option<Frame>> {
        read(&mut bytes).await
    }

    #[tokio::test]
    async fn frames_are_what_the_specification_draws() {
        assert_eq!(
            &syn_reply(1, b"zz")[..],
            b"\x80\x03\0\x02\0\0\0\x06\0\0\0\x01zz"
        );
        let reset = reset(5, ResetStatus::RefusedStream);
        assert_eq!(&reset[..], b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x05\0\0\0\x03");
        assert_eq!(&ping(9)[..], b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x09");
        assert_eq!(
            &go_away(3)[..],
            b"\x80\x03\0\x07\0\0\0\x08\0\0\0\x03\0\0\0\0"
        );
        let more = window_update(0, 70_000);
        assert_eq!(&more[..], b"\x80\x03\0\x09\0\0\0\x08\0\0\0\0\0\x01\x11\x70");
        assert_eq!(&data(7, true, 258)[..], b"\0\0\0\x07\x01\0\x01\x02");
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        assert_eq!(first(b"").await.unwrap(), None);
        assert_eq!(first(&ping(4)).await.unwrap(), Some(Frame::Ping { id: 4 }));
        assert_eq!(first(&go_away(0)).await.unwrap(), Some(Frame::GoAway));
        let read = first(&window_update(1, 1)).await.unwrap();
        assert_eq!(read, Some(Frame::Ignored));
        let read = first(&data(9, false, 0xff_ffff)).await.unwrap();
        let expected = Frame::Data {
            id: 9,
            fin: false,
            length: 0xff_ffff,
        };
        assert_eq!(read, Some(expected));
        let syn = b"\x80\x03\0\x01\x01\0\0\x0b\x80\0\0\x03\0\0\0\0\0\0h";
        let expected = Frame::SynStream {
            id: 3,
            fin: true,
            headers: Bytes::from_static(b"h"),
        };
        assert_eq!(first(syn).await.unwrap(), Some(expected));
    }

    #[tokio::test]
    async fn what_is_no_spdy_is_refused_before_it_is_kept() {
        for (bytes, why) in [
            (&b"\x80\x02\0\x01\0\0\0\0"[..], "version 2"),
            (
                b"\x80\x03\0\x01\0\xff\xff\xff",
                "a control frame of 16777215",
            ),
            (b"\x80\x03\0\x01\0\0\0\x04\0\0\0\x01", "a short SYN_STREAM"),
            (b"\x80\x03\0\x03\0\0\0\x02\0\0", "a short frame"),
        ] {
            let error = first(bytes).await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        let cut = first(b"\x80\x03\0").await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
