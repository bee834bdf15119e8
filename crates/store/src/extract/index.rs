//! From archive entries to the tree of an index that points into the archive (`erofs`): what
//! [`Extractor`](super::Extractor) makes of the same entries, without a file system. Both must give the same
//! answers and the same tree.
//!
//! Hostile input. Names are resolved in the tree as the kernel would below the layer's root. Must never hold more of
//! the archive than [`WEIGHT`]: what is larger, or what the format has no place for, is unpacked.

use std::collections::HashSet;
use std::io::BufRead;

use erofs::{Attributes, Content, Extent, Id, Tree};
use rustix::io::Errno;

use super::name::{self, Name};
use super::paths::{self, Step};
use super::{EntryFlaw, OPAQUE, Omissions, WHITEOUT, WHITEOUT_OPAQUE};
use super::{admission, malformed, metadata};
use crate::archive::{Archive, Entry, Kind};
use crate::error::LayerError;
use crate::implicit_directories::MOST;
use crate::limits::Limits;

/// The most bytes of memory that a tree may take, roughly: 200,000 files.
const WEIGHT: u64 = 64 << 20;
/// What a file takes beside its name, its extents and its attributes.
const NODE: u64 = 320;
/// The most extended attributes of a file.
const XATTRS: usize = 256;
/// The longest target of a symbolic link (PATH_MAX, with its NUL).
const TARGET: usize = 4095;

/// What a layer turned out to be.
pub(crate) enum Indexed {
    /// All of it.
    Whole(Index),
    /// It cannot be had so, and why. What else is wrong with it is not known.
    Unfit(String),
}

/// The tree of a layer.
pub(crate) struct Index {
    pub tree: Tree,
    /// Its root hides all layers below.
    pub opaque: bool,
    /// What was left out of it.
    pub omissions: Omissions,
    /// Directories that no entry is about.
    pub implied: Vec<Vec<u8>>,
}

/// Makes the entries of one layer in a tree.
pub(crate) struct Indexer<'a> {
    limits: &'a Limits,
    tree: Tree,
    opaque: bool,
    omissions: Omissions,
    implied: HashSet<Vec<u8>>,
    entries: u64,
    weight: u64,
    /// The parent that was asked for last: archives are sorted.
    parent: Option<(Vec<u8>, Id)>,
}

/// Why it does not go on.
enum Stop {
    Flaw(EntryFlaw),
    Unfit(String),
}

impl From<EntryFlaw> for Stop {
    fn from(flaw: EntryFlaw) -> Stop {
        Stop::Flaw(flaw)
    }
}

impl From<erofs::Error> for Stop {
    fn from(error: erofs::Error) -> Stop {
        Stop::Unfit(error.to_string())
    }
}

impl<'a> Indexer<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Indexer<'a> {
        let root = Attributes {
            mode: 0o755,
            ..Attributes::default()
        };
        Indexer {
            limits,
            tree: Tree::new(root),
            opaque: false,
            omissions: Omissions::default(),
            implied: HashSet::new(),
            entries: 0,
            weight: 0,
            parent: None,
        }
    }

    /// Makes all entries of an archive, which begins where its file does.
    pub(crate) fn run<R: BufRead>(
        mut self,
        archive: &mut Archive<R>,
    ) -> Result<Indexed, LayerError> {
        while let Some(entry) = archive.next().map_err(malformed)? {
            self.entries += 1;
            admission::fits(&entry, self.entries, self.limits)?;
            match self.add(&entry, archive.offset()) {
                Ok(()) if self.weight <= WEIGHT => {}
                Ok(()) => return Ok(Indexed::Unfit("it has too many entries".into())),
                Err(Stop::Unfit(why)) => return Ok(Indexed::Unfit(why)),
                Err(Stop::Flaw(flaw)) => {
                    return Err(LayerError::Entry {
                        entry: name::shown(&entry.path),
                        flaw,
                    });
                }
            }
        }
        Ok(Indexed::Whole(Index {
            tree: self.tree,
            opaque: self.opaque,
            omissions: self.omissions,
            implied: self.implied.into_iter().collect(),
        }))
    }

    fn add(&mut self, entry: &Entry, data: u64) -> Result<(), Stop> {
        let Some(name) = admission::name(entry, self.limits, &mut self.omissions)? else {
            return Ok(());
        };
        let Some((parent, last)) = name.split() else {
            return self.set_root(entry);
        };
        if last.starts_with(WHITEOUT) {
            return self.whiteout(parent, last);
        }
        let dir = self.directory(parent)?;
        match entry.kind {
            Kind::Directory => return self.add_directory(entry, &name, dir, last),
            Kind::HardLink => return self.hard_link(entry, &name, dir, last),
            _ => {}
        }
        let content = content(entry, data)?;
        self.vacate(dir, last);
        let mut attributes = of(entry);
        match content {
            Content::File { .. } => self.set_xattrs(entry, &mut attributes)?,
            // As the kernel makes them.
            Content::Symlink(_) => attributes.mode = 0o777,
            _ => {}
        }
        self.insert(dir, last, attributes, content)?;
        Ok(())
    }

    fn set_root(&mut self, entry: &Entry) -> Result<(), Stop> {
        if entry.kind != Kind::Directory {
            return Err(EntryFlaw::Root.into());
        }
        self.set_directory(self.tree.root(), entry)
    }

    fn add_directory(
        &mut self,
        entry: &Entry,
        path: &Name,
        dir: Id,
        last: &[u8],
    ) -> Result<(), Stop> {
        let old = self.tree.child(dir, last);
        let made = match old {
            Some(old) if self.tree.is_directory(old) => old,
            other => {
                let hides = other.is_some_and(|old| self.is_whiteout(old));
                self.vacate(dir, last);
                let made = self.insert(dir, last, Attributes::default(), Content::Directory)?;
                if hides {
                    self.hide(made);
                }
                made
            }
        };
        self.set_directory(made, entry)?;
        self.implied.remove(path.bytes());
        Ok(())
    }

    /// Gives a directory what an entry says of it; attributes of before stay unless it names them.
    fn set_directory(&mut self, directory: Id, entry: &Entry) -> Result<(), Stop> {
        let mut attributes = of(entry);
        attributes.xattrs = std::mem::take(&mut self.tree.attributes_mut(directory).xattrs);
        self.set_xattrs(entry, &mut attributes)?;
        *self.tree.attributes_mut(directory) = attributes;
        Ok(())
    }

    fn set_xattrs(&mut self, entry: &Entry, attributes: &mut Attributes) -> Result<(), Stop> {
        for (name, value) in metadata::kept_xattrs(entry) {
            if let Some(errno) = metadata::refused(name, value) {
                return Err(EntryFlaw::sys("setxattr")(errno).into());
            }
            let before = attributes.xattrs.iter().position(|(old, _)| **old == *name);
            let old = before.map(|at| attributes.xattrs.remove(at));
            attributes.xattrs.push((name.into(), value.into()));
            self.weight += (name.len() + value.len()) as u64;
            let few = attributes.xattrs.len() <= XATTRS && name.len() <= name::NAME_MAX;
            if few && erofs::fits(attributes) {
                continue;
            }
            attributes.xattrs.pop();
            attributes.xattrs.extend(old);
            let flaw = EntryFlaw::XattrTooLarge(name::shown(name));
            self.omissions.add(&entry.path, &flaw);
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, name: &Name, dir: Id, last: &[u8]) -> Result<(), Stop> {
        let missing = || EntryFlaw::Target(name::shown(&entry.link));
        let target = Name::clean(&entry.link, self.limits).map_err(|flaw| match flaw {
            EntryFlaw::Escape => EntryFlaw::TargetEscape(name::shown(&entry.link)),
            other => other,
        })?;
        let (parent, target_name) = target.split().ok_or_else(missing)?;
        if self.omissions.has(target.bytes()) {
            let flaw = EntryFlaw::TargetLeftOut(name::shown(&entry.link));
            self.omissions.add_entry(&entry.path, name.bytes(), &flaw);
            return Ok(());
        }
        let from = paths::resolve(&self.tree, self.tree.root(), parent);
        let from = from.map_err(|_| missing())?;
        let old = self.tree.child(from, target_name).ok_or_else(missing)?;
        if self.tree.is_directory(old) || self.is_whiteout(old) {
            return Err(missing().into());
        }
        if self.tree.child(dir, last) == Some(old) {
            return Ok(());
        }
        self.vacate(dir, last);
        if self.tree.child(from, target_name) != Some(old) {
            // It was below what gave way.
            return Err(EntryFlaw::sys("link")(Errno::NOENT).into());
        }
        self.weight += NODE / 2 + last.len() as u64;
        Ok(self.tree.link(dir, last, old)?)
    }

    fn whiteout(&mut self, parent: &[u8], last: &[u8]) -> Result<(), Stop> {
        if last == WHITEOUT_OPAQUE {
            let dir = self.directory(parent)?;
            self.opaque |= parent.is_empty();
            self.hide(dir);
            return Ok(());
        }
        let hidden = &last[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(EntryFlaw::Whiteout.into());
        }
        let dir = self.directory(parent)?;
        match self.tree.child(dir, hidden) {
            // The layer's own directory of that name hides the lower one; a file does anyway.
            Some(own) if self.tree.is_directory(own) => self.hide(own),
            Some(_) => {}
            None => {
                let mark = Content::CharacterDevice(0, 0);
                self.insert(dir, hidden, Attributes::default(), mark)?;
            }
        }
        Ok(())
    }

    /// Marks a directory as one that hides what lower layers have under its name.
    fn hide(&mut self, directory: Id) {
        let xattrs = &mut self.tree.attributes_mut(directory).xattrs;
        if !xattrs.iter().any(|(name, _)| **name == *OPAQUE.as_bytes()) {
            xattrs.push((OPAQUE.as_bytes().into(), b"y".as_slice().into()));
        }
    }

    fn is_whiteout(&self, file: Id) -> bool {
        *self.tree.content(file) == Content::CharacterDevice(0, 0)
    }

    /// What is there gives way.
    fn vacate(&mut self, dir: Id, last: &[u8]) {
        if self.tree.remove(dir, last) {
            self.parent = None;
        }
    }

    fn insert(
        &mut self,
        dir: Id,
        name: &[u8],
        attributes: Attributes,
        content: Content,
    ) -> Result<Id, Stop> {
        self.weight += NODE + name.len() as u64;
        self.weight += match &content {
            Content::File { extents, .. } => size_of_val::<[Extent]>(extents) as u64,
            Content::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        Ok(self.tree.insert(dir, name, attributes, content)?)
    }

    /// The directory at a path; it and its parents are made where they are missing.
    fn directory(&mut self, path: &[u8]) -> Result<Id, Stop> {
        if let Some((known, dir)) = &self.parent
            && known == path
        {
            return Ok(*dir);
        }
        let dir = match paths::resolve(&self.tree, self.tree.root(), path) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make(path)?,
            other => other.map_err(unreachable)?,
        };
        self.parent = Some((path.to_vec(), dir));
        Ok(dir)
    }

    /// Goes the path, makes what is missing, and follows links to what is not there yet.
    fn make(&mut self, path: &[u8]) -> Result<Id, Stop> {
        let mut steps = paths::steps(path.into(), 0);
        let (mut dir, mut links) = (self.tree.root(), 0);
        while let Some(step) = steps.pop() {
            match step.name() {
                b"." => continue,
                b".." => {
                    dir = self.tree.parent(dir);
                    continue;
                }
                name if name.len() > name::NAME_MAX => {
                    return Err(unreachable(Errno::NAMETOOLONG).into());
                }
                _ => {}
            }
            let Some(there) = self.tree.child(dir, step.name()) else {
                dir = self.imply(dir, &step, false)?;
                continue;
            };
            if self.tree.is_directory(there) {
                dir = there;
            } else if self.is_whiteout(there) {
                self.vacate(dir, step.name());
                dir = self.imply(dir, &step, true)?;
            } else if let Content::Symlink(target) = self.tree.content(there) {
                match paths::resolve(&self.tree, dir, target) {
                    Ok(there) => dir = there,
                    Err(Errno::NOENT | Errno::NOTDIR) => {
                        links += 1;
                        if links > paths::LINKS {
                            return Err(EntryFlaw::Loop.into());
                        }
                        let (more, absolute) = step.follow(target).map_err(unreachable)?;
                        steps.extend(more);
                        if absolute {
                            dir = self.tree.root();
                        }
                    }
                    Err(errno) => return Err(unreachable(errno).into()),
                }
            } else {
                return Err(EntryFlaw::NotADirectory(name::shown(step.path())).into());
            }
        }
        Ok(dir)
    }

    /// Makes a parent that the archive did not mention (so far).
    fn imply(&mut self, dir: Id, step: &Step, hides: bool) -> Result<Id, Stop> {
        let attributes = Attributes {
            mode: 0o755,
            ..Attributes::default()
        };
        let made = self.insert(dir, step.name(), attributes, Content::Directory)?;
        if hides {
            self.hide(made);
        }
        self.weight += step.path().len() as u64;
        if self.implied.len() < MOST {
            self.implied.insert(step.path().to_vec());
        }
        Ok(made)
    }
}

/// Why a parent cannot be had.
fn unreachable(errno: Errno) -> EntryFlaw {
    match errno {
        Errno::LOOP => EntryFlaw::Loop,
        other => EntryFlaw::sys("open a parent")(other),
    }
}

fn of(entry: &Entry) -> Attributes {
    Attributes {
        // Twelve bits.
        mode: (entry.mode & 0o7777) as u16,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: Vec::new(),
    }
}

fn content(entry: &Entry, data: u64) -> Result<Content, EntryFlaw> {
    Ok(match entry.kind {
        Kind::File => Content::File {
            size: entry.size,
            extents: extents(entry, data),
        },
        Kind::Symlink if entry.link.is_empty() => return Err(EntryFlaw::NoTarget),
        Kind::Symlink if entry.link.len() > TARGET => {
            return Err(EntryFlaw::sys("symlink")(Errno::NAMETOOLONG));
        }
        Kind::Symlink => Content::Symlink(entry.link.as_slice().into()),
        Kind::CharacterDevice => Content::CharacterDevice(entry.device.0, entry.device.1),
        _ => Content::Fifo,
    })
}

/// Where a file's bytes are in the archive. Those of a sparse one lie there one after the other.
fn extents(entry: &Entry, data: u64) -> Box<[Extent]> {
    let mut at = data;
    let mut extent = |offset, length| {
        let extent = Extent { offset, at, length };
        at += length;
        extent
    };
    let extents: Vec<Extent> = match &entry.sparse {
        None => vec![extent(0, entry.size)],
        Some(map) => map
            .iter()
            .map(|piece| extent(piece.offset, piece.length))
            .collect(),
    };
    let full = extents.into_iter().filter(|extent| extent.length > 0);
    full.collect()
}
