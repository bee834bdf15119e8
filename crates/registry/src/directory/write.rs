//! The one way to write a file here: temporary, fsync, rename, fsync of the directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use base::file::Temporary;
pub(super) use base::file::is_absent;
use rustix::fs::CWD;

use crate::error::{Error, Result};
use crate::name::UploadId;

/// Replaces a file: readers see the old or the new, and after the return so do they after a power cut.
/// The caller is [`adding`](super::Directory::adding).
pub(super) fn file(tmp: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let temp = tmp.join(UploadId::random().to_string());
    // What cannot be removed after an error is removed by the next gc.
    let mut file = Temporary::create(CWD, &temp, 0o666).map_err(Error::io("create", &temp))?;
    file.write_all(bytes).map_err(Error::io("write", &temp))?;
    file.file().sync_all().map_err(Error::io("sync", &temp))?;
    directory(parent(path))?;
    file.commit(CWD, path)
        .map_err(Error::io("rename to", path))?;
    sync(parent(path))
}

/// Makes a directory and those above it, each known to the disk.
pub(super) fn directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => sync(parent(path)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            directory(parent(path))?;
            match fs::create_dir(path) {
                Ok(()) => sync(parent(path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(e) => Err(Error::io("create", path)(e)),
            }
        }
        Err(e) => Err(Error::io("create", path)(e)),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync(path: &Path) -> Result<()> {
    let dir = File::open(path).map_err(Error::io("open", path))?;
    dir.sync_all().map_err(Error::io("sync", path))
}

/// Removes a file; `false` when it was gone.
pub(super) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync(parent(path)).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("remove", path)(e)),
    }
}

/// Reads a file; `None` when it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

/// The names in a directory, which need not exist; those that are not UTF-8 are none of ours.
pub(super) fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if is_absent(&e) => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", path)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("read", path))?.file_name();
        names.extend(OsStr::to_str(&name).map(str::to_owned));
    }
    Ok(names)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
