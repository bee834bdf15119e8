//! Packets of an attached connection: a kind, a length as u32 in little endian, the bytes. Used
//! by both sides. Client to supervisor: stdin, its end, the terminal's size; supervisor to
//! client: stdout, stderr, and the container's exit as the last packet.

use crate::error::{Error, Result};

/// The longest packet either side sends or accepts, in bytes of payload.
pub(crate) const MAX_PACKET: usize = 64 << 10;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 5;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes for the container's stdin.
    Stdin = 0,
    /// Bytes of its stdout.
    Stdout = 1,
    /// Bytes of its stderr.
    Stderr = 2,
    /// No more stdin will come.
    StdinEnd = 3,
    /// Rows and columns of the terminal, each u16 in little endian.
    Resize = 4,
    /// The container has ended: its state as JSON.
    Exit = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Stdin,
            Self::Stdout,
            Self::Stderr,
            Self::StdinEnd,
            Self::Resize,
            Self::Exit,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The bytes that go before a payload of that length.
pub(crate) fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    debug_assert!(length <= MAX_PACKET);
    // A payload is at most MAX_PACKET long, so the cast keeps its value.
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [kind as u8, a, b, c, d]
}

/// The first whole packet of `bytes`, if there is one: kind, payload, and the length of the whole.
///
/// # Errors
/// An unknown kind or a length past the limit.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Kind, &[u8], usize)>> {
    let Some([kind, a, b, c, d]) = bytes.first_chunk::<HEADER>().copied() else {
        return Ok(None);
    };
    let kind = Kind::from_byte(kind)
        .ok_or_else(|| Error::protocol(format!("packet of unknown kind {kind}")))?;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > MAX_PACKET {
        return Err(Error::protocol(format!(
            "a packet of {length} bytes is longer than {MAX_PACKET}"
        )));
    }
    Ok(bytes
        .get(HEADER..HEADER + length)
        .map(|payload| (kind, payload, HEADER + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_whole_or_not_there() {
        let bytes = [&header(Kind::Stderr, 3)[..], b"abc"].concat();
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]).unwrap(), None);
        }
        assert_eq!(parse(&bytes).unwrap(), Some((Kind::Stderr, &b"abc"[..], 8)));
    }

    #[test]
    fn unknown_kinds_and_long_packets_are_refused() {
        assert!(parse(&[9, 0, 0, 0, 0]).is_err());
        assert!(parse(&[0, 0, 0, 0, 1]).is_err());
    }
}
