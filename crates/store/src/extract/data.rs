//! The data of a file: written as it comes, with its holes.
//!
//! Must never hold more of it in memory than the archive gives at once.

use std::fs::File;
use std::io::{BufRead, Seek, SeekFrom, Write};

use super::{EntryFlaw, Stop};
use crate::archive::{Archive, Entry};

/// Writes an entry's data, with its holes; returns the bytes that are no hole.
pub(super) fn write_data<R: BufRead>(
    archive: &mut Archive<R>,
    entry: &Entry,
    file: &mut File,
) -> Result<u64, Stop> {
    let failed = |op| move |source| Stop::Flaw(EntryFlaw::Io { op, source });
    let Some(extents) = &entry.sparse else {
        copy(archive, file, entry.size)?;
        return Ok(entry.size);
    };
    file.set_len(entry.size).map_err(failed("truncate"))?;
    let mut written = 0;
    for extent in extents {
        file.seek(SeekFrom::Start(extent.offset))
            .map_err(failed("seek"))?;
        copy(archive, file, extent.length)?;
        written += extent.length;
    }
    Ok(written)
}

fn copy<R: BufRead>(
    archive: &mut Archive<R>,
    file: &mut File,
    mut length: u64,
) -> Result<(), Stop> {
    while length > 0 {
        let data = archive.data().map_err(Stop::Archive)?;
        let piece = usize::try_from(length).map_or(data.len(), |length| length.min(data.len()));
        file.write_all(&data[..piece]).map_err(|source| {
            Stop::Flaw(EntryFlaw::Io {
                op: "write",
                source,
            })
        })?;
        archive.consume(piece);
        length -= piece as u64;
    }
    Ok(())
}
