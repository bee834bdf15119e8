//! What a container has written, as the archive of a layer (image-spec layer.md): for commit, diff, build and
//! checkpoint.
//!
//! Overlayfs's marks become the archive's: a character device 0:0 is `.wh.NAME`, an opaque directory has
//! `.wh..wh..opq` in it. The order is that of the names, parents before what is in them, so that the same tree
//! always gives the same bytes. A container may go on writing meanwhile, and has filled the tree with whatever it
//! liked: must never follow a link, wait for a fifo, recurse, or hold more of it in memory than names of the
//! directories on the way and of files with several links, both within a limit.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, major, minor, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::archive::{Entry, Kind, Unwritable, Writer};
use crate::error::{Error, Result};
use crate::extract::{Extractor, is_opaque, is_whiteout};
use crate::layout::DIRECTORY;
use crate::{RootFilesystem, tree};
use apart::Apart;
pub use changes::Change;

mod apart;
mod changes;
mod xattrs;

const CHUNK: usize = 128 << 10;
/// The most bytes of names held at once, and as many again of files with several links.
const NAMES: usize = 64 << 20;
/// The longest path, and the deepest, that a layer may have when it is unpacked.
const PATH: usize = 4095;
const DEPTH: usize = 512;
/// Directories on the way that are kept open.
const OPEN: usize = 16;
const HIDDEN: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why a container's difference cannot be an archive.
#[derive(Debug, thiserror::Error)]
pub enum DiffFlaw {
    /// It would hide another file when it is unpacked.
    #[error(
        "a name that begins with .wh. has a meaning in layers, and cannot be the name of a file of one"
    )]
    Name,
    /// The path is longer or deeper than layers may have.
    #[error("its path is longer than 4095 bytes, or deeper than 512 directories")]
    LongPath,
    /// The file became shorter, or another one, while it was read.
    #[error("it changed while it was read: pause the container, or try again")]
    Changed,
    /// overlayfs left its content in a lower layer.
    #[error("overlayfs keeps its content in the image (metacopy or redirect_dir is on)")]
    Elsewhere,
    /// An extended attribute has no form in an archive.
    #[error("its extended attribute {0:?} has no form in an archive")]
    Xattr(String),
    /// There is too much of something.
    #[error("more than {max} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// The kernel failed.
    #[error("{op}: {source}")]
    Io {
        /// What was attempted.
        op: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl DiffFlaw {
    fn sys(op: &'static str) -> impl FnOnce(Errno) -> DiffFlaw {
        move |errno| DiffFlaw::Io {
            op,
            source: errno.into(),
        }
    }
}

/// What an archive of a difference has in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Difference {
    /// Entries, those that hide something included.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Sockets, which no archive holds and nobody can use again.
    pub sockets: u64,
}

/// Which times of files an archive has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Times {
    /// Those that they have.
    #[default]
    Kept,
    /// This one, in seconds since 1970.
    All(i64),
    /// Those that they have, but none after this one.
    Until(i64),
}

impl Times {
    fn of(self, (seconds, nanoseconds): (i64, u32)) -> (i64, u32) {
        match self {
            Times::All(time) => (time, 0),
            Times::Until(time) if seconds >= time => (time, 0),
            Times::Kept | Times::Until(_) => (seconds, nanoseconds),
        }
    }
}

/// An error on the way.
enum Stop {
    Flaw(DiffFlaw),
    /// Whoever takes the archive does not take it.
    Sink(io::Error),
}

impl From<DiffFlaw> for Stop {
    fn from(flaw: DiffFlaw) -> Stop {
        Stop::Flaw(flaw)
    }
}

impl From<Unwritable> for Stop {
    fn from(error: Unwritable) -> Stop {
        match error {
            Unwritable::Write(error) => Stop::Sink(error),
            Unwritable::Xattr(name) => {
                Stop::Flaw(DiffFlaw::Xattr(String::from_utf8_lossy(&name).into_owned()))
            }
            Unwritable::Extension => Stop::Flaw(DiffFlaw::Limit {
                what: "bytes of extended attributes",
                max: 1 << 20,
            }),
        }
    }
}

impl RootFilesystem {
    /// Writes what the container has written as the archive of a layer to `out`, uncompressed: unpacked on the
    /// same image it gives the same tree.
    ///
    /// Owners, modes, times to the nanosecond, links, devices, and the attributes that layers may have are in
    /// it; sockets are not. What the container writes meanwhile is in it or not, but no file half.
    ///
    /// Errors with [`Error::Unsupported`] when nothing can be written to it, [`Error::Diff`], and
    /// [`Error::DiffSink`] when `out` fails.
    pub fn write_difference(&self, out: impl Write) -> Result<Difference> {
        self.write_difference_with(Times::Kept, out)
    }

    /// As [`write_difference`](Self::write_difference), with other times of files.
    pub fn write_difference_with(&self, times: Times, out: impl Write) -> Result<Difference> {
        let (container, upper) = self.upper()?;
        let max = self.limits().unpacked_bytes;
        let mut walk = Walk::new(upper.as_fd(), Writer::new(out), max);
        walk.times = times;
        let walked = walk.run();
        walk.end(container, walked)
    }
}

impl crate::Store {
    /// Writes what is below a directory as an archive to `out`, as [`RootFilesystem::write_difference`] writes what
    /// a container has written. `whose` is named in errors.
    ///
    /// Errors as that.
    pub fn write_directory(
        &self,
        dir: BorrowedFd<'_>,
        whose: &str,
        out: impl Write,
    ) -> Result<Difference> {
        self.write_directory_with(Times::Kept, dir, whose, out)
    }

    /// As [`write_directory`](Self::write_directory), with other times of files.
    pub fn write_directory_with(
        &self,
        times: Times,
        dir: BorrowedFd<'_>,
        whose: &str,
        out: impl Write,
    ) -> Result<Difference> {
        let mut walk = Walk::new(dir, Writer::new(out), self.limits().unpacked_bytes);
        walk.times = times;
        let walked = walk.run();
        walk.end(whose.to_owned(), walked)
    }

    /// Makes what [`write_directory`](Self::write_directory) has written below an empty directory that nobody else
    /// changes. `from` may be anything: it is read as a layer is.
    ///
    /// Errors with [`Error::DiffSource`]: what was made by then is there.
    pub fn read_directory(
        &self,
        dir: BorrowedFd<'_>,
        whose: &str,
        from: impl io::BufRead,
    ) -> Result<()> {
        let mut archive = crate::archive::Archive::new(from);
        let extractor = Extractor::new(self.layout(), dir, self.limits());
        let read = extractor.run(&mut archive);
        read.map(drop).map_err(|source| Error::DiffSource {
            container: whose.to_owned(),
            source,
        })
    }
}

/// A directory on the way.
struct Level {
    /// Bytes of its path in [`Walk::path`].
    length: usize,
    /// What is still to come, the next one last.
    names: Vec<CString>,
    dir: Option<OwnedFd>,
}

struct Walk<'a, W> {
    top: BorrowedFd<'a>,
    writer: Writer<W>,
    levels: Vec<Level>,
    /// Where it is: for messages too.
    path: Vec<u8>,
    /// Bytes of names in `levels` and of paths in `linked`.
    held: usize,
    /// The first path of each file with several links.
    linked: HashMap<(u64, u64), Vec<u8>>,
    done: Difference,
    max: u64,
    /// Where marks go, if not into the archive.
    apart: Option<Apart>,
    times: Times,
    /// Names alone are wanted, and no archive.
    names: Option<Vec<Vec<u8>>>,
}

impl<'a, W: Write> Walk<'a, W> {
    fn new(top: BorrowedFd<'a>, writer: Writer<W>, max: u64) -> Walk<'a, W> {
        Walk {
            top,
            writer,
            levels: Vec::new(),
            path: Vec::new(),
            held: 0,
            linked: HashMap::new(),
            done: Difference::default(),
            max,
            apart: None,
            times: Times::Kept,
            names: None,
        }
    }

    /// Ends the archive of that container, if the walk came to its end.
    fn end(self, container: String, walked: Result<(), Stop>) -> Result<Difference> {
        match walked {
            Ok(()) => {}
            Err(Stop::Sink(source)) => return Err(Error::DiffSink { container, source }),
            Err(Stop::Flaw(flaw)) => {
                return Err(Error::Diff {
                    container,
                    path: crate::extract::shown(&self.path),
                    flaw,
                });
            }
        }
        let finished = self.writer.finish();
        finished.map_err(|source| Error::DiffSink { container, source })?;
        Ok(self.done)
    }

    fn run(&mut self) -> Result<(), Stop> {
        let top = openat(self.top, c".", DIRECTORY, Mode::empty());
        self.enter(top.map_err(DiffFlaw::sys("open"))?)?;
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.length);
            let Some(name) = level.names.pop() else {
                self.levels.pop();
                continue;
            };
            self.held -= name.as_bytes().len();
            if level.length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            if self.path.len() > PATH || self.levels.len() > DEPTH {
                return Err(DiffFlaw::LongPath.into());
            }
            self.one(&name)?;
        }
        Ok(())
    }

    /// The entry of a directory, and what is in it as the next level.
    fn enter(&mut self, dir: OwnedFd) -> Result<(), Stop> {
        let stat = rustix::fs::fstat(&dir).map_err(DiffFlaw::sys("stat"))?;
        let mut entry = entry(Kind::Directory, &self.path, &stat);
        entry.path = if self.path.is_empty() {
            b"./".to_vec()
        } else {
            [&self.path, &b"/"[..]].concat()
        };
        if xattrs::is_elsewhere(dir.as_fd())? {
            return Err(DiffFlaw::Elsewhere.into());
        }
        entry.xattrs = xattrs::of(dir.as_fd())?;
        self.write(&mut entry)?;
        if is_opaque(dir.as_fd()).map_err(DiffFlaw::sys("getxattr"))? {
            self.mark(OPAQUE)?;
        }
        let mut names = tree::names(dir.as_fd()).map_err(DiffFlaw::sys("read"))?;
        self.hold(names.iter().map(|name| name.as_bytes().len()).sum())?;
        names.sort_unstable_by(|one, other| other.cmp(one));
        self.levels.push(Level {
            length: self.path.len(),
            names,
            dir: Some(dir),
        });
        if let Some(far) = self.levels.len().checked_sub(OPEN + 1) {
            self.levels[far].dir = None;
        }
        Ok(())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), DiffFlaw> {
        self.held += bytes;
        match self.held > NAMES {
            true => Err(DiffFlaw::Limit {
                what: "bytes of names in a directory, or of files with several links",
                max: NAMES as u64,
            }),
            false => Ok(()),
        }
    }

    /// The directory that the walk is in.
    fn parent(&mut self) -> Result<BorrowedFd<'_>, Stop> {
        let top = self.top;
        // There is a level as long as anything is looked at.
        let Some(level) = self.levels.last_mut() else {
            return Ok(top);
        };
        if level.dir.is_none() {
            let path = &self.path[..level.length];
            let opened = tree::open_below(top, path).map_err(DiffFlaw::sys("open"))?;
            level.dir = Some(opened);
        }
        Ok(level.dir.as_ref().map_or(top, AsFd::as_fd))
    }

    fn one(&mut self, name: &CStr) -> Result<(), Stop> {
        let parent = self.parent()?;
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Gone since the names were read.
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(DiffFlaw::sys("stat"))?,
        };
        if is_whiteout(&stat) {
            return self.mark(&[HIDDEN, name.to_bytes()].concat());
        }
        if name.to_bytes().starts_with(HIDDEN) {
            return Err(DiffFlaw::Name.into());
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let opened = openat(parent, name, DIRECTORY, Mode::empty());
            return match opened {
                Err(Errno::NOENT) => Ok(()),
                Err(Errno::LOOP | Errno::NOTDIR) => Err(DiffFlaw::Changed.into()),
                other => self.enter(other.map_err(DiffFlaw::sys("open"))?),
            };
        }
        if kind == FileType::Socket {
            self.done.sockets += 1;
            return Ok(());
        }
        if self.is_linked(&stat)? {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => self.file(name)?,
            FileType::Symlink => self.symlink(name, &stat)?,
            FileType::CharacterDevice => self.node(Kind::CharacterDevice, &stat)?,
            FileType::BlockDevice => self.node(Kind::BlockDevice, &stat)?,
            FileType::Fifo => self.node(Kind::Fifo, &stat)?,
            _ => return Err(DiffFlaw::Changed.into()),
        }
        self.remember(&stat)
    }

    /// A link to a file that was written already.
    fn is_linked(&mut self, stat: &Stat) -> Result<bool, Stop> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) else {
            return Ok(false);
        };
        let mut link = entry(Kind::HardLink, &self.path, stat);
        link.link = first.clone();
        self.write(&mut link)?;
        Ok(true)
    }

    fn remember(&mut self, stat: &Stat) -> Result<(), Stop> {
        if stat.st_nlink < 2 {
            return Ok(());
        }
        self.hold(self.path.len())?;
        let path = self.path.clone();
        self.linked.insert((stat.st_dev, stat.st_ino), path);
        Ok(())
    }

    fn file(&mut self, name: &CStr) -> Result<(), Stop> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(self.parent()?, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::LOOP) => return Err(DiffFlaw::Changed.into()),
            other => other.map_err(DiffFlaw::sys("open"))?,
        };
        let stat = rustix::fs::fstat(&file).map_err(DiffFlaw::sys("stat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(DiffFlaw::Changed.into());
        }
        if xattrs::is_elsewhere(file.as_fd())? {
            return Err(DiffFlaw::Elsewhere.into());
        }
        let mut entry = entry(Kind::File, &self.path, &stat);
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.xattrs = xattrs::of(file.as_fd())?;
        self.done.bytes += entry.size;
        if self.done.bytes > self.max {
            return Err(Stop::Flaw(DiffFlaw::Limit {
                what: "bytes of files",
                max: self.max,
            }));
        }
        self.write(&mut entry)?;
        match self.names {
            Some(_) => Ok(()),
            None => self.content(file.into(), entry.size),
        }
    }

    fn content(&mut self, file: File, size: u64) -> Result<(), Stop> {
        let mut chunk = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK).max(1))];
        // What is appended meanwhile does not belong to it.
        let mut file = file.take(size);
        let mut left = size;
        while left > 0 {
            let read = match file.read(&mut chunk) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(|source| DiffFlaw::Io { op: "read", source })?,
            };
            if read == 0 {
                return Err(DiffFlaw::Changed.into());
            }
            self.writer.data(&chunk[..read]).map_err(Stop::Sink)?;
            left -= read as u64;
        }
        self.writer.end(size).map_err(Stop::Sink)
    }

    fn symlink(&mut self, name: &CStr, stat: &Stat) -> Result<(), Stop> {
        let target = match readlinkat(self.parent()?, name, Vec::new()) {
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::INVAL) => return Err(DiffFlaw::Changed.into()),
            other => other.map_err(DiffFlaw::sys("readlink"))?,
        };
        let mut link = entry(Kind::Symlink, &self.path, stat);
        link.link = target.into_bytes();
        self.write(&mut link)
    }

    fn node(&mut self, kind: Kind, stat: &Stat) -> Result<(), Stop> {
        let mut node = entry(kind, &self.path, stat);
        if kind != Kind::Fifo {
            node.device = (major(stat.st_rdev), minor(stat.st_rdev));
        }
        self.write(&mut node)
    }

    /// An empty file beside what the walk is at, or in the directory that it enters.
    fn mark(&mut self, name: &[u8]) -> Result<(), Stop> {
        if let Some(apart) = &mut self.apart {
            let path = self.path.clone();
            match name == OPAQUE {
                true => apart.replaced.push(path),
                false => drop(apart.removed.insert(path)),
            }
            return Ok(self.hold(self.path.len())?);
        }
        let parent = match name == OPAQUE {
            true => &self.path[..],
            false => crate::extract::split(&self.path).0,
        };
        let mut path = parent.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.write(&mut Entry {
            kind: Kind::File,
            path,
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            device: (0, 0),
            mtime: (0, 0),
            size: 0,
            sparse: None,
            xattrs: Vec::new(),
        })
    }

    fn write(&mut self, entry: &mut Entry) -> Result<(), Stop> {
        self.done.entries += 1;
        if let Some(names) = &mut self.names {
            names.push(self.path.clone());
            return Ok(self.hold(self.path.len())?);
        }
        entry.mtime = self.times.of(entry.mtime);
        Ok(self.writer.begin(entry)?)
    }
}

fn entry(kind: Kind, path: &[u8], stat: &Stat) -> Entry {
    Entry {
        kind,
        path: path.to_vec(),
        link: Vec::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        device: (0, 0),
        mtime: (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ),
        size: 0,
        sparse: None,
        xattrs: Vec::new(),
    }
}
