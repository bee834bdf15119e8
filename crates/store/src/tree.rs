//! Directory trees that strangers filled: removing them and counting them.
//!
//! Images and containers choose the names, the depth and the number of entries. Must never follow
//! a symbolic link, recurse, or hold more than a few file descriptors, however deep the tree is.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Dir, DirEntry, FileType, Mode, OFlags, ResolveFlags, openat, openat2, renameat,
    statat, unlinkat,
};
use rustix::io::{Errno, Result};

use crate::Usage;
use crate::layout::{DIRECTORY, Layout};
use crate::reserve;

/// How often a directory is emptied again when entries appear in it meanwhile.
const ATTEMPTS: usize = 8;

/// Entries of a directory held in memory at a time while it is emptied.
const BATCH: usize = 4096;

/// The names in one of the store's own directories, without `.` and `..`.
pub(crate) fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let entries = entries(dir)?.map(|entry| entry.map(|(name, _)| name));
    entries.collect()
}

fn entries(dir: BorrowedFd<'_>) -> Result<impl Iterator<Item = Result<(CString, FileType)>>> {
    let real = |entry: &DirEntry| entry.file_name() != c"." && entry.file_name() != c"..";
    let entries = Dir::read_from(dir)?.filter(move |entry| entry.as_ref().map_or(true, real));
    Ok(entries.map(|entry| entry.map(|entry| (entry.file_name().to_owned(), entry.file_type()))))
}

/// Removes `name` in `parent` with all below it. What is already gone is no error.
///
/// Each directory met is first moved to `tmp/`, so that neither depth nor a crash matters.
pub(crate) fn remove(layout: &Layout, parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(e) => return Err(e),
    }
    let mut doomed = Vec::new();
    take(layout, parent, name, &mut doomed)?;
    while let Some(name) = doomed.pop() {
        empty(layout, &name, &mut doomed)?;
    }
    Ok(())
}

/// Moves a directory to `tmp/`, unless it is empty and can go at once.
fn take(
    layout: &Layout,
    parent: BorrowedFd<'_>,
    name: &CStr,
    doomed: &mut Vec<String>,
) -> Result<()> {
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    let new = layout.temp_name();
    let rename = || renameat(parent, name, layout.tmp(), &new);
    let renamed = match rename() {
        // A directory that gets another entry may need another block.
        Err(Errno::NOSPC | Errno::DQUOT) if reserve::give_up(layout) => rename(),
        other => other,
    };
    match renamed {
        Ok(()) => doomed.push(new),
        Err(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

fn empty(layout: &Layout, name: &str, doomed: &mut Vec<String>) -> Result<()> {
    let dir = match openat(layout.tmp(), name, DIRECTORY, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut attempts = 0;
    while attempts < ATTEMPTS {
        let batch = entries(dir.as_fd())?
            .take(BATCH)
            .collect::<Result<Vec<_>>>()?;
        for (name, kind) in &batch {
            if *kind == FileType::Directory {
                take(layout, dir.as_fd(), name, doomed)?;
                continue;
            }
            match unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                // File systems that do not tell the type of an entry.
                Err(Errno::ISDIR) => take(layout, dir.as_fd(), name, doomed)?,
                Err(e) => return Err(e),
            }
        }
        if batch.len() == BATCH {
            continue;
        }
        attempts += 1;
        match unlinkat(layout.tmp(), name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Errno::NOTEMPTY)
}

/// What a tree takes on disk, the top directory included; what vanishes meanwhile is not counted.
///
/// Directories whose path is longer than the kernel takes (`PATH_MAX`) count without their content.
pub(crate) fn usage(top: BorrowedFd<'_>) -> Result<Usage> {
    let mut total = one(&rustix::fs::fstat(top)?);
    let mut linked = std::collections::HashSet::new();
    let mut queue = vec![Vec::new()];
    while let Some(path) = queue.pop() {
        let dir = match open_below(top, &path) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => continue,
            Err(e) => return Err(e),
        };
        for entry in entries(dir.as_fd())? {
            let (name, _) = entry?;
            let stat = match statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e),
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind != FileType::Directory && stat.st_nlink > 1 && !linked.insert(stat.st_ino) {
                continue;
            }
            total += one(&stat);
            if kind == FileType::Directory {
                let mut path = path.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name.to_bytes());
                queue.push(path);
            }
        }
    }
    Ok(total)
}

pub(crate) fn open_below(top: BorrowedFd<'_>, path: &[u8]) -> Result<std::os::fd::OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(
        top,
        path,
        DIRECTORY | OFlags::NOATIME,
        Mode::empty(),
        resolve,
    )
}

fn one(stat: &rustix::fs::Stat) -> Usage {
    Usage {
        bytes: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
        inodes: 1,
    }
}
