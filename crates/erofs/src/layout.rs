//! Where everything of a tree lies in the image: inodes first, then the directories and links that have no room
//! beside their inodes.

use crate::directory;
use crate::error::{Error, Result};
use crate::format::{
    CHUNK_BITS, CHUNK_INDEX, INODE_SIZE, INODE_SLOT, NULL_BLOCK, SLOT, SUPER_OFFSET, SUPER_SIZE,
};
use crate::tree::{Content, Extent, Id, Node, Tree};
use crate::{BLOCK, xattr};

/// The most chunks of all files: 32 MiB of indexes. Only files with very many holes have more than one.
const CHUNKS: u64 = 4 << 20;

/// The device's slot in the table.
pub(crate) const DEVICE_SLOT: u64 = (SUPER_OFFSET + SUPER_SIZE) / SLOT;
/// Where inodes begin.
const INODES: u64 = SUPER_OFFSET + SUPER_SIZE + SLOT;

/// How a file's content lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It has none.
    Nothing,
    /// Behind its inode.
    Inline,
    /// In blocks of its own, from this one on.
    Blocks(u32),
    /// In the other file: chunks of that many blocks, as a power of two.
    Chunks(u32),
}

/// One file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) file: Id,
    /// Of the inode, in the image.
    pub(crate) at: u64,
    pub(crate) size: u64,
    pub(crate) content: Place,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Layout {
    /// In the order in which inodes lie; the root is the first.
    pub(crate) files: Vec<Placed>,
    /// Number of the inode by number of the file.
    inodes: Vec<u64>,
    /// Where inodes end, and blocks begin.
    pub(crate) blocks_at: u64,
    pub(crate) size: u64,
}

impl Layout {
    pub(crate) fn of(tree: &Tree) -> Result<Self> {
        let mut layout = Self {
            files: Vec::new(),
            inodes: vec![0; tree.len()],
            blocks_at: 0,
            size: INODES,
        };
        let mut xattrs = Vec::new();
        let mut chunks = 0;
        let mut queue = vec![tree.root()];
        let mut next = 0;
        while let Some(&file) = queue.get(next) {
            next += 1;
            let node = tree.node(file);
            xattrs.clear();
            xattr::put(&node.attributes, &mut xattrs)?;
            layout.place(file, node, xattrs.len() as u64, &mut chunks)?;
            for child in node.names.values() {
                // Marked at once: a file of several names is placed once.
                let seen = &mut layout.inodes[child.index()];
                if *seen == 0 {
                    *seen = u64::MAX;
                    queue.push(*child);
                }
            }
        }
        layout.place_blocks()?;
        Ok(layout)
    }

    /// The number of a file's inode.
    pub(crate) fn inode(&self, file: Id) -> u64 {
        self.inodes[file.index()]
    }

    fn place(&mut self, file: Id, node: &Node, xattrs: u64, chunks: &mut u64) -> Result<()> {
        let head = INODE_SIZE + xattrs;
        let (size, mut content) = match &node.content {
            Content::File { size, extents } if extents.is_empty() && *size == 0 => {
                (0, Place::Nothing)
            }
            Content::File { size, extents } => {
                let bits = chunk_bits(*size, extents)?;
                *chunks += chunk_count(*size, bits);
                if *chunks > CHUNKS {
                    return Err(Error::Unsupported("so many holes".into()));
                }
                (*size, Place::Chunks(bits))
            }
            Content::Directory => {
                let names = directory::names(file, node);
                let size = directory::size(names.iter().map(|(name, _)| *name));
                (size, Place::Inline)
            }
            Content::Symlink(target) => (target.len() as u64, Place::Inline),
            _ => (0, Place::Nothing),
        };
        self.size = self.size.next_multiple_of(INODE_SLOT);
        if content == Place::Inline {
            // With its inode in one block, as the kernel wants a link's; where else is found later.
            let all = head + size;
            if all > BLOCK {
                content = Place::Blocks(0);
            } else if self.size % BLOCK + all > BLOCK {
                self.size = self.size.next_multiple_of(BLOCK);
            }
        }
        let at = self.size;
        self.inodes[file.index()] = at / INODE_SLOT;
        self.size += match content {
            Place::Nothing | Place::Blocks(_) => head,
            Place::Inline => head + size,
            Place::Chunks(bits) => {
                head.next_multiple_of(CHUNK_INDEX) + chunk_count(size, bits) * CHUNK_INDEX
            }
        };
        self.files.push(Placed {
            file,
            at,
            size,
            content,
        });
        Ok(())
    }

    fn place_blocks(&mut self) -> Result<()> {
        self.size = self.size.next_multiple_of(BLOCK);
        self.blocks_at = self.size;
        for placed in &mut self.files {
            if let Place::Blocks(first) = &mut placed.content {
                let block = u32::try_from(self.size / BLOCK).ok();
                let block = block.filter(|block| *block != NULL_BLOCK);
                *first = block.ok_or(Error::TooMany("names"))?;
                self.size += placed.size.next_multiple_of(BLOCK);
            }
        }
        Ok(())
    }
}

/// How many chunks of a file there are.
pub(crate) fn chunk_count(size: u64, bits: u32) -> u64 {
    size.div_ceil(BLOCK << bits)
}

/// The largest chunks, in blocks as a power of two, of which each is either a hole or one run of bytes.
fn chunk_bits(size: u64, extents: &[Extent]) -> Result<u32> {
    let unsupported = |what: &str| Err(Error::Unsupported(what.to_owned()));
    // Where something begins or ends, all as one: how many low bits are zero.
    let (mut edges, mut end) = (0, 0);
    for (number, extent) in extents.iter().enumerate() {
        let ends = extent.offset.checked_add(extent.length);
        let there = extent.at.checked_add(extent.length);
        let (Some(ends), Some(there)) = (ends.filter(|ends| *ends <= size), there) else {
            return unsupported("bytes past the end of a file");
        };
        if extent.offset < end || (extent.length == 0) {
            return unsupported("bytes of a file twice");
        }
        if !extent.at.is_multiple_of(BLOCK) || there.div_ceil(BLOCK) >= u64::from(NULL_BLOCK) {
            return unsupported("content at that place");
        }
        let follows = number
            .checked_sub(1)
            .and_then(|before| extents.get(before))
            .is_some_and(|before| {
                (before.offset + before.length, before.at + before.length)
                    == (extent.offset, extent.at)
            });
        if !follows {
            edges |= extent.offset | end;
        }
        end = ends;
    }
    if end != size {
        edges |= end;
    }
    let whole = u64::BITS - size.div_ceil(BLOCK).saturating_sub(1).leading_zeros();
    let bits = match edges {
        0 => whole,
        _ => match edges.trailing_zeros().checked_sub(BLOCK.trailing_zeros()) {
            Some(bits) => bits.min(whole),
            None => return unsupported("holes between the blocks of a file"),
        },
    };
    Ok(bits.min(CHUNK_BITS))
}

/// Where each chunk of a file is in the other file, in blocks.
pub(crate) fn chunks(size: u64, bits: u32, extents: &[Extent]) -> impl Iterator<Item = u32> {
    let mut extents = extents.iter().copied().peekable();
    (0..chunk_count(size, bits)).map(move |number| {
        let offset = number * (BLOCK << bits);
        while extents
            .next_if(|extent| extent.offset + extent.length <= offset)
            .is_some()
        {}
        match extents.peek() {
            Some(extent) if extent.offset <= offset => {
                // It fits: chunk_bits() has looked.
                ((extent.at + (offset - extent.offset)) / BLOCK) as u32
            }
            _ => NULL_BLOCK,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, at: u64, length: u64) -> Extent {
        Extent { offset, at, length }
    }

    #[test]
    fn a_file_in_one_piece_is_one_chunk() {
        for size in [1, 511, 512, 513, 4096, 10_000_000_000] {
            let extents = [extent(0, 1024, size)];
            let bits = chunk_bits(size, &extents).unwrap();
            assert_eq!(chunk_count(size, bits), 1, "{size}");
            assert_eq!(chunks(size, bits, &extents).collect::<Vec<_>>(), [2]);
        }
    }

    #[test]
    fn holes_are_chunks_of_their_own() {
        // Data, a hole, data, and a hole at the end.
        let extents = [extent(0, 512, 8192), extent(16_384, 8704, 4096)];
        let bits = chunk_bits(40_960, &extents).unwrap();
        assert_eq!(bits, 3, "chunks of 4096 bytes");
        let at: Vec<u32> = chunks(40_960, bits, &extents).collect();
        let hole = NULL_BLOCK;
        assert_eq!(at, [1, 9, hole, hole, 17, hole, hole, hole, hole, hole]);
        let only_a_hole = chunk_bits(1 << 40, &[]).unwrap();
        assert_eq!(
            chunks(1 << 40, only_a_hole, &[]).collect::<Vec<_>>(),
            [hole]
        );
    }

    #[test]
    fn what_cannot_be_pointed_to_is_refused() {
        for (size, extents) in [
            (1000, vec![extent(0, 100, 1000)]),
            (1000, vec![extent(0, 512, 1001)]),
            (5000, vec![extent(100, 512, 1000)]),
            (5000, vec![extent(0, 512, 1000)]),
            (5000, vec![extent(0, 512, 1024), extent(512, 4096, 512)]),
            (u64::MAX, vec![extent(u64::MAX, 512, 2)]),
            (512, vec![extent(0, u64::MAX - 511, 512)]),
            (512, vec![extent(0, 4 << 40, 512)]),
        ] {
            assert!(chunk_bits(size, &extents).is_err(), "{extents:?}");
        }
    }
}
