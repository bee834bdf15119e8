//! What a container has written, with what it has removed said apart: an archive for those who do not know the
//! marks of layers (podman's and CRI-O's `rootfs-diff.tar` and `deleted.files`).
//!
//! A directory that was replaced is one mark in overlayfs, and here the names of all that it had in the layers
//! below and has no longer. Must never follow a link, recurse, or hold more names than the walk itself.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::{Errno, Result as SysResult};

use super::{DiffFlaw, Difference, NAMES, Stop, Walk};
use crate::archive::Writer;
use crate::error::Result;
use crate::extract::is_whiteout;
use crate::rootfs::directories;
use crate::{RootFilesystem, tree};

/// What is no longer there, for whoever wants it apart.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// Paths that were removed.
    pub(super) removed: BTreeSet<Vec<u8>>,
    /// Directories that hide all that was in theirs.
    pub(super) replaced: Vec<Vec<u8>>,
}

impl RootFilesystem {
    /// As [`write_difference`](Self::write_difference), but what the container has removed is no entry of the
    /// archive: its paths, relative to the root and in the order of their names, are returned instead.
    ///
    /// Errors as that.
    pub fn write_changes(&self, out: impl Write) -> Result<(Difference, Vec<Vec<u8>>)> {
        let (container, upper) = self.upper()?;
        let layers = self.layers().iter().enumerate();
        let lowers = layers.map(|(place, layer)| Ok((place, layer.directory()?)));
        let lowers = lowers.collect::<Result<Vec<_>>>()?;
        let mut walk = Walk::new(
            upper.as_fd(),
            Writer::new(out),
            self.limits().unpacked_bytes,
        );
        walk.apart = Some(Apart::default());
        let walked = walk.run();
        let mut apart = walk.apart.take().unwrap_or_default();
        let listed = walked.and_then(|()| list(&mut apart, upper.as_fd(), &lowers));
        let done = walk.end(container, listed)?;
        Ok((done, apart.removed.into_iter().collect()))
    }
}

/// Names what is hidden in directories that were replaced. `lowers` are the layers, each with its place.
pub(super) fn list(
    apart: &mut Apart,
    upper: BorrowedFd<'_>,
    lowers: &[(usize, OwnedFd)],
) -> Result<(), Stop> {
    let mut held: usize = apart.removed.iter().map(Vec::len).sum();
    while let Some(path) = apart.replaced.pop() {
        let own = open(upper, &path)?;
        let names = match &own {
            Some(own) => tree::names(own.as_fd()).map_err(DiffFlaw::sys("read"))?,
            None => Vec::new(),
        };
        let names: BTreeSet<CString> = names.into_iter().collect();
        let mut deeper = BTreeSet::new();
        // What a layer has removed that the ones below have.
        let mut gone = BTreeSet::new();
        for lower in merged(lowers, &path).map_err(DiffFlaw::sys("open"))? {
            for name in tree::names(lower.as_fd()).map_err(DiffFlaw::sys("read"))? {
                let below = [&path[..], b"/", name.as_bytes()].concat();
                match (names.contains(&name), &own) {
                    _ if gone.contains(&name) => {}
                    (true, Some(own)) => {
                        if is_directory(own.as_fd(), &name) && is_directory(lower.as_fd(), &name) {
                            deeper.insert(below);
                        }
                    }
                    _ if hides(lower.as_fd(), &name) => {
                        held += name.as_bytes().len();
                        gone.insert(name);
                    }
                    _ => {
                        held += below.len();
                        apart.removed.insert(below);
                    }
                }
            }
            if held > NAMES {
                return Err(Stop::Flaw(DiffFlaw::Limit {
                    what: "bytes of names of removed files",
                    max: NAMES as u64,
                }));
            }
        }
        apart.replaced.extend(deeper);
    }
    Ok(())
}

/// A directory in each layer that shows it, top first.
fn merged(lowers: &[(usize, OwnedFd)], path: &[u8]) -> SysResult<Vec<OwnedFd>> {
    let again = |(place, dir): &(usize, OwnedFd)| Ok((*place, rustix::io::dup(dir)?));
    let mut merged = lowers.iter().map(again).collect::<SysResult<Vec<_>>>()?;
    for name in path.split(|byte| *byte == b'/').filter(|n| !n.is_empty()) {
        merged = directories(&merged, name)?;
    }
    Ok(merged.into_iter().map(|(_, dir)| dir).collect())
}

/// A directory of what the container has written, if it is there.
fn open(top: BorrowedFd<'_>, path: &[u8]) -> Result<Option<OwnedFd>, Stop> {
    match tree::open_below(top, path) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(errno) => Err(Stop::Flaw(DiffFlaw::sys("open")(errno))),
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Is it a mark that the layer itself has no such file?
fn hides(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_whiteout(&stat))
}
