//! Writing tar archives: POSIX.1-2017 pax, as the OCI image-spec asks for (layer.md, "Creating").
//!
//! The same entries always give the same bytes. Sparse files are written whole, as that chapter asks: not every
//! reader knows their formats.

use std::io::{self, Write};

use super::header::BLOCK;
use super::{EXTENSION, Entry, Kind};

/// The largest numbers of the fields of 8 and of 12 bytes.
const OCTAL_7: u64 = 0o7_777_777;
const OCTAL_11: u64 = 0o77_777_777_777;

/// Why an entry has no form in an archive.
#[derive(Debug)]
pub(crate) enum Unwritable {
    /// The attribute's name holds a `=`, which ends names in pax records.
    Xattr(Vec<u8>),
    /// Its pax header would be longer than readers take.
    Extension,
    /// The other end failed.
    Write(io::Error),
}

impl From<io::Error> for Unwritable {
    fn from(error: io::Error) -> Unwritable {
        Unwritable::Write(error)
    }
}

/// An archive on its way to `out`.
pub(crate) struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Writer<W> {
        Writer { out }
    }

    /// Begins an entry. Exactly [`Entry::size`] bytes of [`data`](Self::data) follow, then
    /// [`end`](Self::end).
    pub(crate) fn begin(&mut self, entry: &Entry) -> Result<(), Unwritable> {
        let records = records(entry)?;
        if !records.is_empty() {
            if records.len() as u64 > EXTENSION {
                return Err(Unwritable::Extension);
            }
            let mut name = b"PaxHeaders/".to_vec();
            name.extend_from_slice(last_of(&entry.path));
            let size = records.len() as u64;
            self.out.write_all(&header(b'x', &name, size, entry))?;
            self.out.write_all(&records)?;
            self.end(size)?;
        }
        let flag = flag(entry.kind);
        self.out
            .write_all(&header(flag, &entry.path, entry.size, entry))?;
        Ok(())
    }

    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Fills up the last block of an entry of that size.
    pub(crate) fn end(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        match over {
            0 => Ok(()),
            over => self.out.write_all(&[0; BLOCK][over..]),
        }
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()
    }
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharacterDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Other(flag) => flag,
    }
}

fn last_of(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// A header block. What does not fit is cut: a pax record says it in full.
fn header(flag: u8, path: &[u8], size: u64, entry: &Entry) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &path[..path.len().min(100)]);
    put(100, &octal_7(entry.mode.into()));
    put(108, &octal_7(entry.uid.into()));
    put(116, &octal_7(entry.gid.into()));
    put(124, &octal_11(size));
    put(136, &octal_11(u64::try_from(entry.mtime.0).unwrap_or(0)));
    put(156, &[flag]);
    if flag != b'x' {
        put(157, &entry.link[..entry.link.len().min(100)]);
    }
    put(257, b"ustar\x0000");
    put(329, &octal_7(entry.device.0.into()));
    put(337, &octal_7(entry.device.1.into()));
    put(148, b"        ");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn octal_7(value: u64) -> [u8; 8] {
    let mut field = [0; 8];
    field[..7].copy_from_slice(format!("{:07o}", value.min(OCTAL_7)).as_bytes());
    field
}

fn octal_11(value: u64) -> [u8; 12] {
    let mut field = [0; 12];
    field[..11].copy_from_slice(format!("{:011o}", value.min(OCTAL_11)).as_bytes());
    field
}

/// What the header block has no room for, sorted by keyword.
fn records(entry: &Entry) -> Result<Vec<u8>, Unwritable> {
    let mut all: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &[u8], value: Vec<u8>| all.push((key.to_vec(), value));
    for (key, text) in [(&b"path"[..], &entry.path), (b"linkpath", &entry.link)] {
        if text.len() > 100 || !text.is_ascii() {
            add(key, text.clone());
        }
    }
    for (key, value, most) in [
        (&b"uid"[..], u64::from(entry.uid), OCTAL_7),
        (b"gid", u64::from(entry.gid), OCTAL_7),
        (b"size", entry.size, OCTAL_11),
    ] {
        if value > most {
            add(key, value.to_string().into_bytes());
        }
    }
    let (seconds, nanos) = entry.mtime;
    if nanos > 0 || !u64::try_from(seconds).is_ok_and(|seconds| seconds <= OCTAL_11) {
        add(b"mtime", time(seconds, nanos).into_bytes());
    }
    for (name, value) in &entry.xattrs {
        if name.contains(&b'=') {
            return Err(Unwritable::Xattr(name.clone()));
        }
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value.clone());
    }
    all.sort();
    let mut records = Vec::new();
    for (key, value) in all {
        record(&key, &value, &mut records);
    }
    Ok(records)
}

/// Seconds with their fraction, without zeros at the end. Time before 1970 is one negative number.
fn time(seconds: i64, nanos: u32) -> String {
    if nanos == 0 {
        return seconds.to_string();
    }
    let (sign, whole, fraction) = match seconds {
        0.. => ("", seconds.unsigned_abs(), nanos),
        _ => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    };
    let text = format!("{sign}{whole}.{fraction:09}");
    text.trim_end_matches('0').to_owned()
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts itself.
fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}
