//! File systems in memory: those that the runtime makes for itself, and `tmpcopyup`, which fills one with
//! what it hides. Both by descriptor: no link that is swapped in meanwhile leads a copy elsewhere.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, fchmod, fchown,
    fstat, mkdirat, openat, openat2, readlinkat, statat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

/// A new one with these options, not mounted anywhere yet.
pub(super) fn make(options: &[(&str, &str)], read_only: bool) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "tmpfs")?;
    for (name, value) in options {
        fsconfig_set_string(&context, *name, *value)?;
    }
    let mut attributes = MountAttrFlags::empty();
    if read_only {
        fsconfig_set_flag(&context, "ro")?;
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Copies the directory `below` to the mount that now hides it; `below` was opened before.
pub(super) fn copy_up(below: &OwnedFd, mounted: &OwnedFd) -> Result<(), Errno> {
    let mut left = vec![PathBuf::from(".")];
    while let Some(path) = left.pop() {
        let (from, to) = (directory(below, &path)?, directory(mounted, &path)?);
        for entry in Dir::read_from(&from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if copy(&from, &to, name)? == FileType::Directory {
                left.push(path.join(OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    Ok(())
}

fn directory(top: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(top, path, flags, Mode::empty(), inside)
}

/// Copies one entry, of a directory only itself; says what it is. Devices, sockets and pipes are left out.
fn copy(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<FileType, Errno> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Symlink => {
            let target: CString = readlinkat(from, name, Vec::new())?;
            symlinkat(&target, to, name)?;
            let (uid, gid) = owner(&stat);
            chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            give(openat(to, name, flags, Mode::empty())?, &stat)?;
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::NOCTTY
                | OFlags::CLOEXEC;
            let source = File::from(openat(from, name, flags, Mode::empty())?);
            let stat = fstat(&source)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(Errno::STALE);
            }
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut copy = File::from(openat(to, name, flags, Mode::RWXU)?);
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            std::io::copy(&mut source.take(size), &mut copy)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            give(copy, &stat)?;
        }
        _ => {}
    }
    Ok(kind)
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

/// Owner, and then the mode: a change of owner takes setuid bits away.
fn give(file: impl AsFd, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = owner(stat);
    fchown(&file, uid, gid)?;
    fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777))
}
