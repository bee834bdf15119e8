//! The Huffman code of HPACK (RFC 7541, section 5.2 and appendix B), for reading short texts. The
//! code is canonical: the lengths of its words, in the order of the octets, say all of it.

use std::sync::OnceLock;

/// How many bits the word of each octet has.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
/// The end-of-string word has as many bits as the longest others, and comes last.
const LONGEST: usize = 30;

struct Code {
    /// Octets in the order of their words.
    octets: Vec<u8>,
    /// Of each length: the first word, how many there are, and where the first one's octet is.
    first: [(u32, u32, usize); LONGEST + 1],
}

fn code() -> &'static Code {
    static CODE: OnceLock<Code> = OnceLock::new();
    CODE.get_or_init(|| {
        let mut octets: Vec<u8> = (0..=255).collect();
        octets.sort_by_key(|octet| (LENGTHS[usize::from(*octet)], *octet));
        let mut first = [(0, 0, 0); LONGEST + 1];
        let (mut word, mut place) = (0_u32, 0);
        for (length, entry) in first.iter_mut().enumerate().skip(1) {
            word <<= 1;
            let of_length = |octet: &&u8| usize::from(LENGTHS[usize::from(**octet)]) == length;
            let count = octets.iter().filter(of_length).count();
            *entry = (word, count as u32, place);
            word += count as u32;
            place += count;
        }
        Code { octets, first }
    })
}

/// The text; `None` if `bytes` are no such text.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let code = code();
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut word, mut length) = (0_u32, 0);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1))
    {
        word = word << 1 | u32::from(bit);
        length += 1;
        let (first, count, place) = *code.first.get(length)?;
        if let Some(number) = word.checked_sub(first).filter(|number| *number < count) {
            text.push(*code.octets.get(place + number as usize)?);
            (word, length) = (0, 0);
        }
    }
    // What is left is padding: the beginning of the end-of-string word, all ones.
    (length < 8 && word == (1 << length) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text
            .chars()
            .filter_map(|digit| digit.to_digit(16))
            .collect();
        digits
            .chunks(2)
            .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
            .collect()
    }

    #[test]
    fn the_examples_of_rfc_7541_are_understood() {
        for (coded, text) in [
            ("f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"),
            ("a8eb 1064 9cbf", "no-cache"),
            ("25a8 49e9 5bb8 e8b4 bf", "custom-value"),
            ("6402", "302"),
            ("aec3 771a 4b", "private"),
            (
                "d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            ("", ""),
        ] {
            assert_eq!(decode(&hex(coded)).as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        // Padding that is too long, that is not all ones, and the end-of-string word itself.
        for bad in ["ff", "1f00", "ffff ffff"] {
            assert_eq!(decode(&hex(bad)), None, "{bad}");
        }
    }
}
