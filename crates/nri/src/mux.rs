//! Several connections over one socket: each piece has the connection's number and its length as u32 in big
//! endian before it. Must never believe a length: memory is taken for bytes that have arrived.
//!
//! Plugins in Go read a piece with the buffer of their ttrpc, 4096 bytes, and lose the connection if it does
//! not fit; what is left of a message is read at once, however long. So a message goes out as the same two pieces
//! as theirs do.

use ttrpc::MAX_FRAME;

/// A header: number and length.
const HEADER: usize = 8;
/// The longest piece: a message with its own header.
const MAX_PIECE: usize = MAX_FRAME + 10;
/// What a plugin in Go reads ahead.
const READ_AHEAD: usize = 4096;

/// The connection on which a plugin is asked.
pub(crate) const PLUGIN: u32 = 1;
/// The connection on which a plugin asks.
pub(crate) const RUNTIME: u32 = 2;

/// A whole message, as it is to be written.
pub(crate) fn pieces(connection: u32, message: &[u8]) -> Vec<u8> {
    let (first, rest) = message.split_at(message.len().min(READ_AHEAD));
    let mut bytes = Vec::with_capacity(message.len() + 2 * HEADER);
    for piece in [first, rest] {
        if !piece.is_empty() {
            bytes.extend_from_slice(&connection.to_be_bytes());
            // A frame of ttrpc is much shorter than what a u32 holds.
            bytes.extend_from_slice(&(piece.len() as u32).to_be_bytes());
            bytes.extend_from_slice(piece);
        }
    }
    bytes
}

/// Takes a stream of pieces apart.
#[derive(Debug, Default)]
pub(crate) struct Split {
    header: Vec<u8>,
    connection: u32,
    left: usize,
}

impl Split {
    /// Hands on what is in `bytes`, by connection and in order.
    ///
    /// # Errors
    /// In words: a piece that is too long.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        mut to: impl FnMut(u32, &[u8]),
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let (header, rest) = bytes.split_at(bytes.len().min(HEADER - self.header.len()));
                self.header.extend_from_slice(header);
                bytes = rest;
                if let [a, b, c, d, e, f, g, h] = self.header[..] {
                    self.connection = u32::from_be_bytes([a, b, c, d]);
                    self.left = u32::from_be_bytes([e, f, g, h]) as usize;
                    self.header.clear();
                    if self.left > MAX_PIECE {
                        let length = self.left;
                        return Err(format!(
                            "a piece of {length} bytes is longer than {MAX_PIECE}"
                        ));
                    }
                }
                continue;
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(self.left));
            to(self.connection, piece);
            self.left -= piece.len();
            bytes = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(stream: &[u8], step: usize) -> Result<Vec<(u32, Vec<u8>)>, String> {
        let (mut split, mut all) = (Split::default(), Vec::<(u32, Vec<u8>)>::new());
        for bytes in stream.chunks(step) {
            split.take(bytes, |connection, bytes| match all.last_mut() {
                Some((last, whole)) if *last == connection => whole.extend_from_slice(bytes),
                _ => all.push((connection, bytes.to_vec())),
            })?;
        }
        Ok(all)
    }

    #[test]
    fn what_goes_in_comes_out_however_it_is_cut() {
        let long = vec![7; 3 * READ_AHEAD];
        let stream = [pieces(1, b"abc"), pieces(2, &long), pieces(1, b"d")].concat();
        let whole = vec![(1, b"abc".to_vec()), (2, long), (1, b"d".to_vec())];
        for step in [1, 3, 8, 4096, stream.len()] {
            assert_eq!(taken(&stream, step).unwrap(), whole, "{step}");
        }
    }

    #[test]
    fn a_message_fits_what_plugins_read_ahead() {
        let lengths = |length: usize| {
            let (bytes, mut lengths) = (pieces(1, &vec![0; length]), Vec::new());
            let mut rest = &bytes[..];
            while let Some(piece) = rest.get(4..8) {
                let piece = u32::from_be_bytes(piece.try_into().unwrap()) as usize;
                lengths.push(piece);
                rest = &rest[HEADER + piece..];
            }
            lengths
        };
        assert_eq!(lengths(10), [10]);
        assert_eq!(lengths(READ_AHEAD), [READ_AHEAD]);
        assert_eq!(lengths(READ_AHEAD + 1), [READ_AHEAD, 1]);
        assert_eq!(lengths(100_000), [READ_AHEAD, 100_000 - READ_AHEAD]);
    }

    #[test]
    fn a_length_past_the_limit_is_refused_before_its_bytes_come() {
        let header = [[0, 0, 0, 1], [0xff, 0, 0, 0]].concat();
        assert!(taken(&header, 3).unwrap_err().contains("longer than"));
    }
}
