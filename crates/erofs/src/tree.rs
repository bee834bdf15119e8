//! A file system in memory: files with attributes, under names in directories.
//!
//! Files have numbers; what is removed keeps its number, and nothing else gets it. Nothing recurses: a
//! tree may be as deep as an archive says.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// The longest name (NAME_MAX).
const NAME: usize = 255;

/// A file, as long as its tree is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u32);

impl Id {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a file has beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The twelve bits of permissions; the type is the content's.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The owning group.
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Extended attributes by their whole names, each once.
    pub xattrs: Vec<Xattr>,
}

/// The whole name of an extended attribute, and its value.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

/// What a file is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file. What no extent says is a hole.
    File {
        /// In bytes.
        size: u64,
        /// Where its bytes are, in their order.
        extents: Box<[Extent]>,
    },
    /// A directory, empty at first.
    Directory,
    /// A symbolic link, and where it leads to.
    Symlink(Box<[u8]>),
    /// A character device: major and minor number.
    CharacterDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// A run of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file.
    pub offset: u64,
    /// Where in the other file.
    pub at: u64,
    /// How many.
    pub length: u64,
}

/// Names of a directory, in the order of their bytes.
pub(crate) type Names = BTreeMap<Box<[u8]>, Id>;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) content: Content,
    /// Of a directory.
    pub(crate) names: Names,
    /// The directory that a directory is in; the root is in itself.
    pub(crate) parent: Id,
    /// How many names it has. None: it was removed.
    pub(crate) links: u32,
}

/// A file system.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// One that has only a root directory.
    #[must_use]
    pub fn new(root: Attributes) -> Self {
        Self {
            nodes: vec![Node {
                attributes: root,
                content: Content::Directory,
                names: Names::new(),
                parent: Id(0),
                links: 1,
            }],
        }
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Id {
        Id(0)
    }

    /// A file's attributes.
    #[must_use]
    pub fn attributes(&self, file: Id) -> &Attributes {
        &self.node(file).attributes
    }

    /// A file's attributes, to be changed.
    pub fn attributes_mut(&mut self, file: Id) -> &mut Attributes {
        &mut self.nodes[file.index()].attributes
    }

    /// What a file is made of.
    #[must_use]
    pub fn content(&self, file: Id) -> &Content {
        &self.node(file).content
    }

    /// Is it a directory?
    #[must_use]
    pub fn is_directory(&self, file: Id) -> bool {
        self.node(file).content == Content::Directory
    }

    /// The directory that a directory is in; the root's is the root.
    #[must_use]
    pub fn parent(&self, directory: Id) -> Id {
        self.node(directory).parent
    }

    /// What a directory has under a name; nothing if it is none.
    #[must_use]
    pub fn child(&self, directory: Id, name: &[u8]) -> Option<Id> {
        self.node(directory).names.get(name).copied()
    }

    /// The names of a directory, in the order of their bytes, and what they are of.
    pub fn children(&self, directory: Id) -> impl Iterator<Item = (&[u8], Id)> {
        let names = self.node(directory).names.iter();
        names.map(|(name, file)| (name.as_ref(), *file))
    }

    /// Makes a file with a name.
    ///
    /// # Errors
    /// The name cannot be or is there, or `directory` is none; there are 2^32 files.
    pub fn insert(
        &mut self,
        directory: Id,
        name: &[u8],
        attributes: Attributes,
        content: Content,
    ) -> Result<Id> {
        self.vacant(directory, name)?;
        let number = u32::try_from(self.nodes.len()).map_err(|_| Error::TooMany("files"))?;
        let file = Id(number);
        self.nodes.push(Node {
            attributes,
            content,
            names: Names::new(),
            parent: directory,
            links: 1,
        });
        let names = &mut self.nodes[directory.index()].names;
        names.insert(name.into(), file);
        Ok(file)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// As [`Tree::insert`]; the file is a directory, or has 2^32 names.
    pub fn link(&mut self, directory: Id, name: &[u8], file: Id) -> Result<()> {
        self.vacant(directory, name)?;
        if self.is_directory(file) {
            return Err(Error::DirectoryLink(Error::name(name)));
        }
        let node = &mut self.nodes[file.index()];
        node.links = node.links.checked_add(1).ok_or(Error::TooMany("links"))?;
        let names = &mut self.nodes[directory.index()].names;
        names.insert(name.into(), file);
        Ok(())
    }

    /// Takes a name away, and with it all that has no other; is it there?
    pub fn remove(&mut self, directory: Id, name: &[u8]) -> bool {
        let Some(file) = self.nodes[directory.index()].names.remove(name) else {
            return false;
        };
        let mut gone = vec![file];
        while let Some(file) = gone.pop() {
            let node = &mut self.nodes[file.index()];
            node.links = node.links.saturating_sub(1);
            if node.links == 0 {
                node.attributes.xattrs = Vec::new();
                if node.content != Content::Directory {
                    node.content = Content::Fifo;
                }
                gone.extend(std::mem::take(&mut node.names).into_values());
            }
        }
        true
    }

    /// How many files there ever were.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&self, file: Id) -> &Node {
        &self.nodes[file.index()]
    }

    /// May a name be given?
    fn vacant(&self, directory: Id, name: &[u8]) -> Result<()> {
        let special = matches!(name, b"" | b"." | b"..");
        if special || name.len() > NAME || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Error::Name(Error::name(name)));
        }
        if !self.is_directory(directory) {
            return Err(Error::NotDirectory(Error::name(name)));
        }
        if self.child(directory, name).is_some() {
            return Err(Error::Exists(Error::name(name)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Content {
        Content::File {
            size: 0,
            extents: Box::new([]),
        }
    }

    #[test]
    fn what_is_removed_is_gone_with_all_below_it_but_not_under_its_other_names() {
        let mut tree = Tree::new(Attributes::default());
        let root = tree.root();
        let any = Attributes::default;
        let a = tree.insert(root, b"a", any(), Content::Directory).unwrap();
        let b = tree.insert(a, b"b", any(), Content::Directory).unwrap();
        let kept = tree.insert(b, b"kept", any(), file()).unwrap();
        let lost = tree.insert(b, b"lost", any(), file()).unwrap();
        tree.link(root, b"other", kept).unwrap();
        assert!(tree.remove(root, b"a"));
        assert!(!tree.remove(root, b"a"));
        assert_eq!(tree.node(kept).links, 1);
        assert_eq!(tree.node(lost).links, 0);
        assert_eq!(tree.child(root, b"other"), Some(kept));
        assert_eq!(tree.children(root).count(), 1);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let mut tree = Tree::new(Attributes::default());
        let root = tree.root();
        let long = [b'a'; 256];
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &long] {
            let refused = tree.insert(root, name, Attributes::default(), file());
            assert!(matches!(refused, Err(Error::Name(_))), "{name:?}");
        }
        let longest = &long[1..];
        let file_id = tree.insert(root, longest, Attributes::default(), file());
        let file_id = file_id.unwrap();
        let again = tree.insert(root, longest, Attributes::default(), file());
        assert!(matches!(again, Err(Error::Exists(_))));
        let below = tree.insert(file_id, b"a", Attributes::default(), file());
        assert!(matches!(below, Err(Error::NotDirectory(_))));
        let dir = tree.insert(root, b"d", Attributes::default(), Content::Directory);
        let twice = tree.link(root, b"e", dir.unwrap());
        assert!(matches!(twice, Err(Error::DirectoryLink(_))));
    }

    #[test]
    fn a_tree_may_be_deep() {
        let mut tree = Tree::new(Attributes::default());
        let mut at = tree.root();
        for _ in 0..100_000 {
            at = tree
                .insert(at, b"d", Attributes::default(), Content::Directory)
                .unwrap();
        }
        let root = tree.root();
        assert!(tree.remove(root, b"d"));
        assert_eq!(tree.node(at).links, 0);
    }
}
