//! A directory as the root of all paths in it: of a context, a stage, an image. Whoever filled it is hostile: links and
//! `..` lead nowhere outside (openat2(2), RESOLVE_IN_ROOT), whatever is renamed meanwhile.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, mkdirat, openat2,
    readlinkat, statat,
};
use rustix::io::{Errno, Result};

/// Links on the way to a path, as the kernel has it.
const LINKS: usize = 40;
/// How often a rename that comes in between is tried again.
const RACES: usize = 64;
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// A directory that is a root.
#[derive(Debug)]
pub(crate) struct Tree(OwnedFd);

/// Who gets what is made on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Tree {
    pub(crate) fn new(root: OwnedFd) -> Tree {
        Tree(root)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens a path, whose links lead within the root.
    pub(crate) fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let path = path.trim_start_matches('/');
        let path = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES {
            match openat2(
                &self.0,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// A directory by a path without links and `..`.
    pub(crate) fn plain_directory(&self, path: &str) -> Result<OwnedFd> {
        let path = path.trim_start_matches('/');
        let path = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.0, path, DIRECTORY, Mode::empty(), resolve)
    }

    /// What is at a path, through links; `None` when nothing is.
    pub(crate) fn stat(&self, path: &str) -> Result<Option<Stat>> {
        match self.open(path, OFlags::PATH) {
            Ok(found) => rustix::fs::fstat(&found).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn is_directory(&self, path: &str) -> Result<bool> {
        let found = self.stat(path)?;
        Ok(found.is_some_and(|stat| kind(&stat) == FileType::Directory))
    }

    /// The beginning of a file; nothing when there is none.
    pub(crate) fn read(&self, path: &str, max: u64) -> std::io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.open(path, flags) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Where a path leads that need not be there, without links and `..`, relative to the root. Directories that are
    /// missing are made if `make`.
    pub(crate) fn resolve(&self, path: &str, make: Option<Made>) -> Result<String> {
        let mut left: VecDeque<String> = path.split('/').map(str::to_owned).collect();
        let mut at: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at.pop();
                    continue;
                }
                _ => {}
            }
            let parent = match self.plain_directory(&at.join("/")) {
                Ok(parent) => parent,
                // Nothing below what is not there.
                Err(Errno::NOENT) if make.is_none() => {
                    at.push(part);
                    continue;
                }
                Err(e) => return Err(e),
            };
            match statat(&parent, part.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if kind(&stat) == FileType::Symlink => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = readlinkat(&parent, part.as_str(), Vec::new())?;
                    let target = target.into_string().map_err(|_| Errno::ILSEQ)?;
                    if target.starts_with('/') {
                        at.clear();
                    }
                    for step in target.split('/').rev() {
                        left.push_front(step.to_owned());
                    }
                    if left.len() > 4096 {
                        return Err(Errno::NAMETOOLONG);
                    }
                }
                Ok(stat)
                    if kind(&stat) == FileType::Directory || left.is_empty() && make.is_none() =>
                {
                    at.push(part)
                }
                Ok(_) => return Err(Errno::NOTDIR),
                Err(Errno::NOENT) => {
                    if let Some(made) = make {
                        make_directory(parent.as_fd(), &part, made)?;
                    }
                    at.push(part);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(at.join("/"))
    }
}

/// Makes a directory that is not there.
pub(crate) fn make_directory(parent: BorrowedFd<'_>, name: &str, made: Made) -> Result<()> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(e) => return Err(e),
    }
    let owner = (Some(Uid::from_raw(made.uid)), Some(Gid::from_raw(made.gid)));
    chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let dir = openat2(parent, name, DIRECTORY, Mode::empty(), resolve)?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(made.mode & 0o7777))
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The names in a directory, sorted; those that are no text are an error.
pub(crate) fn names(dir: BorrowedFd<'_>) -> std::io::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) => all.push(name.to_owned()),
            Err(_) => {
                let shown = entry.file_name().to_string_lossy();
                return Err(std::io::Error::other(format!(
                    "the name {shown:?} is not UTF-8"
                )));
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const OWN: Made = Made {
        mode: 0o755,
        uid: 0,
        gid: 0,
    };

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::write(root.join("file"), "inside").unwrap();
        symlink("/../../secret", root.join("out")).unwrap();
        symlink("../../..", root.join("a/up")).unwrap();
        symlink("/a/new/deep", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fd = rustix::fs::open(&root, DIRECTORY, Mode::empty()).unwrap();
        (dir, Tree::new(fd))
    }

    #[test]
    fn no_link_leads_out_of_the_root() {
        let (_dir, tree) = tree();
        assert_eq!(tree.read("out", 100).unwrap(), b"");
        assert_eq!(tree.read("../../../file", 100).unwrap(), b"inside");
        assert_eq!(tree.read("a/up/file", 100).unwrap(), b"inside");
        assert_eq!(tree.resolve("a/up/../a/./b", None).unwrap(), "a/b");
        assert_eq!(tree.resolve("out", None).unwrap(), "secret");
        assert_eq!(tree.resolve("loop/x", None), Err(Errno::LOOP));
        assert_eq!(tree.resolve("file/x", None), Err(Errno::NOTDIR));
    }

    #[test]
    fn directories_are_made_where_links_lead_within_the_root() {
        let (dir, tree) = tree();
        assert_eq!(
            tree.resolve("dangling/x", Some(OWN)).unwrap(),
            "a/new/deep/x"
        );
        assert!(dir.path().join("root/a/new/deep/x").is_dir());
        assert_eq!(tree.resolve("out/y", Some(OWN)).unwrap(), "secret/y");
        assert!(dir.path().join("root/secret/y").is_dir());
        assert_eq!(
            fs::read_to_string(dir.path().join("secret")).unwrap(),
            "secret"
        );
    }
}
