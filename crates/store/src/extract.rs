//! From archive entries to files below a directory that becomes an overlay layer (image-spec layer.md).
//!
//! Hostile input, as root. Every name is resolved by the kernel below the layer's root (openat2
//! with RESOLVE_IN_ROOT) or made with its parent's descriptor; must never hand a name from the
//! archive to a call that could follow it elsewhere.
//!
//! Whiteouts become overlayfs's own: `.wh.x` a character device 0:0, `.wh..wh..opq` the xattr
//! `trusted.overlay.opaque`. Of device nodes only those are made that every container has
//! anyway; any other would be the host's device, and is left out, as are overlayfs's own attributes of an
//! image that has a container store in it. Parents that the archive does not
//! mention are made with mode 0755, owned by root.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, linkat, makedev, mkdirat, mkfifoat, mknodat, openat,
    statat, symlinkat,
};
use rustix::io::Errno;

use crate::archive::{Archive, ArchiveError, Entry, Kind};
use crate::error::LayerError;
use crate::implicit_directories::MOST;
use crate::layout::{DIRECTORY, Layout};
use crate::limits::Limits;
use crate::{Usage, tree};

mod admission;
mod data;
mod devices;
mod directories;
mod flaw;
mod index;
mod metadata;
mod name;
mod omissions;
mod paths;

use data::write_data;
use directories::Directories;
pub use flaw::EntryFlaw;
pub(crate) use index::{Index, Indexed, Indexer};
use name::Name;
pub(crate) use name::{shown, split};
pub(crate) use omissions::Omissions;

const OPAQUE: &str = "trusted.overlay.opaque";
const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
/// aufs's own files in layers that it made.
const WHITEOUT_META: &[u8] = b".wh..wh.";
const BLOCK: u64 = 4096;
/// The most bytes of directory names kept until the end.
const TIMES: usize = 32 << 20;

/// What a layer turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub usage: Usage,
    /// Its root hides all layers below.
    pub opaque: bool,
    /// What was left out of it.
    pub omissions: Omissions,
    /// Directories that no entry is about.
    pub implied: Vec<Vec<u8>>,
}

/// Makes the entries of one layer below its root.
pub(crate) struct Extractor<'a> {
    layout: &'a Layout,
    root: BorrowedFd<'a>,
    limits: &'a Limits,
    directories: Directories<'a>,
    /// Times of directories, set when nothing is made in them any more.
    times: HashMap<Vec<u8>, (i64, u32)>,
    times_bytes: usize,
    entries: u64,
    usage: Usage,
    /// Something was replaced: the usage must be counted again.
    replaced: bool,
    opaque: bool,
    omissions: Omissions,
    implied: HashSet<Vec<u8>>,
}

/// An error on the way, before the entry's name is added.
enum Stop {
    Archive(ArchiveError),
    Flaw(EntryFlaw),
}

impl From<EntryFlaw> for Stop {
    fn from(flaw: EntryFlaw) -> Stop {
        Stop::Flaw(flaw)
    }
}

impl<'a> Extractor<'a> {
    /// Extracts to `root`, an empty directory in the store's `tmp/` that nobody else changes.
    pub(crate) fn new(
        layout: &'a Layout,
        root: BorrowedFd<'a>,
        limits: &'a Limits,
    ) -> Extractor<'a> {
        Extractor {
            layout,
            root,
            limits,
            directories: Directories::new(root),
            times: HashMap::new(),
            times_bytes: 0,
            entries: 0,
            usage: Usage {
                bytes: BLOCK,
                inodes: 1,
            },
            replaced: false,
            opaque: false,
            omissions: Omissions::default(),
            implied: HashSet::new(),
        }
    }

    /// Makes all entries of an archive.
    pub(crate) fn run<R: BufRead>(
        mut self,
        archive: &mut Archive<R>,
    ) -> Result<Unpacked, LayerError> {
        while let Some(entry) = archive.next().map_err(malformed)? {
            self.entries += 1;
            admission::fits(&entry, self.entries, self.limits)?;
            // Honest layers never come here; their directories get their times at the end.
            if self.times_bytes > TIMES {
                self.set_times()?;
            }
            match self.add(archive, &entry) {
                // A directory that no entry is about has no time but this one, whenever it is made.
                Ok(()) => {
                    for path in self.directories.take_implied() {
                        self.count(BLOCK);
                        self.set_time_later(&path, (0, 0));
                        if self.implied.len() < MOST {
                            self.implied.insert(path);
                        }
                    }
                }
                Err(Stop::Archive(error)) => return Err(malformed(error)),
                Err(Stop::Flaw(flaw)) => {
                    return Err(LayerError::Entry {
                        entry: name::shown(&entry.path),
                        flaw,
                    });
                }
            }
        }
        self.finish()
    }

    fn finish(mut self) -> Result<Unpacked, LayerError> {
        self.set_times()?;
        if self.replaced {
            self.usage = tree::usage(self.root).map_err(|errno| LayerError::Write {
                op: "count the layer",
                source: errno.into(),
            })?;
        }
        Ok(Unpacked {
            usage: self.usage,
            opaque: self.opaque,
            omissions: self.omissions,
            implied: self.implied.into_iter().collect(),
        })
    }

    fn set_times(&mut self) -> Result<(), LayerError> {
        for (path, time) in self.times.drain() {
            // A directory that a later entry replaced has no time to be set.
            if let Some(dir) = self.directories.itself(&path) {
                metadata::set_time(dir.as_fd(), time).map_err(|flaw| LayerError::Entry {
                    entry: name::shown(&path),
                    flaw,
                })?;
            }
        }
        self.times_bytes = 0;
        Ok(())
    }

    fn set_time_later(&mut self, path: &[u8], time: (i64, u32)) {
        self.times_bytes += path.len();
        self.times.insert(path.to_vec(), time);
    }

    fn add<R: BufRead>(&mut self, archive: &mut Archive<R>, entry: &Entry) -> Result<(), Stop> {
        let Some(name) = admission::name(entry, self.limits, &mut self.omissions)? else {
            return Ok(());
        };
        let Some((parent, last)) = name.split() else {
            return Ok(self.set_root(entry)?);
        };
        if last.starts_with(WHITEOUT) {
            return Ok(self.whiteout(parent, last)?);
        }
        let dir = self.directories.make(parent)?;
        match entry.kind {
            Kind::File => return self.file(archive, entry, dir.as_fd(), last),
            Kind::Directory => self.directory(entry, &name, dir.as_fd(), last)?,
            Kind::HardLink => self.hard_link(entry, &name, dir.as_fd(), last)?,
            Kind::Symlink => self.symlink(entry, dir.as_fd(), last)?,
            Kind::CharacterDevice => self.device(entry, dir.as_fd(), last)?,
            _ => self.fifo(entry, dir.as_fd(), last)?,
        }
        Ok(())
    }

    fn set_root(&mut self, entry: &Entry) -> Result<(), EntryFlaw> {
        if entry.kind != Kind::Directory {
            return Err(EntryFlaw::Root);
        }
        self.set_metadata(self.root, entry)?;
        self.set_time_later(b"", entry.mtime);
        Ok(())
    }

    fn directory(
        &mut self,
        entry: &Entry,
        path: &Name,
        parent: BorrowedFd<'_>,
        last: &[u8],
    ) -> Result<(), EntryFlaw> {
        let make = || mkdirat(parent, last, Mode::RWXU);
        let mut hides = false;
        match make() {
            Ok(()) => self.count(BLOCK),
            Err(Errno::EXIST) => {
                let old = stat(parent, last)?;
                if FileType::from_raw_mode(old.st_mode) != FileType::Directory {
                    hides = is_whiteout(&old);
                    self.remove(parent, last)?;
                    make().map_err(EntryFlaw::sys("mkdir"))?;
                }
            }
            Err(e) => return Err(EntryFlaw::sys("mkdir")(e)),
        }
        let dir = openat(parent, last, DIRECTORY, Mode::empty()).map_err(EntryFlaw::sys("open"))?;
        self.set_metadata(dir.as_fd(), entry)?;
        if hides {
            metadata::set_xattr(dir.as_fd(), OPAQUE.as_bytes(), b"y")?;
        }
        self.set_time_later(path.bytes(), entry.mtime);
        self.implied.remove(path.bytes());
        self.directories.remember(path.bytes(), dir);
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        last: &[u8],
    ) -> Result<(), Stop> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(parent, last, flags, Mode::RUSR | Mode::WUSR);
        let file: OwnedFd = self.make(parent, last, "create", open)?;
        let mut file = File::from(file);
        let written = write_data(archive, entry, &mut file)?;
        self.set_metadata(file.as_fd(), entry)?;
        metadata::set_time(file.as_fd(), entry.mtime)?;
        self.count(written.div_ceil(BLOCK) * BLOCK);
        Ok(())
    }

    fn symlink(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        last: &[u8],
    ) -> Result<(), EntryFlaw> {
        if entry.link.is_empty() {
            return Err(EntryFlaw::NoTarget);
        }
        let target = entry.link.as_slice();
        self.make(parent, last, "symlink", || symlinkat(target, parent, last))?;
        metadata::set_link(parent, last, entry)?;
        self.count(if target.len() < 60 { 0 } else { BLOCK });
        Ok(())
    }

    fn fifo(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        last: &[u8],
    ) -> Result<(), EntryFlaw> {
        let mode = Mode::from_raw_mode(0o600);
        self.make(parent, last, "mkfifo", || mkfifoat(parent, last, mode))?;
        metadata::set_node(parent, last, entry)?;
        self.count(0);
        Ok(())
    }

    fn device(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        last: &[u8],
    ) -> Result<(), EntryFlaw> {
        let mode = Mode::from_raw_mode(0o600);
        let number = makedev(entry.device.0, entry.device.1);
        self.make(parent, last, "mknod", || {
            mknodat(parent, last, FileType::CharacterDevice, mode, number)
        })?;
        metadata::set_node(parent, last, entry)?;
        self.count(0);
        Ok(())
    }

    fn set_metadata(&mut self, file: BorrowedFd<'_>, entry: &Entry) -> Result<(), EntryFlaw> {
        for flaw in metadata::set(file, entry)? {
            self.omissions.add(&entry.path, &flaw);
        }
        Ok(())
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        name: &Name,
        parent: BorrowedFd<'_>,
        last: &[u8],
    ) -> Result<(), EntryFlaw> {
        let missing = || EntryFlaw::Target(name::shown(&entry.link));
        let target = Name::clean(&entry.link, self.limits).map_err(|flaw| match flaw {
            EntryFlaw::Escape => EntryFlaw::TargetEscape(name::shown(&entry.link)),
            other => other,
        })?;
        let (target_parent, target_name) = target.split().ok_or_else(missing)?;
        if self.omissions.has(target.bytes()) {
            let flaw = EntryFlaw::TargetLeftOut(name::shown(&entry.link));
            self.omissions.add_entry(&entry.path, name.bytes(), &flaw);
            return Ok(());
        }
        let from = self
            .directories
            .existing(target_parent)
            .ok_or_else(missing)?;
        let old = match statat(&from, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(old) => old,
            Err(Errno::NOENT) => return Err(missing()),
            Err(e) => return Err(EntryFlaw::sys("stat the target")(e)),
        };
        if FileType::from_raw_mode(old.st_mode) == FileType::Directory || is_whiteout(&old) {
            return Err(missing());
        }
        if let Ok(here) = statat(parent, last, AtFlags::SYMLINK_NOFOLLOW)
            && (here.st_dev, here.st_ino) == (old.st_dev, old.st_ino)
        {
            return Ok(());
        }
        let link = || linkat(&from, target_name, parent, last, AtFlags::empty());
        self.make(parent, last, "link", link)
    }

    fn whiteout(&mut self, parent: &[u8], last: &[u8]) -> Result<(), EntryFlaw> {
        if last == WHITEOUT_OPAQUE {
            let dir = self.directories.make(parent)?;
            self.opaque |= parent.is_empty();
            return metadata::set_xattr(dir.as_fd(), OPAQUE.as_bytes(), b"y");
        }
        let hidden = &last[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(EntryFlaw::Whiteout);
        }
        let dir = self.directories.make(parent)?;
        match mknodat(&dir, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => self.count(0),
            Err(Errno::EXIST) => {
                // The layer's own directory of that name hides the lower one; a file does anyway.
                let old = stat(dir.as_fd(), hidden)?;
                if FileType::from_raw_mode(old.st_mode) == FileType::Directory {
                    let own = openat(&dir, hidden, DIRECTORY, Mode::empty())
                        .map_err(EntryFlaw::sys("open"))?;
                    metadata::set_xattr(own.as_fd(), OPAQUE.as_bytes(), b"y")?;
                }
            }
            Err(e) => return Err(EntryFlaw::sys("mknod")(e)),
        }
        Ok(())
    }

    /// Makes something that is not a directory; what is there already gives way.
    fn make<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        last: &[u8],
        op: &'static str,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, EntryFlaw> {
        match make() {
            Err(Errno::EXIST) => {
                self.remove(parent, last)?;
                make().map_err(EntryFlaw::sys(op))
            }
            result => result.map_err(EntryFlaw::sys(op)),
        }
    }

    fn remove(&mut self, parent: BorrowedFd<'_>, last: &[u8]) -> Result<(), EntryFlaw> {
        self.directories.forget();
        self.replaced = true;
        let name = std::ffi::CString::new(last).map_err(|_| EntryFlaw::LongPath)?;
        tree::remove(self.layout, parent, &name).map_err(EntryFlaw::sys("replace"))
    }

    fn count(&mut self, bytes: u64) {
        self.usage += Usage { bytes, inodes: 1 };
    }
}

fn malformed(error: ArchiveError) -> LayerError {
    match error {
        ArchiveError::Read(source) => LayerError::Decompress(source),
        ArchiveError::Flaw { offset, flaw } => LayerError::Tar { offset, flaw },
    }
}

fn stat(parent: BorrowedFd<'_>, last: &[u8]) -> Result<Stat, EntryFlaw> {
    statat(parent, last, AtFlags::SYMLINK_NOFOLLOW).map_err(EntryFlaw::sys("stat"))
}

/// Whether this is overlayfs's mark for a name that is hidden.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory of a layer hides what lower layers have under its name.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let mut value = [0u8; 4];
    match rustix::fs::fgetxattr(dir, OPAQUE, &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e),
    }
}
