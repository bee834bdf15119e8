//! Writing what is copied into a stage's root file system, and its digest for the cache. Nothing that is there is
//! followed out of it: directories are found by [`Tree::resolve`], and what stands at a file's place is replaced.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use image::Hasher;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat,
    fgetxattr, flistxattr, fsetxattr, linkat, mknodat, openat, readlinkat, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::Failed;
use crate::mode::Change;
use crate::select::{Found, join};
use crate::tree::{self, Made, Tree};

const XATTRS: usize = 64 << 10;
const CHUNK: usize = 128 << 10;
/// Of directories that nobody said anything of.
const IMPLIED: u32 = 0o755;

/// What files get instead of what they have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// `--chown`; `None`: the owners that the source has, or those of `whose`.
    pub(crate) owner: Option<(u32, u32)>,
    /// The source is an image's or a stage's: its owners are kept.
    pub(crate) keep_owners: bool,
    /// `--chmod`.
    pub(crate) mode: Option<Change>,
}

impl Given {
    pub(crate) fn owner_of(&self, stat: &Stat) -> (u32, u32) {
        match self.owner {
            Some(owner) => owner,
            None if self.keep_owners => (stat.st_uid, stat.st_gid),
            None => (0, 0),
        }
    }

    pub(crate) fn mode_of(&self, stat: &Stat) -> u32 {
        let mode = stat.st_mode & 0o7777;
        let is_directory = tree::kind(stat) == FileType::Directory;
        self.mode
            .map_or(mode, |change| change.of(mode, is_directory))
    }
}

/// Writes into a root file system.
pub(crate) struct Put<'a> {
    root: &'a Tree,
    /// Below the root, without links: a directory, or the parent of the file.
    target: String,
    /// The name of the file, if the source is one.
    file: Option<String>,
    given: Given,
    /// The first place of each file with several links.
    linked: HashMap<(u64, u64), String>,
    /// Directories whose times are set at last.
    times: Vec<(String, Timestamps)>,
    /// The directory that was written to last.
    open: Option<(String, OwnedFd)>,
    /// The target gets what the source's root has.
    with_target: bool,
}

impl<'a> Put<'a> {
    /// A directory's content goes into `target`, which is made; a file (`name`) goes there by its name.
    pub(crate) fn new(
        root: &'a Tree,
        target: &str,
        file: Option<&str>,
        given: Given,
    ) -> Result<Put<'a>, Failed> {
        let (uid, gid) = given.owner.unwrap_or((0, 0));
        let made = Made {
            mode: IMPLIED,
            uid,
            gid,
        };
        let resolved = root
            .resolve(target, Some(made))
            .map_err(Failed::io("make", target))?;
        Ok(Put {
            root,
            target: resolved,
            file: file.map(str::to_owned),
            given,
            linked: HashMap::new(),
            times: Vec::new(),
            open: None,
            with_target: false,
        })
    }

    /// The same for an archive that says what its root is.
    pub(crate) fn with_target(mut self) -> Put<'a> {
        self.with_target = true;
        self
    }

    /// Writes one thing.
    pub(crate) fn put(&mut self, found: &Found<'_>) -> Result<(), Failed> {
        let below = match (&self.file, found.below) {
            (Some(file), "") => file.clone(),
            (_, below) => below.to_owned(),
        };
        if below.is_empty() {
            return match self.with_target {
                true => self.put_target(&found.stat),
                // It is there, and stays as it is.
                false => Ok(()),
            };
        }
        let (parent, name) = below.rsplit_once('/').unwrap_or(("", &below));
        let place = join(&self.target, &below);
        let failed = |op: &'static str| Failed::io(op, &place);
        self.enter(parent).map_err(failed("open"))?;
        let Some((_, dir)) = &self.open else {
            return Ok(());
        };
        match tree::kind(&found.stat) {
            FileType::Directory => {
                let times = times(&found.stat);
                let path = directory(self.root, dir.as_fd(), &place, name, found, &self.given)
                    .map_err(failed("make"))?;
                self.times.push((path, times));
            }
            FileType::Socket => {}
            _ => {
                let first = self.linked.get(&(found.stat.st_dev, found.stat.st_ino));
                let first = first.filter(|_| found.stat.st_nlink > 1);
                match first {
                    Some(first) => {
                        link(self.root, first, dir.as_fd(), name).map_err(failed("link"))?
                    }
                    None => {
                        make(dir.as_fd(), name, found, &self.given)
                            .map_err(Failed::io("write", &place))?;
                        if found.stat.st_nlink > 1 {
                            let inode = (found.stat.st_dev, found.stat.st_ino);
                            self.linked.insert(inode, place);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn put_target(&mut self, stat: &Stat) -> Result<(), Failed> {
        let (uid, gid) = self.given.owner_of(stat);
        let set = || {
            let dir = self.root.plain_directory(&self.target)?;
            rustix::fs::fchown(&dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(self.given.mode_of(stat)))
        };
        set().map_err(Failed::io("write", &self.target))?;
        self.times.push((self.target.clone(), times(stat)));
        Ok(())
    }

    /// Opens the directory below the target that something goes to.
    fn enter(&mut self, parent: &str) -> Result<(), Errno> {
        if self.open.as_ref().is_some_and(|(path, _)| path == parent) {
            return Ok(());
        }
        let path = join(&self.target, parent);
        // A link that stood there before leads within the root.
        let path = self.root.resolve(path.trim_end_matches('/'), None)?;
        let dir = self.root.plain_directory(&path)?;
        self.open = Some((parent.to_owned(), dir));
        Ok(())
    }

    /// Sets what writing changes: the times of directories.
    pub(crate) fn finish(self) -> Result<(), Failed> {
        for (path, times) in self.times.iter().rev() {
            let dir = self
                .root
                .plain_directory(path)
                .map_err(Failed::io("open", path))?;
            rustix::fs::futimens(&dir, times).map_err(Failed::io("set the times of", path))?;
        }
        Ok(())
    }
}

/// Writes a file of these bytes, with a mode, an owner and a time.
pub(crate) fn put_bytes(
    root: &Tree,
    target: &str,
    name: &str,
    bytes: &[u8],
    attributes: (u32, (u32, u32), i64),
) -> Result<(), Failed> {
    put_file(root, target, name, bytes, attributes)
}

/// The same of what `from` has.
pub(crate) fn put_file(
    root: &Tree,
    target: &str,
    name: &str,
    mut from: impl Read,
    attributes: (u32, (u32, u32), i64),
) -> Result<(), Failed> {
    let (mode, (uid, gid), time) = attributes;
    let made = Made {
        mode: IMPLIED,
        uid,
        gid,
    };
    let mut write = || -> io::Result<()> {
        let parent = root.resolve(target, Some(made))?;
        let dir = root.plain_directory(&parent)?;
        let mut file = File::from(fresh(dir.as_fd(), name)?);
        io::copy(&mut from, &mut file)?;
        let time = Timespec {
            tv_sec: time,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        settle(&file, mode, (uid, gid), &times, None)?;
        Ok(())
    };
    write().map_err(Failed::io("write", &join(target, name)))
}

/// A directory below the target, made or found; its path without links.
fn directory(
    root: &Tree,
    dir: BorrowedFd<'_>,
    place: &str,
    name: &str,
    found: &Found<'_>,
    given: &Given,
) -> Result<String, Errno> {
    let (uid, gid) = given.owner_of(&found.stat);
    let made = Made {
        mode: given.mode_of(&found.stat),
        uid,
        gid,
    };
    let there = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Some(tree::kind(&stat)),
        Err(Errno::NOENT) => None,
        Err(e) => return Err(e),
    };
    if there.is_some_and(|kind| kind != FileType::Directory && kind != FileType::Symlink) {
        return Err(Errno::NOTDIR);
    }
    let path = root.resolve(place, Some(made))?;
    let opened = root.plain_directory(&path)?;
    rustix::fs::fchown(&opened, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    copy_xattrs(
        &openat(
            found.parent,
            found.name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
            Mode::empty(),
        )?,
        &opened,
    )?;
    rustix::fs::fchmod(&opened, Mode::from_raw_mode(made.mode))?;
    Ok(path)
}

fn link(root: &Tree, first: &str, dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let (parent, old) = first.rsplit_once('/').unwrap_or(("", first));
    let parent = root.plain_directory(&root.resolve(parent, None)?)?;
    remove(dir, name)?;
    linkat(&parent, old, dir, name, AtFlags::empty())
}

/// Anything but a directory, in place of what was there.
fn make(dir: BorrowedFd<'_>, name: &str, found: &Found<'_>, given: &Given) -> io::Result<()> {
    let (uid, gid) = given.owner_of(&found.stat);
    let times = times(&found.stat);
    let mode = given.mode_of(&found.stat);
    match tree::kind(&found.stat) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let source = File::from(openat(found.parent, found.name, flags, Mode::empty())?);
            if !source.metadata()?.is_file() {
                return Err(io::Error::other("it changed while it was copied"));
            }
            let mut file = File::from(fresh(dir, name)?);
            io::copy(&mut &source, &mut file)?;
            settle(&file, mode, (uid, gid), &times, Some(&source.into()))?;
            return Ok(());
        }
        FileType::Symlink => {
            let target = readlinkat(found.parent, found.name, Vec::new())?;
            remove(dir, name)?;
            symlinkat(target, dir, name)?;
        }
        kind => {
            remove(dir, name)?;
            mknodat(
                dir,
                name,
                kind,
                Mode::from_raw_mode(mode),
                found.stat.st_rdev,
            )?;
        }
    }
    chownat(
        dir,
        name,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if tree::kind(&found.stat) != FileType::Symlink {
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn remove(dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // A directory, which a file does not replace.
        Err(e) => Err(e),
    }
}

/// A new file in place of what was there.
fn fresh(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    remove(dir, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::from_raw_mode(0o600))
}

/// Owner first: it takes capabilities and set-id bits away.
fn settle(
    file: &File,
    mode: u32,
    (uid, gid): (u32, u32),
    times: &Timestamps,
    attributes: Option<&OwnedFd>,
) -> Result<(), Errno> {
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    if let Some(from) = attributes {
        copy_xattrs(from, file)?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    rustix::fs::futimens(file, times)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, nanoseconds| Timespec {
        tv_sec,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Names and values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// The attributes that belong to a file: the user's own, and rights of programs.
fn xattrs(file: &OwnedFd) -> Result<Attributes, Errno> {
    let mut names = vec![0; XATTRS];
    let length = match flistxattr(file, names.as_mut_slice()) {
        Err(Errno::NOTSUP | Errno::PERM) => 0,
        other => other?,
    };
    let mut all = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        let belongs = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
            || name == b"security.capability";
        if !belongs {
            continue;
        }
        let mut value = vec![0; XATTRS];
        match fgetxattr(file, name, value.as_mut_slice()) {
            Err(Errno::NODATA) => continue,
            other => value.truncate(other?),
        }
        all.push((name.to_vec(), value));
    }
    all.sort();
    Ok(all)
}

fn copy_xattrs(from: &OwnedFd, to: impl AsFd) -> Result<(), Errno> {
    for (name, value) in xattrs(from)? {
        fsetxattr(&to, name, &value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Adds what something is to a digest: all that a copy of it would have, but no times.
pub(crate) fn digest(hasher: &mut Hasher, found: &Found<'_>, given: &Given) -> Result<(), Failed> {
    let (uid, gid) = given.owner_of(&found.stat);
    let facts = format!(
        "{}\0{:o}\0{:o}\0{uid}\0{gid}\0{}\0",
        found.below,
        found.stat.st_mode & 0o170000,
        given.mode_of(&found.stat),
        found.stat.st_rdev,
    );
    hasher.update(facts.as_bytes());
    let hash = |hasher: &mut Hasher| -> io::Result<()> {
        match tree::kind(&found.stat) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let fd = openat(found.parent, found.name, flags, Mode::empty())?;
                for (name, value) in xattrs(&fd)? {
                    hasher.update(&name);
                    hasher.update(&[0]);
                    hasher.update(&value);
                }
                let mut file = File::from(fd);
                hasher.update(format!("\0{}\0", file.metadata()?.len()).as_bytes());
                let mut chunk = vec![0; CHUNK];
                loop {
                    match file.read(&mut chunk) {
                        Ok(0) => return Ok(()),
                        Ok(length) => hasher.update(&chunk[..length]),
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(e),
                    }
                }
            }
            FileType::Symlink => {
                let target = readlinkat(found.parent, found.name, Vec::new())?;
                hasher.update(target.as_bytes());
                hasher.update(&[0]);
                Ok(())
            }
            _ => Ok(()),
        }
    };
    hash(hasher).map_err(Failed::io("read", found.below))
}
