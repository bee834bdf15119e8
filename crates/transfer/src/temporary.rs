//! Temporary files and directories: private, beside what they become, and gone when nobody wants
//! them any more.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use crate::error::{Error, Result};

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Chooses where large temporary files of this process go. Only the first choice counts.
pub fn set_temporary_dir(dir: PathBuf) {
    // A second choice is not taken, as its files would be in two places.
    let _ = CHOSEN.set(dir);
}

/// Large things go here, as images do not fit on many a tmpfs: the place that was chosen,
/// `$TMPDIR`, or else `/var/tmp`.
pub(crate) fn place() -> PathBuf {
    if let Some(dir) = CHOSEN.get() {
        return dir.clone();
    }
    env::var_os("TMPDIR")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// A new private directory.
pub(crate) fn dir() -> Result<TempDir> {
    let place = place();
    TempDir::with_prefix_in("floe-", &place).map_err(Error::io("create a directory in", place))
}

/// A new file without a name.
pub(crate) fn nameless() -> Result<File> {
    let place = place();
    tempfile::tempfile_in(&place).map_err(Error::io("create a file in", place))
}

/// A name in the same directory that nobody else uses.
pub(crate) fn beside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{number}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Removes the file when dropped; that it is gone already is no harm.
pub(crate) struct Removed<'a>(pub(crate) &'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// Gives `path` this content at once or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temp = beside(path);
    let _undo = Removed(&temp);
    let mut file = File::create_new(&temp).map_err(Error::io("create", &temp))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_data())
        .map_err(Error::io("write", &temp))?;
    fs::rename(&temp, path).map_err(Error::io("rename", path))
}

/// A seekable file of an archive's bytes: the file itself, or, when that is compressed with gzip or
/// zstd, a nameless file of what it holds.
pub(crate) fn uncompressed(path: &Path) -> Result<File> {
    let failed = |e| Error::io("read", path)(e);
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut reader = BufReader::new(file);
    let magic = reader.fill_buf().map_err(failed)?;
    let decoder: Box<dyn Read> = match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(reader).map_err(failed)?)
        }
        _ => {
            let mut file = reader.into_inner();
            file.rewind().map_err(failed)?;
            return Ok(file);
        }
    };
    let mut whole = nameless()?;
    let mut decoder = io::BufReader::new(decoder);
    io::copy(&mut decoder, &mut whole)
        .and_then(|_| whole.rewind())
        .map_err(failed)?;
    Ok(whole)
}
