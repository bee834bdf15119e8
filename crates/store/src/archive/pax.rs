//! PAX records (POSIX.1-2017 pax, "pax Extended Header") and GNU's and star's keys among them.
//!
//! Must never ignore a malformed record: what follows it would be read wrongly.

use super::TarFlaw;
use super::sparse::{Extent, PaxSparse};

/// The records that an entry's metadata is made from; all others are ignored.
#[derive(Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Pax {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Pax, TarFlaw> {
        let mut pax = Pax::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(TarFlaw::Pax)?;
            pax.set(key, value).ok_or(TarFlaw::Pax)?;
            bytes = rest;
        }
        pax.sparse.finish().ok_or(TarFlaw::Sparse)?;
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        // An empty value means: as in the header.
        let given = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = given.map(name).transpose_none()?,
            b"linkpath" => self.link = given.map(name).transpose_none()?,
            b"uid" => self.uid = given.map(identity).transpose_none()?,
            b"gid" => self.gid = given.map(identity).transpose_none()?,
            b"size" => self.size = given.map(decimal).transpose_none()?,
            b"mtime" => self.mtime = given.map(time).transpose_none()?,
            b"GNU.sparse.name" => self.sparse.name = given.map(name).transpose_none()?,
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(decimal(value)?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.size = Some(decimal(value)?),
            b"GNU.sparse.map" => self.sparse.map = Some(map(value)?),
            b"GNU.sparse.offset" => self.sparse.offset(decimal(value)?)?,
            b"GNU.sparse.numbytes" => self.sparse.length(decimal(value)?)?,
            _ => self.xattr(key, value)?,
        }
        Some(())
    }

    fn xattr(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() || name.contains(&0) {
                return None;
            }
            self.xattrs.push((name.to_vec(), value.to_vec()));
        }
        Some(())
    }
}

/// `Option<Option<T>>` of a value that may be absent, but not malformed.
trait TransposeNone<T> {
    fn transpose_none(self) -> Option<Option<T>>;
}

impl<T> TransposeNone<T> for Option<Option<T>> {
    fn transpose_none(self) -> Option<Option<T>> {
        match self {
            Some(Some(value)) => Some(Some(value)),
            Some(None) => None,
            None => Some(None),
        }
    }
}

/// Splits off one record, `LENGTH KEY=VALUE\n`: key, value, rest.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(12).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    if length > bytes.len() || length < space + 3 {
        return None;
    }
    let (record, rest) = bytes.split_at(length);
    let (body, end) = record[space + 1..].split_at(length - space - 2);
    let equals = body.iter().position(|byte| *byte == b'=')?;
    (end == b"\n" && equals > 0).then_some((&body[..equals], &body[equals + 1..], rest))
}

fn name(value: &[u8]) -> Option<Vec<u8>> {
    (!value.contains(&0)).then(|| value.to_vec())
}

pub(super) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn identity(value: &[u8]) -> Option<u32> {
    u32::try_from(decimal(value)?)
        .ok()
        .filter(|id| *id != u32::MAX)
}

/// Seconds with a fraction, possibly negative, as `-1.5`.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let dot = value.iter().position(|byte| *byte == b'.');
    let (seconds, fraction) = match dot {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(seconds)?).ok()?;
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = digits.fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    match (negative, nanos) {
        (false, nanos) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, nanos) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

/// `OFFSET,LENGTH,OFFSET,LENGTH…` (GNU sparse format 0.1).
fn map(value: &[u8]) -> Option<Vec<Extent>> {
    let mut numbers = value.split(|byte| *byte == b',').map(decimal);
    let mut extents = Vec::new();
    while let Some(offset) = numbers.next() {
        extents.push(Extent {
            offset: offset?,
            length: numbers.next()??,
        });
    }
    Some(extents)
}
