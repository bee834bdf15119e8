//! The image's bytes, in the order in which they lie.

use std::io::Write;

use crate::directory::{self, Entry};
use crate::error::Result;
use crate::format::{
    self, BLOCK_BITS, CHUNK_INDEX, CHUNK_INDEXES, COMPAT_MTIME, DEVICE, EXTENDED,
    INCOMPAT_CHUNKED_FILE, INCOMPAT_DEVICE_TABLE, INODE_SIZE, LAYOUT_BIT, LAYOUT_CHUNKS,
    LAYOUT_INLINE, LAYOUT_PLAIN, MAGIC, SLOT, SUPER_OFFSET, SUPER_SIZE,
};
use crate::layout::{self, DEVICE_SLOT, Layout, Place, Placed};
use crate::tree::{Content, Id, Node, Tree};
use crate::{BLOCK, xattr};

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the image.
    pub bytes: u64,
    /// Files in it, each once.
    pub inodes: u64,
}

/// Writes the image of a tree whose content is in a file of `device_bytes`.
///
/// # Errors
/// The format has no place for something in the tree, or the image could not be written.
pub fn write(tree: &Tree, device_bytes: u64, out: &mut impl Write) -> Result<Summary> {
    let layout = Layout::of(tree)?;
    let mut image = Image {
        tree,
        layout: &layout,
        bytes: Vec::new(),
        written: 0,
        out,
    };
    image.head(device_bytes);
    for (number, placed) in layout.files.iter().enumerate() {
        image.pad(placed.at)?;
        image.inode(number, placed)?;
    }
    image.pad(layout.blocks_at)?;
    for placed in &layout.files {
        if let Place::Blocks(first) = placed.content {
            image.pad(u64::from(first) * BLOCK)?;
            image.content(placed.file);
        }
    }
    image.pad(layout.size)?;
    image.flush()?;
    image.out.flush()?;
    Ok(Summary {
        bytes: layout.size,
        inodes: layout.files.len() as u64,
    })
}

struct Image<'a, W> {
    tree: &'a Tree,
    layout: &'a Layout,
    /// What is not written yet.
    bytes: Vec<u8>,
    written: u64,
    out: &'a mut W,
}

/// How much is kept until it is written.
const BUFFER: usize = 256 << 10;

impl<W: Write> Image<'_, W> {
    fn head(&mut self, device_bytes: u64) {
        self.bytes.resize(SUPER_OFFSET as usize, 0);
        let root = self.layout.inode(self.tree.root());
        let mut block = Fields(vec![0; SUPER_SIZE as usize]);
        block.u32(0, MAGIC);
        block.u32(8, COMPAT_MTIME);
        block.0[12] = BLOCK_BITS;
        // The root is the first inode.
        block.u16(14, root as u16);
        block.u64(16, self.layout.files.len() as u64);
        block.u32(36, (self.layout.size / BLOCK) as u32);
        block.u32(80, INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE);
        block.u16(86, DEVICE);
        block.u16(88, DEVICE_SLOT as u16);
        self.bytes.extend(block.0);
        let mut device = Fields(vec![0; SLOT as usize]);
        // After its tag.
        device.u32(64, device_bytes.div_ceil(BLOCK) as u32);
        self.bytes.extend(device.0);
    }

    fn inode(&mut self, number: usize, placed: &Placed) -> Result<()> {
        let node = self.tree.node(placed.file);
        let attributes = &node.attributes;
        let mut xattrs = Vec::new();
        xattr::put(attributes, &mut xattrs)?;
        let (data_layout, data) = match placed.content {
            Place::Nothing => (LAYOUT_PLAIN, device_number(&node.content)),
            Place::Inline => (LAYOUT_INLINE, 0),
            Place::Blocks(first) => (LAYOUT_PLAIN, first),
            Place::Chunks(bits) => (LAYOUT_CHUNKS, bits | u32::from(CHUNK_INDEXES)),
        };
        let mut inode = Fields(vec![0; INODE_SIZE as usize]);
        inode.u16(0, EXTENDED | data_layout << LAYOUT_BIT);
        inode.u16(2, xattr::count(xattrs.len()).unwrap_or(0));
        inode.u16(4, kind(&node.content).0 | attributes.mode & 0o7777);
        inode.u64(8, placed.size);
        inode.u32(16, data);
        inode.u32(20, u32::try_from(number + 1).unwrap_or(u32::MAX));
        inode.u32(24, attributes.uid);
        inode.u32(28, attributes.gid);
        inode.u64(32, attributes.mtime.0.cast_unsigned());
        inode.u32(40, attributes.mtime.1);
        inode.u32(44, self.links(node));
        self.bytes.extend(inode.0);
        self.bytes.extend(xattrs);
        match (placed.content, &node.content) {
            (Place::Inline, _) => self.content(placed.file),
            (Place::Chunks(bits), Content::File { size, extents }) => {
                let here = self.written + self.bytes.len() as u64;
                self.fill(here.next_multiple_of(CHUNK_INDEX));
                for block in layout::chunks(*size, bits, extents) {
                    self.bytes.extend([0, 0]);
                    self.bytes.extend(DEVICE.to_le_bytes());
                    self.bytes.extend(block.to_le_bytes());
                    self.flush_if_large()?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// How many names a file has: a directory its own two, and its directories' for it.
    fn links(&self, node: &Node) -> u32 {
        if node.content != Content::Directory {
            return node.links;
        }
        let below = node
            .names
            .values()
            .filter(|id| self.tree.is_directory(**id));
        u32::try_from(below.count() + 2).unwrap_or(u32::MAX)
    }

    /// What a directory or a link consists of.
    fn content(&mut self, file: Id) {
        let node = self.tree.node(file);
        if let Content::Symlink(target) = &node.content {
            self.bytes.extend(target.as_ref());
            return;
        }
        let names = directory::names(file, node);
        let entry = |(name, id): &(_, Id)| -> Entry<'_> {
            let kind = kind(&self.tree.node(*id).content).1;
            (*name, self.layout.inode(*id), kind)
        };
        let entries: Vec<Entry<'_>> = names.iter().map(entry).collect();
        directory::put(&entries, &mut self.bytes);
    }

    /// Zeros up to a place in the image.
    fn pad(&mut self, to: u64) -> Result<()> {
        self.flush_if_large()?;
        self.fill(to);
        Ok(())
    }

    fn fill(&mut self, to: u64) {
        let length = to.saturating_sub(self.written);
        self.bytes.resize(length as usize, 0);
    }

    fn flush_if_large(&mut self) -> Result<()> {
        if self.bytes.len() > BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.out.write_all(&self.bytes)?;
        self.written += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// Type of a file, in its mode and in a directory's entry.
fn kind(content: &Content) -> (u16, u8) {
    match content {
        Content::File { .. } => format::REGULAR,
        Content::Directory => format::DIRECTORY,
        Content::Symlink(_) => format::SYMLINK,
        Content::CharacterDevice(..) => format::CHARACTER_DEVICE,
        Content::BlockDevice(..) => format::BLOCK_DEVICE,
        Content::Fifo => format::FIFO,
        Content::Socket => format::SOCKET,
    }
}

/// As the kernel encodes it (new_encode_dev); 0 of what is no device.
fn device_number(content: &Content) -> u32 {
    match content {
        Content::CharacterDevice(major, minor) | Content::BlockDevice(major, minor) => {
            minor & 0xff | major << 8 | (minor & !0xff) << 12
        }
        _ => 0,
    }
}

/// A structure's bytes; numbers are little-endian.
struct Fields(Vec<u8>);

impl Fields {
    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        self.0[at..at + value.len()].copy_from_slice(value);
    }
}
