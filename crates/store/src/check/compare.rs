//! Whether two unpacked layers are the same: names, kinds, owners, modes, times, links and content.
//!
//! Must never follow a symbolic link or open what is neither file nor directory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, openat, readlinkat, statat,
};
use rustix::io::{Errno, Result};

use crate::tree;

const CHUNK: usize = 256 << 10;
/// The most that the names, or one value, of a file's attributes may be (as the kernel has it).
const MAX_XATTR: usize = 64 << 10;

/// The first path that is not the same in both.
pub(super) fn difference(one: &OwnedFd, other: BorrowedFd<'_>) -> Result<Option<Vec<u8>>> {
    let mut left: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = left.pop() {
        let (dir, twin) = (
            tree::open_below(one.as_fd(), &path)?,
            tree::open_below(other, &path)?,
        );
        let (names, twins) = (sorted(&dir)?, sorted(&twin)?);
        if let Some(name) = names.symmetric_difference(&twins).next() {
            return Ok(Some(join(&path, name.to_bytes())));
        }
        if attributes(&dir)? != attributes(&twin)? {
            return Ok(Some(path));
        }
        for name in names {
            let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let twin_stat = statat(&twin, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let path = join(&path, name.to_bytes());
            let same = facts(&stat) == facts(&twin_stat)
                && match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => {
                        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        let open = |dir| openat(dir, &name, flags, Mode::empty());
                        same_file(open(&dir)?, open(&twin)?)?
                    }
                    FileType::Symlink => {
                        readlinkat(&dir, &name, Vec::new())?
                            == readlinkat(&twin, &name, Vec::new())?
                    }
                    FileType::Directory => {
                        left.push(path.clone());
                        true
                    }
                    _ => true,
                };
            if !same {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

fn sorted(dir: &OwnedFd) -> Result<BTreeSet<std::ffi::CString>> {
    Ok(tree::names(dir.as_fd())?.into_iter().collect())
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = path.to_vec();
    if !joined.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

/// What of an inode an archive determines. The size of a directory is the file system's affair, and a
/// whiteout has no time.
fn facts(stat: &Stat) -> (u32, u32, u32, u64, i64, i64, u64) {
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let whiteout = crate::extract::is_whiteout(stat);
    (
        stat.st_mode,
        stat.st_uid,
        stat.st_gid,
        stat.st_rdev,
        if directory { 0 } else { stat.st_size },
        if whiteout { 0 } else { stat.st_mtime },
        if directory { 0 } else { stat.st_nlink },
    )
}

fn same_file(one: OwnedFd, other: OwnedFd) -> Result<bool> {
    if attributes(&one)? != attributes(&other)? {
        return Ok(false);
    }
    let (mut one, mut other) = (File::from(one), File::from(other));
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let (a, b) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        if left[..a] != right[..b] {
            return Ok(false);
        }
        if a == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
    Ok(filled)
}

/// What overlayfs has left on files of a working layer that became a layer as it lay: they say where a file came from,
/// and nothing of what it is.
const OF_OVERLAYFS: [&[u8]; 4] = [
    b"trusted.overlay.impure",
    b"trusted.overlay.nlink",
    b"trusted.overlay.origin",
    b"trusted.overlay.uuid",
];

/// A file's extended attributes, sorted.
fn attributes(file: &OwnedFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; MAX_XATTR];
    let length = match flistxattr(file, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    names.truncate(length);
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && !OF_OVERLAYFS.contains(name));
    let mut all = Vec::new();
    for name in names {
        let mut value = vec![0; MAX_XATTR];
        let length = fgetxattr(file, name, value.as_mut_slice())?;
        value.truncate(length);
        all.push((name.to_vec(), value));
    }
    all.sort();
    Ok(all)
}
