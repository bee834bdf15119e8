//! Parent directories below a layer's root, by descriptor.
//!
//! Symbolic links in a parent's path are followed as a process inside the root would see them, and
//! never out of it.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, unlinkat,
};
use rustix::io::Errno;

use super::name::{self, split};
use super::{EntryFlaw, OPAQUE, is_whiteout, metadata, stat};
use crate::layout::DIRECTORY;

/// Descriptors kept; archives are sorted, so a few parents are all that is asked for.
const KEPT: usize = 32;

/// Symbolic links followed while a missing parent is made, as many as the kernel follows.
const LINKS: usize = 40;

/// The directories of a layer that is being extracted.
pub(super) struct Directories<'a> {
    root: BorrowedFd<'a>,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Made since somebody looked, without an entry of the archive.
    implied: Vec<Vec<u8>>,
}

impl<'a> Directories<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Directories<'a> {
        Directories {
            root,
            open: HashMap::new(),
            implied: Vec::new(),
        }
    }

    /// The directories that were made as parents only since this was asked last.
    pub(super) fn take_implied(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.implied)
    }

    /// Keeps the descriptor of a directory that was just made or opened.
    pub(super) fn remember(&mut self, path: &[u8], dir: OwnedFd) -> Rc<OwnedFd> {
        if self.open.len() >= KEPT {
            self.open.clear();
        }
        let dir = Rc::new(dir);
        self.open.insert(path.to_vec(), Rc::clone(&dir));
        dir
    }

    /// Forgets all descriptors: something was removed, and a path may mean something else now.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    /// The directory at `path`, if there is one.
    pub(super) fn existing(&self, path: &[u8]) -> Option<Rc<OwnedFd>> {
        match self.open.get(path) {
            Some(dir) => Some(Rc::clone(dir)),
            None => self.resolve(path).ok().map(Rc::new),
        }
    }

    /// The directory at `path`, unless it is not there or a symbolic link is in its place.
    pub(super) fn itself(&self, path: &[u8]) -> Option<OwnedFd> {
        self.resolve_with(path, OFlags::NOFOLLOW).ok()
    }

    /// The directory at `path`; it and its parents are made where they are missing.
    pub(super) fn make(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, EntryFlaw> {
        if let Some(dir) = self.open.get(path) {
            return Ok(Rc::clone(dir));
        }
        let dir = self.make_at(path, &mut 0)?;
        Ok(self.remember(path, dir))
    }

    fn make_at(&mut self, path: &[u8], links: &mut usize) -> Result<OwnedFd, EntryFlaw> {
        match self.resolve(path) {
            Ok(dir) => return Ok(dir),
            Err(Errno::NOENT | Errno::NOTDIR) if !path.is_empty() => {}
            Err(Errno::LOOP) => return Err(EntryFlaw::Loop),
            Err(e) => return Err(EntryFlaw::sys("open a parent")(e)),
        }
        let (parent_path, last) = split(path);
        let parent = self.make_at(parent_path, links)?;
        if matches!(last, b"" | b"." | b"..") {
            // From a link's target: it is there now that what comes before it is.
            return self.resolve(path).map_err(EntryFlaw::sys("open a parent"));
        }
        match mkdirat(&parent, last, Mode::RWXU) {
            Ok(()) => {
                self.implied.push(path.to_vec());
                return implicit(parent.as_fd(), last, false);
            }
            Err(Errno::EXIST) => {}
            Err(e) => return Err(EntryFlaw::sys("mkdir")(e)),
        }
        let there = stat(parent.as_fd(), last)?;
        if is_whiteout(&there) {
            unlinkat(&parent, last, AtFlags::empty()).map_err(EntryFlaw::sys("replace"))?;
            mkdirat(&parent, last, Mode::RWXU).map_err(EntryFlaw::sys("mkdir"))?;
            self.implied.push(path.to_vec());
            return implicit(parent.as_fd(), last, true);
        }
        // Nothing but a symbolic link to what is not there yet is left.
        let target = match readlinkat(&parent, last, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(_) => return Err(EntryFlaw::NotADirectory(name::shown(path))),
        };
        *links += 1;
        if *links > LINKS {
            return Err(EntryFlaw::Loop);
        }
        let path = if target.starts_with(b"/") {
            target
        } else {
            [parent_path, b"/", &target].concat()
        };
        self.make_at(trim(&path), links)
    }

    fn resolve(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.resolve_with(path, OFlags::empty())
    }

    fn resolve_with(&self, path: &[u8], more: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        openat2(self.root, path, flags, Mode::empty(), resolve)
    }
}

/// Gives a parent that the archive did not mention (so far) its mode.
fn implicit(parent: BorrowedFd<'_>, last: &[u8], hides: bool) -> Result<OwnedFd, EntryFlaw> {
    let dir = openat(parent, last, DIRECTORY, Mode::empty()).map_err(EntryFlaw::sys("open"))?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755)).map_err(EntryFlaw::sys("chmod"))?;
    if hides {
        metadata::set_xattr(dir.as_fd(), OPAQUE.as_bytes(), b"y")?;
    }
    Ok(dir)
}

/// A link's target without slashes at either end, so that its last name can be split off.
fn trim(path: &[u8]) -> &[u8] {
    let start = path
        .iter()
        .position(|byte| *byte != b'/')
        .unwrap_or(path.len());
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(start, |last| last + 1);
    &path[start..end]
}
