//! Ranges: of what is sent (RFC 9110, section 14) and of what comes in chunks (Distribution spec,
//! "Pushing a blob in chunks"). Numbers are checked before anything is computed with them.

use crate::error::{Error, Result};

/// The bytes `start..end` of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) fn length(self) -> u64 {
        self.end - self.start
    }
}

/// What a `Range` header asks for; `None` for all: also when it asks for several ranges or in other
/// units, which a server may ignore. Errors with `Range`.
pub(super) fn wanted(header: &str, size: u64) -> Result<Option<Span>> {
    let Some(range) = header.trim().strip_prefix("bytes=") else {
        return Ok(None);
    };
    let Some((first, last)) = range.split_once('-') else {
        return Ok(None);
    };
    let outside = Error::Range { size };
    match (number(first), number(last)) {
        (None, Some(suffix)) if first.trim().is_empty() => match (suffix, size) {
            (0, _) | (_, 0) => Err(outside),
            _ => Ok(Some(Span {
                start: size.saturating_sub(suffix),
                end: size,
            })),
        },
        (Some(start), _) if last.trim().is_empty() => match start < size {
            true => Ok(Some(Span { start, end: size })),
            false => Err(outside),
        },
        (Some(start), Some(last)) if start <= last => match start < size {
            true => Ok(Some(Span {
                start,
                end: last.saturating_add(1).min(size),
            })),
            false => Err(outside),
        },
        _ => Ok(None),
    }
}

/// What a chunk's `Content-Range` says: `FIRST-LAST`, and as some clients write it, with `bytes `
/// before and `/TOTAL` after.
pub(super) fn chunk(header: &str) -> Result<Span> {
    let bad = Error::UploadInvalid("Content-Range is not FIRST-LAST");
    let range = header.trim();
    let range = range.strip_prefix("bytes ").unwrap_or(range);
    let range = range.split_once('/').map_or(range, |(range, _)| range);
    match range
        .split_once('-')
        .map(|(first, last)| (number(first), number(last)))
    {
        Some((Some(start), Some(last))) if start <= last && last < u64::MAX => Ok(Span {
            start,
            end: last + 1,
        }),
        _ => Err(bad),
    }
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    // `+1` is no number here.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str, size: u64) -> Option<(u64, u64)> {
        wanted(header, size)
            .unwrap()
            .map(|span| (span.start, span.end))
    }

    #[test]
    fn one_range_is_cut_to_the_content() {
        assert_eq!(of("bytes=0-0", 10), Some((0, 1)));
        assert_eq!(of("bytes=3-", 10), Some((3, 10)));
        assert_eq!(of("bytes=3-99", 10), Some((3, 10)));
        assert_eq!(of("bytes=3-18446744073709551615", 10), Some((3, 10)));
        assert_eq!(of("bytes=-4", 10), Some((6, 10)));
        assert_eq!(of("bytes=-40", 10), Some((0, 10)));
    }

    #[test]
    fn what_is_no_single_range_of_bytes_asks_for_all() {
        for header in [
            "bytes=5-3",
            "bytes=0-1,3-4",
            "lines=1-2",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=99999999999999999999-",
            "",
            "bytes=--1",
        ] {
            assert_eq!(of(header, 10), None, "{header}");
        }
    }

    #[test]
    fn a_range_outside_the_content_is_an_error() {
        for (header, size) in [
            ("bytes=10-", 10),
            ("bytes=10-11", 10),
            ("bytes=-0", 10),
            ("bytes=-1", 0),
            ("bytes=0-", 0),
        ] {
            wanted(header, size).expect_err(header);
        }
    }

    #[test]
    fn a_chunks_range_is_read_as_clients_write_it() {
        let whole = Span { start: 0, end: 10 };
        assert_eq!(chunk("0-9").unwrap(), whole);
        assert_eq!(chunk("bytes 0-9/10").unwrap(), whole);
        assert_eq!(chunk("bytes 0-9/*").unwrap(), whole);
        for bad in [
            "",
            "9-0",
            "0-",
            "-9",
            "a-b",
            "0-18446744073709551615",
            "0-1-2",
        ] {
            chunk(bad).expect_err(bad);
        }
    }
}
