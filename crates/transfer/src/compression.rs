//! The compressions of whole archives, told by their first bytes, and what they hold, as a tar file.
//!
//! Must never need memory that the archive chooses, nor fill the disk from a bomb, nor repeat in an error
//! the bytes of what is no archive.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::Path;

use liblzma::stream::{CONCATENATED, Stream};
use store::TarFile;

use crate::error::{Error, Result};
use crate::temporary;

/// The most memory that xz may take: twice what `xz -9` needs.
const XZ_MEMORY: u64 = 128 << 20;
/// zstd's own default limit of its window, as a power of two.
const ZSTD_WINDOW: u32 = 27;
/// The most that an archive may unpack to, and from where on how many times its own size.
const UNPACKED: u64 = 1 << 40;
const RATIO_FROM: u64 = 4 << 30;
const RATIO: u64 = 2000;
const BUFFER: usize = 128 << 10;
const BLOCK: usize = 512;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Form {
    /// By the first bytes of a file.
    pub(crate) fn of(magic: &[u8]) -> Form {
        match magic {
            [0x1f, 0x8b, ..] => Form::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Form::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Form::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Form::Bzip2,
            _ => Form::Plain,
        }
    }

    /// Whether a layer may be in it.
    pub(crate) fn is_of_layers(self) -> bool {
        matches!(self, Form::Plain | Form::Gzip | Form::Zstd)
    }
}

fn decoder<'a>(form: Form, reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match form {
        Form::Plain => Box::new(reader),
        Form::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Form::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Form::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream))
        }
        Form::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
    })
}

/// A seekable file of an archive's bytes: the file itself, or, when that is compressed, a nameless file of
/// what it holds. Errors with [`Error::Place`] when it is no tar archive.
pub(crate) fn tar_file(path: &Path) -> Result<File> {
    let mut file = unpacked(path)?;
    let failed = |e| Error::io("read", path)(e);
    let mut block = [0; BLOCK];
    let length = fill(&mut file, &mut block).map_err(failed)?;
    if length < BLOCK || !TarFile::begins_with(&block) {
        let why = "it is no tar archive, nor one compressed with gzip, zstd, xz or bzip2";
        return Err(Error::place(path.display(), why));
    }
    file.rewind().map_err(failed)?;
    Ok(file)
}

/// The file, or, when it is compressed, a nameless file of what it holds.
pub(crate) fn unpacked(path: &Path) -> Result<File> {
    let failed = |e| Error::io("read", path)(e);
    let file = File::open(path).map_err(Error::io("open", path))?;
    let kind = file.metadata().map_err(failed)?.file_type();
    if kind.is_dir() {
        return Err(Error::place(path.display(), "it is a directory"));
    }
    let mut reader = BufReader::with_capacity(BUFFER, Counted(file, 0));
    let form = Form::of(reader.fill_buf().map_err(failed)?);
    if form == Form::Plain && kind.is_file() {
        let mut file = reader.into_inner().0;
        file.rewind().map_err(failed)?;
        return Ok(file);
    }
    let mut whole = temporary::nameless()?;
    spool(form, &mut reader, &mut whole, path)?;
    whole.rewind().map_err(failed)?;
    Ok(whole)
}

fn spool(form: Form, reader: &mut BufReader<Counted>, whole: &mut File, path: &Path) -> Result<()> {
    let failed = |e| Error::io("read", path)(e);
    // What was read is counted below the decoder, which has the reader.
    let taken = std::cell::Cell::new(0);
    let mut decoder = decoder(form, Watched(reader, &taken)).map_err(failed)?;
    let mut chunk = vec![0; BUFFER];
    let mut total = 0_u64;
    loop {
        let length = match decoder.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::io("decompress", path)(e)),
        };
        total += length as u64;
        if total > UNPACKED || (total > RATIO_FROM && total / RATIO > taken.get()) {
            let why = format!("it unpacks to more than {total} bytes: no honest archive does");
            return Err(Error::place(path.display(), why));
        }
        whole.write_all(&chunk[..length]).map_err(failed)?;
    }
}

fn fill(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

/// A file, and how much of it was read.
struct Counted(File, u64);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1 += length as u64;
        Ok(length)
    }
}

/// A reader that shows how much was read below it.
struct Watched<'a>(&'a mut BufReader<Counted>, &'a std::cell::Cell<u64>);

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1.set(self.0.get_ref().1);
        Ok(length)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()?;
        self.1.set(self.0.get_ref().1);
        Ok(self.0.buffer())
    }

    fn consume(&mut self, length: usize) {
        self.0.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        tar.append_data(&mut header, "x", &b"abc"[..]).unwrap();
        tar.into_inner().unwrap()
    }

    fn compressed(form: Form, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match form {
            Form::Plain => out.extend(bytes),
            Form::Gzip => {
                let level = flate2::Compression::fast();
                drop(flate2::bufread::GzEncoder::new(bytes, level).read_to_end(&mut out));
            }
            Form::Zstd => out = zstd::encode_all(bytes, 1).unwrap(),
            Form::Xz => drop(liblzma::bufread::XzEncoder::new(bytes, 1).read_to_end(&mut out)),
            Form::Bzip2 => {
                let level = bzip2::Compression::fast();
                drop(bzip2::bufread::BzEncoder::new(bytes, level).read_to_end(&mut out));
            }
        }
        out
    }

    const ALL: [Form; 5] = [Form::Plain, Form::Gzip, Form::Zstd, Form::Xz, Form::Bzip2];

    #[test]
    fn archives_in_every_compression_come_out_as_they_went_in_also_in_several_streams() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive");
        let tar = tar();
        for form in ALL {
            let (one, two) = tar.split_at(700);
            let streams = [compressed(form, one), compressed(form, two)].concat();
            for bytes in [compressed(form, &tar), streams] {
                assert_eq!(Form::of(&bytes), form);
                std::fs::write(&path, bytes).unwrap();
                let mut out = Vec::new();
                tar_file(&path).unwrap().read_to_end(&mut out).unwrap();
                assert_eq!(out, tar, "{form:?}");
            }
        }
    }

    #[test]
    fn what_is_no_archive_is_said_without_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive");
        let secret = b"-----BEGIN KEY----- \x1b[2J hidden ".repeat(40);
        for form in ALL {
            for bytes in [&secret[..], b"short", b""] {
                std::fs::write(&path, compressed(form, bytes)).unwrap();
                let error = tar_file(&path).unwrap_err().to_string();
                assert!(error.contains("it is no tar archive"), "{form:?}: {error}");
                assert!(!error.contains("KEY") && !error.contains('\x1b'), "{error}");
            }
        }
    }

    #[test]
    fn a_compressed_archive_that_is_cut_or_damaged_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive");
        let noise: Vec<u8> = (0..200_000_u64).map(|n| (n * n % 251) as u8).collect();
        for form in [Form::Gzip, Form::Zstd, Form::Xz, Form::Bzip2] {
            let whole = compressed(form, &[tar(), noise.clone()].concat());
            let mut damaged = whole.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0xff;
            // zstd adds a checksum only when it is asked to.
            let all = [&whole[..middle], &damaged];
            for bytes in &all[..if form == Form::Zstd { 1 } else { 2 }] {
                std::fs::write(&path, bytes).unwrap();
                assert!(tar_file(&path).is_err(), "{form:?}");
            }
        }
    }

    #[test]
    fn xz_that_asks_for_much_memory_is_refused() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
        options.dict_size(512 << 20);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let check = liblzma::stream::Check::Crc32;
        let stream = Stream::new_stream_encoder(&filters, check).unwrap();
        let mut bytes = Vec::new();
        let tar = tar();
        liblzma::bufread::XzEncoder::new_stream(&tar[..], stream)
            .read_to_end(&mut bytes)
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive");
        std::fs::write(&path, bytes).unwrap();
        let error = tar_file(&path).unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }
}
