//! Paths in a tree in memory, resolved as the kernel does below a root (openat2(2) with RESOLVE_IN_ROOT).

use std::rc::Rc;

use erofs::{Content, Id, Tree};
use rustix::io::{Errno, Result};

use super::name::NAME_MAX;

/// Symbolic links followed, as many as the kernel follows.
pub(super) const LINKS: usize = 40;
/// PATH_MAX, with its NUL.
const PATH: usize = 4095;

/// The directory at a path that begins at `from`; absolute ones begin at the root, which nothing leads out of.
pub(super) fn resolve(tree: &Tree, from: Id, path: &[u8]) -> Result<Id> {
    if path.len() > PATH {
        return Err(Errno::NAMETOOLONG);
    }
    let mut dir = match path.first() {
        Some(b'/') => tree.root(),
        _ => from,
    };
    let mut links = 0;
    let mut rest: Vec<&[u8]> = path.rsplit(|byte| *byte == b'/').collect();
    while let Some(part) = rest.pop() {
        match part {
            b"" | b"." => continue,
            b".." => {
                dir = tree.parent(dir);
                continue;
            }
            part if part.len() > NAME_MAX => return Err(Errno::NAMETOOLONG),
            _ => {}
        }
        let there = tree.child(dir, part).ok_or(Errno::NOENT)?;
        match tree.content(there) {
            Content::Directory => dir = there,
            Content::Symlink(target) => {
                links += 1;
                if links > LINKS {
                    return Err(Errno::LOOP);
                }
                if target.first() == Some(&b'/') {
                    dir = tree.root();
                }
                rest.extend(target.rsplit(|byte| *byte == b'/'));
            }
            _ => return Err(Errno::NOTDIR),
        }
    }
    Ok(dir)
}

/// One name of a path that is gone, with all before it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    path: Rc<[u8]>,
    begin: usize,
    end: usize,
}

/// The names of a path from byte `from` on, the last one first.
pub(super) fn steps(path: Rc<[u8]>, from: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut begin = from;
    for part in path[from..].split(|byte| *byte == b'/') {
        let end = begin + part.len();
        if !part.is_empty() {
            steps.push(Step {
                path: Rc::clone(&path),
                begin,
                end,
            });
        }
        begin = end + 1;
    }
    steps.reverse();
    steps
}

impl Step {
    pub(super) fn name(&self) -> &[u8] {
        &self.path[self.begin..self.end]
    }

    /// The path that ends with it.
    pub(super) fn path(&self) -> &[u8] {
        &self.path[..self.end]
    }

    /// The steps of the link that it is, the last one first, and whether they begin at the root.
    pub(super) fn follow(&self, target: &[u8]) -> Result<(Vec<Step>, bool)> {
        let absolute = target.first() == Some(&b'/');
        let mut path = match absolute {
            true => Vec::new(),
            false => self.path[..self.begin].to_vec(),
        };
        let from = path.len();
        let begin = target.iter().position(|byte| *byte != b'/');
        path.extend_from_slice(&target[begin.unwrap_or(target.len())..]);
        match path.len() > PATH {
            true => Err(Errno::NAMETOOLONG),
            false => Ok((steps(path.into(), from), absolute)),
        }
    }
}

#[cfg(test)]
mod tests {
    use erofs::Attributes;

    use super::*;

    fn tree() -> (Tree, Id) {
        let mut tree = Tree::new(Attributes::default());
        let root = tree.root();
        let mut add = |dir, name: &[u8], content| {
            let made = tree.insert(dir, name, Attributes::default(), content);
            made.unwrap()
        };
        let link = |to: &[u8]| Content::Symlink(to.into());
        let a = add(root, b"a", Content::Directory);
        let b = add(a, b"b", Content::Directory);
        add(a, b"up", link(b".."));
        add(root, b"abs", link(b"/a//b/"));
        add(root, b"rel", link(b"a/up/abs"));
        add(root, b"self", link(b"self"));
        add(root, b"gone", link(b"nothing"));
        add(root, b"fifo", Content::Fifo);
        (tree, b)
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let (tree, b) = tree();
        let root = tree.root();
        for path in ["a/b", "abs", "rel", "/../../a/./b", "a/up/a/b", "abs/../b"] {
            assert_eq!(resolve(&tree, root, path.as_bytes()), Ok(b), "{path}");
        }
        assert_eq!(resolve(&tree, b, b"../../../.."), Ok(root));
        assert_eq!(resolve(&tree, b, b"."), Ok(b));
        for (path, errno) in [
            ("self", Errno::LOOP),
            ("gone", Errno::NOENT),
            ("fifo", Errno::NOTDIR),
            ("fifo/x", Errno::NOTDIR),
            ("a/x/y", Errno::NOENT),
        ] {
            assert_eq!(resolve(&tree, root, path.as_bytes()), Err(errno), "{path}");
        }
        let long = "a/".repeat(2048);
        let long = resolve(&tree, root, long.as_bytes());
        assert_eq!(long, Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn the_steps_of_a_link_say_their_own_path() {
        let path: Rc<[u8]> = b"x/link/y".as_slice().into();
        let steps = steps(path, 0);
        let link = &steps[1];
        assert_eq!((link.name(), link.path()), (&b"link"[..], &b"x/link"[..]));
        let paths = |target: &[u8]| {
            let (steps, absolute) = link.follow(target).unwrap();
            let paths = steps.iter().rev().map(|step| step.path().to_vec());
            (paths.collect::<Vec<_>>(), absolute)
        };
        let of = |texts: &[&str]| {
            texts
                .iter()
                .map(|t| t.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(paths(b"to/it/"), (of(&["x/to", "x/to/it"]), false));
        assert_eq!(paths(b"//to"), (of(&["to"]), true));
        assert!(link.follow(&[b'a'; 4096]).is_err());
    }
}
