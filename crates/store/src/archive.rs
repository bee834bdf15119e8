//! A streaming reader of tar archives: ustar, GNU and PAX (POSIX.1-2017 pax, GNU tar manual).
//!
//! Hostile input. Must never hold more than one entry's bounded metadata in memory, and never guess
//! where a header is: what cannot be right ends the reading with the place and the reason. Where
//! tools differ, it reads as Go's archive/tar does, which is what made nearly every layer.

use std::io::{self, BufRead};

mod file;
mod header;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;
mod write;

pub use file::{TarEntry, TarFile, TarKind};
use header::{BLOCK, Header};
use pax::Pax;
pub(crate) use sparse::Extent;
pub(crate) use write::{Unwritable, Writer};

/// The most bytes of a PAX header or a GNU long name.
const EXTENSION: u64 = 1 << 20;

/// What is wrong with an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TarFlaw {
    /// A header's checksum does not fit: not a tar archive, or a damaged one.
    #[error("the header's checksum is wrong: not a tar archive, or a damaged one")]
    Checksum,
    /// The archive ends inside a header or an entry.
    #[error("it ends in the middle of an entry")]
    Truncated,
    /// Only one of the two blocks of zeros that end an archive.
    #[error("more follows a single block of zeros")]
    LoneZeroBlock,
    /// A number is not one, or out of range.
    #[error("the header's {0} is not a valid number")]
    Number(&'static str),
    /// A name holds a NUL byte or is empty.
    #[error("a name is empty or holds a NUL byte")]
    Name,
    /// A PAX record is malformed.
    #[error("a PAX header is malformed")]
    Pax,
    /// A PAX header or long name is larger than any honest one.
    #[error("a PAX header or long name is larger than 1 MiB")]
    Extension,
    /// A PAX header or long name with no entry after it.
    #[error("a PAX header or long name belongs to no entry")]
    Dangling,
    /// A sparse file's map is malformed or too long.
    #[error("the map of a sparse file is malformed")]
    Sparse,
    /// More entries than an archive of images has.
    #[error("it has more entries than any archive of images")]
    Entries,
    /// A name that no file system has.
    #[error("a name is longer than 4096 bytes")]
    LongName,
}

/// Why reading an archive ended.
#[derive(Debug)]
pub(crate) enum ArchiveError {
    /// The source failed.
    Read(io::Error),
    /// The archive is malformed at this byte.
    Flaw { offset: u64, flaw: TarFlaw },
}

type Result<T> = std::result::Result<T, ArchiveError>;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharacterDevice,
    BlockDevice,
    Fifo,
    /// Anything else, by its type flag.
    Other(u8),
}

/// An entry's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub kind: Kind,
    pub path: Vec<u8>,
    /// Target of a symbolic or hard link.
    pub link: Vec<u8>,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Major and minor number of a device node, otherwise zeros.
    pub device: (u32, u32),
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// The file's size in bytes, holes included.
    pub size: u64,
    /// Where the data belongs, when the file has holes.
    pub sparse: Option<Vec<Extent>>,
    /// Extended attributes, by full name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Long names and PAX records that came before the header they are for.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.path.is_none() && self.link.is_none() && self.pax.is_none()
    }
}

/// An archive read from `source`, entry by entry.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    source: R,
    /// Bytes consumed.
    offset: u64,
    /// Bytes of the current entry's data not yet read.
    data: u64,
    /// Bytes that fill up the current entry's last block.
    padding: u64,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(source: R) -> Archive<R> {
        Archive {
            source,
            offset: 0,
            data: 0,
            padding: 0,
        }
    }

    /// The source, to read what follows the archive.
    pub(crate) fn into_source(self) -> R {
        self.source
    }

    /// Where the current entry's data begins that was not read yet, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes to the next entry; what was not read of the last one's data is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_data()?;
            let start = self.offset;
            let at = |flaw| ArchiveError::Flaw {
                offset: start,
                flaw,
            };
            let Some(header) = self.header()? else {
                return match extensions.is_empty() {
                    true => Ok(None),
                    false => Err(at(TarFlaw::Dangling)),
                };
            };
            let size = header.size().map_err(at)?;
            match header.flag() {
                b'x' => {
                    let bytes = self.extension(size)?;
                    extensions.pax = Some(Pax::parse(&bytes).map_err(at)?);
                }
                b'L' => extensions.path = Some(header::text(&self.extension(size)?).to_vec()),
                b'K' => extensions.link = Some(header::text(&self.extension(size)?).to_vec()),
                // Global PAX headers carry comments; no layer tool applies them to entries.
                b'g' => {
                    self.extension(size)?;
                }
                _ => return self.entry(&header, size, extensions, start).map(Some),
            }
        }
    }

    /// The next piece of the current entry's data, empty at its end; [`consume`](Self::consume) it.
    pub(crate) fn data(&mut self) -> Result<&[u8]> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let offset = self.offset;
        let buffer = self.source.fill_buf().map_err(ArchiveError::Read)?;
        if buffer.is_empty() {
            return Err(ArchiveError::Flaw {
                offset,
                flaw: TarFlaw::Truncated,
            });
        }
        let length = usize::try_from(self.data).map_or(buffer.len(), |data| data.min(buffer.len()));
        Ok(&buffer[..length])
    }

    /// Marks `length` bytes of what [`data`](Self::data) returned as read.
    pub(crate) fn consume(&mut self, length: usize) {
        self.source.consume(length);
        self.offset += length as u64;
        self.data -= length as u64;
    }

    fn entry(
        &mut self,
        header: &Header,
        size: u64,
        extensions: Extensions,
        start: u64,
    ) -> Result<Entry> {
        let at = |flaw| ArchiveError::Flaw {
            offset: start,
            flaw,
        };
        let pax = extensions.pax.unwrap_or_default();
        let path = extensions.path.unwrap_or_else(|| header.path());
        let path = pax.path.clone().unwrap_or(path);
        let link = extensions.link.unwrap_or_else(|| header.link());
        let link = pax.link.clone().unwrap_or(link);
        let kind = header.kind(&path);
        if path.is_empty() || path.contains(&0) || link.contains(&0) {
            return Err(at(TarFlaw::Name));
        }
        let mut entry = Entry {
            kind,
            path,
            link,
            mode: header.mode().map_err(at)?,
            uid: pax.uid.map_or_else(|| header.uid(), Ok).map_err(at)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok).map_err(at)?,
            mtime: pax.mtime.map_or_else(|| header.mtime(), Ok).map_err(at)?,
            device: match kind {
                Kind::CharacterDevice | Kind::BlockDevice => header.device().map_err(at)?,
                _ => (0, 0),
            },
            size: 0,
            sparse: None,
            xattrs: Vec::new(),
        };
        // Links, directories and special files have no data, whatever their size field says.
        if matches!(kind, Kind::File | Kind::Other(_)) {
            let size = pax.size.unwrap_or(size);
            entry.size = size;
            self.begin_data(size);
            if let Some((extents, size)) = self.sparse(header, &pax)? {
                entry.sparse = Some(extents);
                entry.size = size;
            }
        }
        entry.path = pax.sparse.name.unwrap_or(entry.path);
        entry.xattrs = pax.xattrs;
        Ok(entry)
    }

    /// The map of a sparse file and its full size, read from wherever its format keeps them.
    fn sparse(&mut self, header: &Header, pax: &Pax) -> Result<Option<(Vec<Extent>, u64)>> {
        let start = self.offset;
        let at = |flaw| ArchiveError::Flaw {
            offset: start,
            flaw,
        };
        let (extents, size) = if header.flag() == b'S' {
            let mut map = sparse::OldMap::new(header).map_err(at)?;
            while map.continues() {
                let block = self.block()?.ok_or_else(|| at(TarFlaw::Truncated))?;
                map.extend(&block).map_err(at)?;
            }
            map.finish()
        } else if pax.sparse.is_version_one() {
            let mut map = sparse::NewMap::default();
            while !map.is_complete() {
                let block = self.data_block()?;
                map.extend(&block).map_err(at)?;
            }
            (map.finish(), pax.sparse.size.ok_or(at(TarFlaw::Sparse))?)
        } else if let Some(map) = &pax.sparse.map {
            (map.clone(), pax.sparse.size.ok_or(at(TarFlaw::Sparse))?)
        } else {
            return Ok(None);
        };
        sparse::check(&extents, size, self.data).map_err(at)?;
        Ok(Some((extents, size)))
    }

    fn begin_data(&mut self, size: u64) {
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_data(&mut self) -> Result<()> {
        self.data += std::mem::take(&mut self.padding);
        while self.data > 0 {
            let length = self.data()?.len();
            self.consume(length);
        }
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION {
            return Err(ArchiveError::Flaw {
                offset: self.offset,
                flaw: TarFlaw::Extension,
            });
        }
        self.begin_data(size);
        let mut bytes = Vec::new();
        while self.data > 0 {
            let piece = self.data()?;
            let length = piece.len();
            bytes.extend_from_slice(piece);
            self.consume(length);
        }
        Ok(bytes)
    }

    /// One block of the current entry's data.
    fn data_block(&mut self) -> Result<[u8; BLOCK]> {
        let offset = self.offset;
        if self.data < BLOCK as u64 {
            return Err(ArchiveError::Flaw {
                offset,
                flaw: TarFlaw::Sparse,
            });
        }
        let block = self.block()?.ok_or(ArchiveError::Flaw {
            offset,
            flaw: TarFlaw::Truncated,
        })?;
        self.data -= BLOCK as u64;
        Ok(block)
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let offset = self.offset;
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().any(|byte| *byte != 0) {
            return Header::new(block)
                .map(Some)
                .map_err(|flaw| ArchiveError::Flaw { offset, flaw });
        }
        match self.block()? {
            Some(block) if block.iter().any(|byte| *byte != 0) => Err(ArchiveError::Flaw {
                offset,
                flaw: TarFlaw::LoneZeroBlock,
            }),
            _ => Ok(None),
        }
    }

    /// The next block; `None` when the source ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let buffer = self.source.fill_buf().map_err(ArchiveError::Read)?;
            if buffer.is_empty() {
                break;
            }
            let length = buffer.len().min(BLOCK - filled);
            block[filled..filled + length].copy_from_slice(&buffer[..length]);
            self.source.consume(length);
            filled += length;
        }
        self.offset += filled as u64;
        match filled {
            BLOCK => Ok(Some(block)),
            0 => Ok(None),
            _ => Err(ArchiveError::Flaw {
                offset: self.offset,
                flaw: TarFlaw::Truncated,
            }),
        }
    }
}
