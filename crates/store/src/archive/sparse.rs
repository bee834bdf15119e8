//! GNU's formats for files with holes: old GNU, PAX 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").
//!
//! Must never pass on a map that is unordered, overlaps, leaves the file, or does not use up the data.

use super::TarFlaw;
use super::header::{BLOCK, Header, size};

/// A run of data and where it belongs in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// The most extents of a map: 4 MiB of memory.
const EXTENTS: usize = 1 << 18;

/// Checks a map against the file's full size and the bytes of data that follow.
pub(super) fn check(extents: &[Extent], size: u64, data: u64) -> Result<(), TarFlaw> {
    let (mut end, mut total) = (0u64, 0u64);
    for extent in extents {
        if extent.offset < end {
            return Err(TarFlaw::Sparse);
        }
        end = extent
            .offset
            .checked_add(extent.length)
            .ok_or(TarFlaw::Sparse)?;
        total += extent.length;
    }
    if end > size || total != data {
        return Err(TarFlaw::Sparse);
    }
    Ok(())
}

/// The old GNU map: four extents in the header, 21 in each block after it.
pub(super) struct OldMap {
    extents: Vec<Extent>,
    continues: bool,
    size: u64,
}

impl OldMap {
    pub(super) fn new(header: &Header) -> Result<OldMap, TarFlaw> {
        let mut map = OldMap {
            extents: Vec::new(),
            continues: header.field(482, 1) != b"\0",
            size: size(header.field(483, 12))?,
        };
        map.add(header.field(386, 96))?;
        Ok(map)
    }

    pub(super) fn continues(&self) -> bool {
        self.continues
    }

    pub(super) fn extend(&mut self, block: &[u8; BLOCK]) -> Result<(), TarFlaw> {
        self.continues = block[504] != 0;
        self.add(&block[..504])
    }

    fn add(&mut self, fields: &[u8]) -> Result<(), TarFlaw> {
        for field in fields.chunks_exact(24) {
            if field[0] == 0 {
                return Ok(());
            }
            push(&mut self.extents, size(&field[..12])?, size(&field[12..])?)?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> (Vec<Extent>, u64) {
        (self.extents, self.size)
    }
}

fn push(extents: &mut Vec<Extent>, offset: u64, length: u64) -> Result<(), TarFlaw> {
    if extents.len() == EXTENTS {
        return Err(TarFlaw::Sparse);
    }
    extents.push(Extent { offset, length });
    Ok(())
}

/// The records of a PAX header that speak of a sparse file.
#[derive(Default)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    /// The full size.
    pub(super) size: Option<u64>,
    /// The map of formats 0.0 and 0.1.
    pub(super) map: Option<Vec<Extent>>,
    pending: Option<u64>,
}

impl PaxSparse {
    pub(super) fn is_version_one(&self) -> bool {
        (self.major, self.minor) == (Some(1), Some(0))
    }

    /// Format 0.0 gives each offset a record of its own.
    pub(super) fn offset(&mut self, offset: u64) -> Option<()> {
        self.pending.replace(offset).is_none().then_some(())
    }

    /// The length that belongs to the last offset.
    pub(super) fn length(&mut self, length: u64) -> Option<()> {
        let offset = self.pending.take()?;
        push(self.map.get_or_insert_default(), offset, length).ok()
    }

    /// No offset may be left without a length, and no format may be unknown.
    pub(super) fn finish(&self) -> Option<()> {
        let known = matches!(
            (self.major, self.minor),
            (None, None) | (Some(0), Some(0 | 1)) | (Some(1), Some(0))
        );
        (known && self.pending.is_none()).then_some(())
    }
}

/// The map of format 1.0: decimal numbers on lines of their own at the beginning of the data.
#[derive(Default)]
pub(super) struct NewMap {
    number: Option<u64>,
    count: Option<u64>,
    offset: Option<u64>,
    extents: Vec<Extent>,
}

impl NewMap {
    pub(super) fn is_complete(&self) -> bool {
        self.count
            .is_some_and(|count| self.extents.len() as u64 == count)
    }

    /// Adds a block; what follows the last number in it is padding.
    pub(super) fn extend(&mut self, block: &[u8; BLOCK]) -> Result<(), TarFlaw> {
        for byte in block {
            if self.is_complete() {
                return Ok(());
            }
            match byte {
                b'0'..=b'9' => {
                    let value = self.number.unwrap_or(0).checked_mul(10);
                    let value = value.and_then(|v| v.checked_add(u64::from(byte - b'0')));
                    self.number = Some(value.ok_or(TarFlaw::Sparse)?);
                }
                b'\n' => self.line()?,
                _ => return Err(TarFlaw::Sparse),
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<(), TarFlaw> {
        let number = self.number.take().ok_or(TarFlaw::Sparse)?;
        match (self.count, self.offset.take()) {
            (None, _) if number <= EXTENTS as u64 => self.count = Some(number),
            (None, _) => return Err(TarFlaw::Sparse),
            (Some(_), None) => self.offset = Some(number),
            (Some(_), Some(offset)) => push(&mut self.extents, offset, number)?,
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Extent> {
        self.extents
    }
}
