//! ttrpc's frames: a length and a stream's number as u32 in big endian, a kind, flags, then as many
//! bytes. Must never believe a length: memory is taken for bytes that have arrived, and a frame past
//! the protocol's limit is an error before its body is read.
//!
//! Protocol: <https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md>

use std::io::{ErrorKind, Read};

use prost::Message;

/// The longest body that the protocol allows, in bytes.
pub const MAX_FRAME: usize = 4 << 20;

const HEADER: usize = 10;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call.
    Request = 1,
    /// Its outcome.
    Response = 2,
}

/// A whole frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which call it belongs to; those of clients are odd.
    pub stream: u32,
    /// Call or outcome.
    pub kind: Kind,
    /// A [`crate::Request`] or [`crate::Response`].
    pub body: Vec<u8>,
}

/// A message as a frame.
///
/// # Errors
/// In words: it is too long.
pub fn encode(stream: u32, kind: Kind, message: &impl Message) -> Result<Vec<u8>, String> {
    let length = message.encoded_len();
    if length > MAX_FRAME {
        return Err(format!(
            "a message of {length} bytes is longer than {MAX_FRAME}"
        ));
    }
    let mut bytes = Vec::with_capacity(HEADER + length);
    // At most MAX_FRAME, so the cast keeps its value.
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind as u8, 0]);
    // A vector grows: there is always room.
    let _ = message.encode(&mut bytes);
    Ok(bytes)
}

/// What has arrived of a connection and is not yet used.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Reads what is there, at most 64 KiB. `Ok(0)` is the connection's end.
    ///
    /// # Errors
    /// As read(2); `WouldBlock` if there is nothing.
    pub fn receive(&mut self, mut socket: impl Read) -> std::io::Result<usize> {
        let mut buffer = [0; 64 << 10];
        loop {
            match socket.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.bytes.extend_from_slice(&buffer[..count]);
                    return Ok(count);
                }
            }
        }
    }

    /// Takes bytes that somebody else has read.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame whose body is at most `limit` bytes long; `None` if it has not arrived.
    ///
    /// # Errors
    /// In words: a frame that is too long or of a kind that nobody asked for.
    pub fn frame(&mut self, limit: usize) -> Result<Option<Frame>, String> {
        let Some([a, b, c, d, e, f, g, h, kind, _]) = self.bytes.first_chunk::<HEADER>().copied()
        else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > limit {
            return Err(format!("a frame of {length} bytes is longer than {limit}"));
        }
        let kind = match kind {
            1 => Kind::Request,
            2 => Kind::Response,
            other => return Err(format!("a frame of kind {other} was not asked for")),
        };
        let Some(body) = self.bytes.get(HEADER..HEADER + length) else {
            return Ok(None);
        };
        let frame = Frame {
            stream: u32::from_be_bytes([e, f, g, h]),
            kind,
            body: body.to_vec(),
        };
        self.bytes.drain(..HEADER + length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Response;

    fn whole() -> Vec<u8> {
        let answer = Response {
            status: None,
            payload: b"abc".to_vec(),
        };
        encode(7, Kind::Response, &answer).unwrap()
    }

    #[test]
    fn a_frame_is_whole_or_not_there() {
        let bytes = whole();
        for cut in 0..bytes.len() {
            let mut inbox = Inbox::default();
            inbox.add(&bytes[..cut]);
            assert_eq!(inbox.frame(MAX_FRAME).unwrap(), None);
        }
        let mut inbox = Inbox::default();
        inbox.add(&[whole(), whole()].concat());
        for _ in 0..2 {
            let frame = inbox.frame(MAX_FRAME).unwrap().unwrap();
            assert_eq!((frame.stream, frame.kind), (7, Kind::Response));
            let answer = Response::decode(&frame.body[..]).unwrap();
            assert_eq!(answer.payload, b"abc");
        }
        assert_eq!(inbox.frame(MAX_FRAME).unwrap(), None);
    }

    #[test]
    fn a_length_past_the_limit_is_refused_before_the_body_comes() {
        let mut inbox = Inbox::default();
        inbox.add(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 2, 0]);
        let error = inbox.frame(MAX_FRAME).unwrap_err();
        assert!(error.contains("longer than"), "{error}");
    }

    #[test]
    fn a_kind_that_nobody_asked_for_is_refused() {
        let mut inbox = Inbox::default();
        inbox.add(&[0, 0, 0, 0, 0, 0, 0, 1, 3, 0]);
        assert!(inbox.frame(MAX_FRAME).is_err());
    }
}
