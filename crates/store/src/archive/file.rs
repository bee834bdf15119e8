//! A tar file on disk, for whoever imports one: where its entries' contents are. The reader is that of layers.
//!
//! Hostile input. Must never give more entries than [`MAX_ENTRIES`], names longer than [`MAX_NAME`], nor one
//! whose contents the file does not hold.

use std::fs::File;
use std::io::{self, BufReader, Seek, Write};

use super::header::{BLOCK, Header};
use super::{Archive, ArchiveError, Entry, Kind, Result, TarFlaw};

/// More entries than any honest archive of images has: four files for each layer of 250 images of 127 layers.
const MAX_ENTRIES: u32 = 1 << 17;
/// The longest name or link in bytes (PATH_MAX).
const MAX_NAME: usize = 4096;

/// What an entry of a tar file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarKind {
    /// A plain file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of an entry before it.
    HardLink,
    /// A device, a pipe, a file with holes, or anything else.
    Other,
}

/// An entry of a tar file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// What it is.
    pub kind: TarKind,
    /// Its name as it is written: neither empty nor with a NUL, but otherwise anything.
    pub path: Vec<u8>,
    /// Where a link leads, as it is written.
    pub link: Vec<u8>,
    /// Where in the tar file its contents begin, in bytes.
    pub offset: u64,
    /// Bytes of its contents, all of which are in the file.
    pub size: u64,
}

/// A tar file, read entry by entry from where the file stands. Contents that nobody asks for are not read.
#[derive(Debug)]
pub struct TarFile {
    archive: Archive<BufReader<File>>,
    begin: u64,
    length: u64,
    entries: u32,
}

impl TarFile {
    /// Whether a file that begins with this block can be a tar archive: the block is a header, or the archive
    /// is empty.
    #[must_use]
    pub fn begins_with(block: &[u8; BLOCK]) -> bool {
        *block == [0; BLOCK] || Header::new(*block).is_ok()
    }

    /// A tar that begins where `file` stands.
    ///
    /// # Errors
    /// A file that cannot be asked how long it is, or is no plain one.
    pub fn new(mut file: File) -> io::Result<TarFile> {
        let begin = file.stream_position()?;
        Ok(TarFile {
            length: file.metadata()?.len().saturating_sub(begin),
            archive: Archive::new(BufReader::new(file)),
            begin,
            entries: 0,
        })
    }

    /// The next entry; `None` after the last one.
    ///
    /// # Errors
    /// The file cannot be read, is no tar archive from some place on, or has more than 131,072 entries or a name of
    /// more than 4096 bytes ([`TarFlaw`], as `InvalidData`; nothing of what it says is the archive's).
    pub fn entry(&mut self) -> io::Result<Option<TarEntry>> {
        self.archive.seek_over_data(self.length).map_err(said)?;
        let Some(entry) = self.archive.next().map_err(said)? else {
            return Ok(None);
        };
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(said(self.archive.flaw(TarFlaw::Entries)));
        }
        if entry.path.len().max(entry.link.len()) > MAX_NAME {
            return Err(said(self.archive.flaw(TarFlaw::LongName)));
        }
        let size = self.archive.data;
        if self.archive.offset.saturating_add(size) > self.length {
            return Err(said(self.archive.flaw(TarFlaw::Truncated)));
        }
        Ok(Some(TarEntry {
            kind: kind(&entry),
            path: entry.path,
            link: entry.link,
            offset: self.begin + self.archive.offset,
            size,
        }))
    }

    /// Copies the contents of the entry that was asked for last.
    ///
    /// # Errors
    /// The file cannot be read, or `out` not be written.
    pub fn copy(&mut self, out: &mut impl Write) -> io::Result<()> {
        loop {
            let piece = self.archive.data().map_err(said)?;
            if piece.is_empty() {
                return Ok(());
            }
            out.write_all(piece)?;
            let length = piece.len();
            self.archive.consume(length);
        }
    }
}

fn kind(entry: &Entry) -> TarKind {
    match entry.kind {
        Kind::File if entry.sparse.is_none() => TarKind::File,
        Kind::Directory => TarKind::Directory,
        Kind::Symlink => TarKind::Symlink,
        Kind::HardLink => TarKind::HardLink,
        _ => TarKind::Other,
    }
}

fn said(error: ArchiveError) -> io::Error {
    match error {
        ArchiveError::Read(error) => error,
        ArchiveError::Flaw { offset, flaw } => {
            io::Error::new(io::ErrorKind::InvalidData, format!("byte {offset}: {flaw}"))
        }
    }
}

impl Archive<BufReader<File>> {
    fn flaw(&self, flaw: TarFlaw) -> ArchiveError {
        ArchiveError::Flaw {
            offset: self.offset,
            flaw,
        }
    }

    /// Goes past the current entry's data without reading it; the file has `length` bytes in all.
    fn seek_over_data(&mut self, length: u64) -> Result<()> {
        let rest = self.data.saturating_add(self.padding);
        let after = self.offset.saturating_add(rest);
        let step = i64::try_from(rest).map_err(|_| self.flaw(TarFlaw::Truncated))?;
        if after > length {
            return Err(self.flaw(TarFlaw::Truncated));
        }
        self.source
            .seek_relative(step)
            .map_err(ArchiveError::Read)?;
        (self.offset, self.data, self.padding) = (after, 0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, SeekFrom};

    use super::*;

    /// Writes the checksum of a header.
    fn sum_up(block: &mut [u8]) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    /// Header and contents of a plain file, padded.
    fn file(name: &str, contents: &[u8]) -> Vec<u8> {
        let mut block = [0_u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[124..136].copy_from_slice(format!("{:011o}\0", contents.len()).as_bytes());
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        sum_up(&mut block);
        let mut all = [&block[..], contents].concat();
        all.resize(all.len().next_multiple_of(512), 0);
        all
    }

    fn opened(bytes: &[u8]) -> (TarFile, File) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        (TarFile::new(file.try_clone().unwrap()).unwrap(), file)
    }

    #[test]
    fn contents_are_where_an_entry_says_and_are_copied_or_passed_over() {
        let big = vec![7; 100_000];
        let bytes = [
            file("a", b"one"),
            file("b", &big),
            file("c", b"three"),
            vec![0; 1024],
        ]
        .concat();
        let (mut tar, mut raw) = opened(&bytes);
        let mut found = Vec::new();
        while let Some(entry) = tar.entry().unwrap() {
            if entry.path == b"c" {
                let mut out = Vec::new();
                tar.copy(&mut out).unwrap();
                assert_eq!(out, b"three");
            }
            found.push(entry);
        }
        assert_eq!(found.len(), 3);
        for (entry, contents) in found.iter().zip([&b"one"[..], &big, b"three"]) {
            assert_eq!(entry.kind, TarKind::File);
            raw.seek(SeekFrom::Start(entry.offset)).unwrap();
            let mut read = vec![0; usize::try_from(entry.size).unwrap()];
            raw.read_exact(&mut read).unwrap();
            assert!(read == contents, "{:?}", entry.path);
        }
    }

    #[test]
    fn an_entry_that_the_file_does_not_hold_is_refused_at_once() {
        let whole = [file("a", b"one"), file("b", &[1; 600])].concat();
        let (mut tar, _) = opened(&whole[..whole.len() - 700]);
        tar.entry().unwrap().unwrap();
        let error = tar.entry().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("in the middle"), "{error}");
        let (mut tar, _) = opened(&[1; 600]);
        assert!(tar.entry().unwrap_err().to_string().contains("checksum"));
    }

    /// A file whose size field says `size`.
    fn claims(size: &[u8; 12]) -> Vec<u8> {
        let mut block = file("a", b"");
        block[124..136].copy_from_slice(size);
        sum_up(&mut block);
        block
    }

    #[test]
    fn no_size_leads_out_of_the_file() {
        for size in [
            *b"00000001001\0",
            *b"77777777777\0",
            *b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
        ] {
            let (mut tar, _) = opened(&claims(&size));
            let error = tar.entry().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{size:?}");
        }
    }

    #[test]
    fn more_entries_than_an_archive_of_images_has_are_refused() {
        let one = file("a", b"");
        let (mut tar, _) = opened(&one.repeat(MAX_ENTRIES as usize + 1));
        for _ in 0..MAX_ENTRIES {
            tar.entry().unwrap().unwrap();
        }
        let error = tar.entry().unwrap_err().to_string();
        assert!(error.contains("more entries"), "{error}");
    }

    #[test]
    fn an_archive_is_told_by_its_first_block() {
        let header = file("a", b"");
        let mut block: [u8; BLOCK] = header.try_into().unwrap();
        assert!(TarFile::begins_with(&block));
        assert!(TarFile::begins_with(&[0; BLOCK]));
        block[0] = b'b';
        assert!(!TarFile::begins_with(&block));
    }
}
