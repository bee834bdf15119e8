//! Reading a file of an image without mounting it: the layers as overlayfs would show them.
//!
//! Must never leave the layers: names are opened one by one, without following links, by the
//! descriptor of the directory they are in.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::{Errno, Result as SysResult};

use crate::error::{Error, Result};
use crate::extract::{is_opaque, is_whiteout};
use crate::layout::DIRECTORY;
use crate::{ImageRecord, Layer, Store};

/// Symbolic links followed, as many as the kernel follows.
const LINKS: usize = 40;

/// A directory as seen through the layers: the same path in each layer that has it, top first.
type Merged = Vec<OwnedFd>;

/// What a name in a merged directory is.
enum Found {
    Nothing,
    Directory(Merged),
    Link(Vec<u8>),
    File(OwnedFd),
    /// A fifo, or a file where a directory was meant.
    Other,
}

impl Store {
    /// The content of a regular file of an image, such as `/etc/passwd`; symbolic links are followed
    /// inside the image's root. `None` when there is no such file.
    ///
    /// Errors with [`Error::TooLarge`] above `max` bytes, [`Error::NotAFile`], [`Error::Loop`] or
    /// [`Error::ImageNotFound`].
    pub fn read_file(&self, record: &ImageRecord, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let [file] = self.read_files(record, [path], max)?;
        Ok(file)
    }

    /// The same of several files: layers that nobody has mounted are mounted once for all of them.
    pub fn read_files<const N: usize>(
        &self,
        record: &ImageRecord,
        paths: [&str; N],
        max: u64,
    ) -> Result<[Option<Vec<u8>>; N]> {
        let layers = self.layers_of(record)?;
        let tops = layers.iter().map(Layer::directory);
        let tops = tops.collect::<Result<Merged>>()?;
        let mut files = [const { None }; N];
        for (file, path) in files.iter_mut().zip(paths) {
            *file = self.read_below(&tops, record, path, max)?;
        }
        Ok(files)
    }

    fn read_below(
        &self,
        tops: &Merged,
        record: &ImageRecord,
        path: &str,
        max: u64,
    ) -> Result<Option<Vec<u8>>> {
        let failed = |errno| Error::sys("read in the layers", self.root().join("layers"))(errno);
        let mut parts: VecDeque<Vec<u8>> = split(path.as_bytes()).collect();
        // Names of the directory reached, without links.
        let mut reached: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        let mut merged = again(tops).map_err(failed)?;
        while let Some(part) = parts.pop_front() {
            if part == b".." {
                reached.pop();
                merged = walk(tops, &reached).map_err(failed)?;
                continue;
            }
            match look_up(&merged, &part).map_err(failed)? {
                Found::Nothing => return Ok(None),
                Found::Directory(next) => {
                    merged = next;
                    reached.push(part);
                }
                Found::Link(target) => {
                    links += 1;
                    if links > LINKS {
                        return Err(Error::Loop {
                            path: path.to_owned(),
                            image: record.id.clone(),
                        });
                    }
                    if target.starts_with(b"/") {
                        reached.clear();
                        merged = again(tops).map_err(failed)?;
                    }
                    for part in split(&target).rev() {
                        parts.push_front(part);
                    }
                }
                Found::File(file) if parts.is_empty() => return read(file, path, max).map(Some),
                Found::File(_) => return Ok(None),
                Found::Other => break,
            }
        }
        Err(Error::NotAFile {
            path: path.to_owned(),
            image: record.id.clone(),
        })
    }
}

fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    let parts = path
        .split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."));
    parts.map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter()
}

fn again(tops: &Merged) -> SysResult<Merged> {
    tops.iter().map(rustix::io::dup).collect()
}

/// Opens a directory again by names that were directories before.
fn walk(tops: &Merged, names: &[Vec<u8>]) -> SysResult<Merged> {
    let mut merged = again(tops)?;
    for name in names {
        merged = match look_up(&merged, name)? {
            Found::Directory(next) => next,
            _ => return Err(Errno::STALE),
        };
    }
    Ok(merged)
}

/// The directory `name` in each layer that shows it, with the layer's place; none when something else or
/// nothing is there.
pub(crate) fn directories(
    merged: &[(usize, OwnedFd)],
    name: &[u8],
) -> SysResult<Vec<(usize, OwnedFd)>> {
    let mut directories = Vec::new();
    for (place, dir) in merged {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            break;
        }
        let open = openat(dir, name, DIRECTORY, Mode::empty())?;
        let opaque = is_opaque(open.as_fd())?;
        directories.push((*place, open));
        if opaque {
            break;
        }
    }
    Ok(directories)
}

fn look_up(merged: &Merged, name: &[u8]) -> SysResult<Found> {
    let mut directories = Merged::new();
    for dir in merged {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(Errno::NAMETOOLONG) => return Ok(Found::Nothing),
            Err(e) => return Err(e),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let open = openat(dir, name, DIRECTORY, Mode::empty())?;
            let opaque = is_opaque(open.as_fd())?;
            directories.push(open);
            if opaque {
                break;
            }
            continue;
        }
        if !directories.is_empty() || is_whiteout(&stat) {
            break;
        }
        return match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Ok(Found::Link(readlinkat(dir, name, Vec::new())?.into_bytes())),
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Ok(Found::File(openat(dir, name, flags, Mode::empty())?))
            }
            _ => Ok(Found::Other),
        };
    }
    Ok(if directories.is_empty() {
        Found::Nothing
    } else {
        Found::Directory(directories)
    })
}

fn read(file: OwnedFd, path: &str, max: u64) -> Result<Vec<u8>> {
    let file = File::from(file);
    let size = file.metadata().map_err(Error::io("stat", path))?.len();
    if size > max {
        return Err(Error::TooLarge {
            what: path.to_owned(),
            size,
            max,
        });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(max)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    Ok(bytes)
}
