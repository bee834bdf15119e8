//! A layer's tar, put together again from what tar-split kept of it: a line of JSON for each piece,
//! which is either bytes (headers and padding) or the content of a file on disk.
//!
//! Both are hostile. Names are resolved by the kernel below the layer's directory (openat2(2) with
//! RESOLVE_IN_ROOT), only regular files are opened, and no more is written than the layer has. Must
//! never claim that the result is right: whoever reads it checks the digest.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use rustix::fs::ResolveFlags;
use serde::Deserialize;

use super::tree;

/// The longest line: a piece of bytes has at most 1 MiB, and an extended header as much.
const MAX_LINE: u64 = 8 << 20;

const FILE: u8 = 1;
const SEGMENT: u8 = 2;

#[derive(Deserialize)]
struct Piece {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    name: String,
    /// Base64, of a name that is not UTF-8.
    name_raw: Option<String>,
    #[serde(default)]
    size: u64,
    /// Base64: the bytes, or a file's checksum.
    payload: Option<String>,
}

/// Writes the tar of `size` bytes that `pieces` (gzip) describes, with the files below `files`.
pub(super) fn assemble(
    pieces: impl Read,
    files: BorrowedFd<'_>,
    size: u64,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut pieces = BufReader::new(MultiGzDecoder::new(pieces));
    let mut left = size;
    let mut line = Vec::new();
    loop {
        line.clear();
        if pieces
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)?
            == 0
        {
            break;
        }
        if line.len() as u64 == MAX_LINE {
            return Err(flawed("a line is too long"));
        }
        let piece: Piece = serde_json::from_slice(&line).map_err(flawed)?;
        let bytes = match piece.kind {
            SEGMENT => Some(decoded(piece.payload.as_deref().unwrap_or_default())?),
            FILE => None,
            other => return Err(flawed(format!("there is no type {other}"))),
        };
        let length = bytes
            .as_ref()
            .map_or(piece.size, |bytes| bytes.len() as u64);
        left = left
            .checked_sub(length)
            .ok_or_else(|| flawed("there is more of it than of the layer"))?;
        match bytes {
            Some(bytes) => out.write_all(&bytes)?,
            None if length == 0 => {}
            None => file(&piece, files, out)?,
        }
    }
    match left {
        0 => Ok(()),
        left => Err(flawed(format!("{left} bytes of the layer are missing"))),
    }
}

/// Writes the content of a file.
fn file(piece: &Piece, files: BorrowedFd<'_>, out: &mut impl Write) -> io::Result<()> {
    let name = match &piece.name_raw {
        Some(raw) => decoded(raw)?,
        None => piece.name.clone().into_bytes(),
    };
    let path = tree::plain(Path::new(OsStr::from_bytes(&name)));
    let about = |why: String| io::Error::other(format!("file {}: {why}", path.display()));
    let open = tree::open_file(files, &path, ResolveFlags::IN_ROOT);
    let file = open.map_err(|error| about(error.to_string()))?;
    match io::copy(&mut file.take(piece.size), out)? {
        length if length < piece.size => Err(about("it is shorter than in the layer".into())),
        _ => Ok(()),
    }
}

fn decoded(text: &str) -> io::Result<Vec<u8>> {
    STANDARD.decode(text).map_err(flawed)
}

fn flawed(why: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("tar-split: {why}"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::mutator;

    const PIECES: &str = r#"{"type":2,"payload":"aGVhZA==","position":0}
{"type":1,"name":"./dir/../file","size":7,"payload":"AAAAAAAAAAA=","position":1}
{"type":1,"name_raw":"Lv8=","size":3,"payload":"AAAAAAAAAAA=","position":2}
{"type":1,"name":"link/file","size":6,"payload":"AAAAAAAAAAA=","position":3}
{"type":1,"name":"empty","payload":null,"position":4}
"#;

    fn assembled(dir: &Path, pieces: &[u8], size: u64) -> (io::Result<()>, Vec<u8>) {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(pieces).unwrap();
        let mut out = Vec::new();
        let files = File::open(dir).unwrap();
        let pieces = gzip.finish().unwrap();
        let done = assemble(&pieces[..], files.as_fd(), size, &mut out);
        (done, out)
    }

    #[test]
    fn pieces_become_what_they_were_and_hostile_ones_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "secret!").unwrap();
        let layer = dir.path().join("layer");
        fs::create_dir_all(layer.join("dir")).unwrap();
        fs::write(layer.join("file"), "content").unwrap();
        fs::write(layer.join(OsStr::from_bytes(b".\xff")), "raw").unwrap();
        fs::write(layer.join("dir/file"), "inside").unwrap();
        symlink("/dir", layer.join("link")).unwrap();
        symlink("../../file", layer.join("out")).unwrap();
        symlink(dir.path().join("file"), layer.join("away")).unwrap();
        let whole = b"headcontentrawinside";
        let (done, out) = assembled(&layer, PIECES.as_bytes(), 20);
        done.unwrap();
        assert_eq!(out, whole);
        for (size, why) in [(19, "more of it"), (21, "1 bytes of the layer are missing")] {
            let error = assembled(&layer, PIECES.as_bytes(), size).0.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        let outside = br#"{"type":1,"name":"../file","size":7}
{"type":1,"name":"out","size":7}
{"type":1,"name":"away","size":7}
"#;
        mutator::run(5_000, &[PIECES.as_bytes(), outside], |pieces| {
            let (done, out) = assembled(&layer, pieces, 20);
            assert!(out.len() <= 20 && (done.is_err() || out.len() == 20));
            assert!(!out.windows(6).any(|part| part == b"secret"));
        });
    }
}
