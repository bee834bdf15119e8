//! Places inside the root file system, by descriptor (openat2(2) with RESOLVE_IN_ROOT): symbolic
//! links of the image lead nowhere else. What is missing is made inside the root, through a
//! dangling link too.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstat, mkdirat, openat, openat2,
    readlinkat, statat, statx,
};
use rustix::io::{Errno, Result};

/// As many links as the kernel follows.
const MAX_LINKS: u32 = 40;

/// What a missing place becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Directory,
    File,
}

/// Opens a place with `flags` (O_PATH to mount on it).
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let relative = relative(path);
    loop {
        match openat2(
            root,
            &relative,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        ) {
            // A rename was under way while "..": try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// A place without symbolic links, from the root on; as it is if there is none.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &Path) -> PathBuf {
    let name = |fd: BorrowedFd<'_>| {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        std::fs::read_link(link).ok()
    };
    let resolved = || {
        let place = open(root, path, OFlags::PATH).ok()?;
        let (top, place) = (name(root)?, name(place.as_fd())?);
        Some(Path::new("/").join(place.strip_prefix(top).ok()?))
    };
    resolved().unwrap_or_else(|| path.to_owned())
}

/// Opens a place for mounting on it (O_PATH), making it and its parents if missing: then the second
/// answer is true.
pub(super) fn open_or_make(
    root: BorrowedFd<'_>,
    path: &Path,
    missing: Missing,
) -> Result<(OwnedFd, bool)> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => make(root, path, missing).map(|made| (made, true)),
        other => other.map(|there| (there, false)),
    }
}

/// As [`open_or_make`]; a place that is a symbolic link is refused with `ELOOP`.
pub(super) fn open_or_make_plain(
    root: BorrowedFd<'_>,
    path: &Path,
    missing: Missing,
) -> Result<(OwnedFd, bool)> {
    match open(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT) => make(root, path, missing).map(|made| (made, true)),
        Ok(there) if is_link(&there)? => Err(Errno::LOOP),
        other => other.map(|there| (there, false)),
    }
}

fn is_link(place: &OwnedFd) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(place)?.st_mode) == FileType::Symlink)
}

fn make(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd> {
    let (parent, name) = make_parent(root, path)?;
    match missing {
        Missing::Directory => mkdirat(&parent, &name, Mode::from_raw_mode(0o755))?,
        Missing::File => {
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            drop(openat(&parent, &name, flags, Mode::from_raw_mode(0o644))?);
        }
    }
    openat(
        &parent,
        &name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// The root of what was just mounted on `place`, which `path` leads to; `ESTALE` if it leads elsewhere by
/// now.
pub(super) fn mounted_on(root: BorrowedFd<'_>, path: &Path, place: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mounted = open(root, path, flags)?;
    // What is above a mount's root is above the place it is mounted on.
    let above = |fd: &OwnedFd| openat(fd, "..", flags | OFlags::CLOEXEC, Mode::empty());
    let new = identity(&mounted)?.1 != identity(place)?.1;
    match new && identity(above(&mounted)?)? == identity(above(place)?)? {
        true => Ok(mounted),
        false => Err(Errno::STALE),
    }
}

/// Inode and mount.
fn identity(place: impl AsFd) -> Result<(u64, u64)> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let found = statx(place, c"", AtFlags::EMPTY_PATH, wanted)?;
    Ok((found.stx_ino, found.stx_mnt_id))
}

/// Makes a directory that is missing, with those above it. Whatever else is there stays.
pub(super) fn make_directory(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => open_or_make(root, path, Missing::Directory).map(drop),
        // Who cannot get there is told when the directory is entered.
        _ => Ok(()),
    }
}

/// Is this place the root itself, under whatever name?
pub(super) fn is_root(root: BorrowedFd<'_>, place: impl AsFd) -> Result<bool> {
    Ok(identity(root)? == identity(place)?)
}

/// The directory that holds the last part of `path`, made if missing, and that part. Links are
/// followed inside the root, a dangling last part as well.
pub(super) fn make_parent(root: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, OsString)> {
    match parent_that_is_there(root, path)? {
        Some(found) => Ok(found),
        None => make_parents(root, path),
    }
}

/// The usual case in three calls: the parent is there, and the last part is no link.
fn parent_that_is_there(root: BorrowedFd<'_>, path: &Path) -> Result<Option<(OwnedFd, OsString)>> {
    let (Some(parent), Some(Component::Normal(name))) =
        (path.parent(), path.components().next_back())
    else {
        return Ok(None);
    };
    // Not for "..", which means the part before it and not what that leads to.
    if parent.components().any(|part| part == Component::ParentDir) {
        return Ok(None);
    }
    let Ok(here) = open(root, parent, OFlags::PATH | OFlags::DIRECTORY) else {
        return Ok(None);
    };
    match statat(&here, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Ok(None),
        Ok(_) | Err(Errno::NOENT) => Ok(Some((here, name.to_owned()))),
        Err(errno) => Err(errno),
    }
}

fn make_parents(root: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, OsString)> {
    let mut done = PathBuf::new();
    let mut left: Vec<OsString> = parts(path);
    let mut links = 0;
    loop {
        let Some(part) = left.pop() else {
            return Err(Errno::EXIST);
        };
        if part == ".." {
            done.pop();
            continue;
        }
        let here = open(root, &done, OFlags::PATH | OFlags::DIRECTORY)?;
        match statat(&here, &part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let link = PathBuf::from(OsString::from_vec(
                    readlinkat(&here, &part, Vec::new())?.into_bytes(),
                ));
                if link.is_absolute() {
                    done.clear();
                }
                left.extend(parts(&link));
            }
            Err(Errno::NOENT) if left.is_empty() => return Ok((here, part)),
            Err(Errno::NOENT) => {
                mkdirat(&here, &part, Mode::from_raw_mode(0o755))?;
                done.push(part);
            }
            Ok(_) if left.is_empty() => return Ok((here, part)),
            Ok(_) => done.push(part),
            Err(errno) => return Err(errno),
        }
    }
}

/// Names of a path, the first one last; ".." stays.
fn parts(path: &Path) -> Vec<OsString> {
    let mut all: Vec<OsString> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect();
    all.reverse();
    all
}

fn relative(path: &Path) -> PathBuf {
    let relative: PathBuf = path
        .components()
        .filter(|part| !matches!(part, Component::RootDir))
        .collect();
    if relative.as_os_str().as_bytes().is_empty() {
        ".".into()
    } else {
        relative
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (PathBuf, OwnedFd) {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("floe-target-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let fd = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, fd)
    }

    #[test]
    fn missing_parents_are_made_and_links_stay_inside() {
        let (dir, fd) = root();
        std::os::unix::fs::symlink("/../../outside", dir.join("link")).unwrap();
        open_or_make(fd.as_fd(), Path::new("/a/b/c"), Missing::Directory).unwrap();
        open_or_make(fd.as_fd(), Path::new("/link/file"), Missing::File).unwrap();
        assert!(dir.join("a/b/c").is_dir());
        assert!(dir.join("outside/file").is_file());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_place_is_resolved_inside_and_one_that_is_missing_stays_as_it_is() {
        let (dir, fd) = root();
        std::fs::create_dir_all(dir.join("real/conf")).unwrap();
        std::os::unix::fs::symlink("/real", dir.join("link")).unwrap();
        let resolve = |path: &str| resolve(fd.as_fd(), Path::new(path));
        assert_eq!(resolve("/link/conf"), Path::new("/real/conf"));
        assert_eq!(resolve("/../link"), Path::new("/real"));
        assert_eq!(resolve("/link/none"), Path::new("/link/none"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_dangling_link_is_made_to_lead_somewhere_inside() {
        let (dir, fd) = root();
        std::os::unix::fs::symlink("x/y", dir.join("dangling")).unwrap();
        open_or_make(fd.as_fd(), Path::new("/dangling"), Missing::File).unwrap();
        assert!(dir.join("x/y").is_file());
        std::os::unix::fs::symlink("loop", dir.join("loop")).unwrap();
        assert_eq!(
            open_or_make(fd.as_fd(), Path::new("/loop"), Missing::File).unwrap_err(),
            Errno::LOOP
        );
        std::fs::remove_dir_all(dir).unwrap();
    }
}
