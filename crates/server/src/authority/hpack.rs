//! The one field of a header block (RFC 7541, section 6) that some clients send in a form which h2
//! refuses: `:authority`. It is replaced by a text of the same length, which costs the same in the
//! compression's table (section 4.1), so that both sides go on with the same table and nothing has
//! to be coded anew. Everything else of the block, and a block that cannot be read, stays as it is.

use tonic::codegen::http::uri::Authority;

use super::huffman;

/// The name's number in the static table (appendix A).
const AUTHORITY: usize = 1;

/// The block with an authority that h2 accepts; `None` if it has one, or none at all.
pub(super) fn repaired(block: &[u8]) -> Option<Vec<u8>> {
    let mut rest = block;
    while let Some(first) = rest.first().copied() {
        let bits = match first {
            // An indexed field, or the size of the table.
            0x80.. => {
                integer(&mut rest, 7)?;
                continue;
            }
            0x20..=0x3f => {
                integer(&mut rest, 5)?;
                continue;
            }
            // A literal, with and without a place in the table.
            0x40..=0x7f => 6,
            0x00..=0x1f => 4,
        };
        let is_authority = match integer(&mut rest, bits)? {
            0 => string(&mut rest)?.text()?.as_slice() == b":authority",
            number => number == AUTHORITY,
        };
        let before = block.len() - rest.len();
        let value = string(&mut rest)?;
        if !is_authority {
            continue;
        }
        let text = value.text()?;
        if text.is_empty() || Authority::try_from(text.as_slice()).is_ok() {
            return None;
        }
        let mut whole = block[..before].to_vec();
        push_plain(&mut whole, text.len());
        whole.extend_from_slice(rest);
        return Some(whole);
    }
    None
}

/// A string of that many letters, which is a host's name as any other.
fn push_plain(to: &mut Vec<u8>, length: usize) {
    match u8::try_from(length).ok().filter(|length| *length < 127) {
        Some(length) => to.push(length),
        None => {
            to.push(127);
            let mut left = length - 127;
            while left >= 128 {
                to.push((left % 128) as u8 | 128);
                left /= 128;
            }
            to.push(left as u8);
        }
    }
    to.extend(std::iter::repeat_n(b'a', length));
}

struct Text<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    fn text(&self) -> Option<Vec<u8>> {
        match self.huffman {
            true => huffman::decode(self.bytes),
            false => Some(self.bytes.to_vec()),
        }
    }
}

/// Takes an integer of which the first byte has `bits` (section 5.1).
fn integer(rest: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, mut bytes) = rest.split_first()?;
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        // More than three further bytes would be longer than any block.
        for shift in [0, 7, 14] {
            let (byte, after) = bytes.split_first()?;
            bytes = after;
            value += usize::from(byte & 127) << shift;
            if byte & 128 == 0 {
                *rest = bytes;
                return Some(value);
            }
        }
        return None;
    }
    *rest = bytes;
    Some(value)
}

/// Takes a string (section 5.2).
fn string<'a>(rest: &mut &'a [u8]) -> Option<Text<'a>> {
    let huffman = rest.first()? & 128 != 0;
    let length = integer(rest, 7)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Text { huffman, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// POST, http, the path, the authority as given, and a header.
    fn block(authority: &[u8]) -> Vec<u8> {
        let mut all = vec![0x83, 0x86, 0x04, 0x02];
        all.extend(b"/x");
        all.extend(authority);
        all.extend([0x00, 0x02]);
        all.extend(b"te");
        all.push(8);
        all.extend(b"trailers");
        all
    }

    fn plain(first: &[u8], text: &str) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        [first, &[length], text.as_bytes()].concat()
    }

    #[test]
    fn a_path_as_authority_becomes_a_host_of_the_same_length() {
        let same = "a".repeat("run%2Ffloe.sock".len());
        // With a place in the table, without, and never; the name by its number and in full.
        for first in [&[0x41][..], &[0x01], &[0x11], b"\x40\x0a:authority"] {
            let bad = block(&plain(first, "run%2Ffloe.sock"));
            let good = block(&plain(first, &same));
            assert_eq!(repaired(&bad), Some(good));
        }
        // "/a" by the Huffman code.
        let bad = block(&[0x41, 0x82, 0x60, 0x7f]);
        assert_eq!(repaired(&bad), Some(block(&plain(&[0x41], "aa"))));
    }

    #[test]
    fn long_authorities_have_long_lengths() {
        let long = "/".repeat(300);
        let mut bad = vec![0x41, 127, 0xad, 0x01];
        bad.extend(long.as_bytes());
        let mut good = vec![0x41, 127, 0xad, 0x01];
        good.extend(std::iter::repeat_n(b'a', 300));
        assert_eq!(repaired(&block(&bad)), Some(block(&good)));
    }

    #[test]
    fn what_h2_accepts_stays_as_it_is() {
        for good in ["localhost", "[::1]:80", "a.b:1", "-", "x_y"] {
            assert_eq!(repaired(&block(&plain(&[0x41], good))), None, "{good}");
        }
        // An entry of the table, an empty text, none at all.
        assert_eq!(repaired(&block(&[0xc0])), None);
        assert_eq!(repaired(&block(&plain(&[0x41], ""))), None);
        assert_eq!(repaired(&block(&[])), None);
    }

    #[test]
    fn a_block_that_is_cut_or_senseless_is_left_alone() {
        let bad = block(&plain(&[0x41], "/run/floe.sock"));
        for cut in 0..bad.len() {
            if let Some(repaired) = repaired(&bad[..cut]) {
                assert_eq!(repaired.len(), cut);
            }
        }
        assert_eq!(repaired(&[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x01]), None);
        assert_eq!(repaired(&[0xff; 40]), None);
        assert_eq!(repaired(&[0x00; 40]), None);
    }
}
