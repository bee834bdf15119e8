//! Numbers of the format (fs/erofs/erofs_fs.h).

/// log2 of [`crate::BLOCK`].
pub(crate) const BLOCK_BITS: u8 = 9;
/// Where the super block is, and how long.
pub(crate) const SUPER_OFFSET: u64 = 1024;
pub(crate) const SUPER_SIZE: u64 = 128;
pub(crate) const MAGIC: u32 = 0xE0F5_E1E2;
/// Its units; a device's slot is one.
pub(crate) const SLOT: u64 = 128;
/// Inodes lie at multiples of it, and are numbered by it.
pub(crate) const INODE_SLOT: u64 = 32;
/// An extended inode.
pub(crate) const INODE_SIZE: u64 = 64;

/// Times are those of last modification (feature_compat).
pub(crate) const COMPAT_MTIME: u32 = 0x2;
pub(crate) const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
pub(crate) const INCOMPAT_DEVICE_TABLE: u32 = 0x8;

/// i_format: an extended inode.
pub(crate) const EXTENDED: u16 = 1;
/// i_format: how content lies, from this bit on.
pub(crate) const LAYOUT_BIT: u16 = 1;
pub(crate) const LAYOUT_PLAIN: u16 = 0;
pub(crate) const LAYOUT_INLINE: u16 = 2;
pub(crate) const LAYOUT_CHUNKS: u16 = 4;

/// Chunks are given by indexes with a device's number, not by block numbers alone.
pub(crate) const CHUNK_INDEXES: u16 = 0x20;
/// The largest chunk: 2^31 blocks.
pub(crate) const CHUNK_BITS: u32 = 31;
pub(crate) const CHUNK_INDEX: u64 = 8;
/// No block: a hole.
pub(crate) const NULL_BLOCK: u32 = u32::MAX;
/// The first device of the table.
pub(crate) const DEVICE: u16 = 1;

/// A directory's entry, without its name.
pub(crate) const DIRENT: usize = 12;

/// Type of a file in its mode (inode(7)), and in a directory's entry.
pub(crate) const REGULAR: (u16, u8) = (0o100_000, 1);
pub(crate) const DIRECTORY: (u16, u8) = (0o040_000, 2);
pub(crate) const CHARACTER_DEVICE: (u16, u8) = (0o020_000, 3);
pub(crate) const BLOCK_DEVICE: (u16, u8) = (0o060_000, 4);
pub(crate) const FIFO: (u16, u8) = (0o010_000, 5);
pub(crate) const SOCKET: (u16, u8) = (0o140_000, 6);
pub(crate) const SYMLINK: (u16, u8) = (0o120_000, 7);

/// Before a file's xattrs: a filter of names, how many are shared, and room.
pub(crate) const XATTR_HEADER: usize = 12;
