//! Layers in another compression: read, decompressed, compressed and digested in one pass, into a
//! temporary file.
//!
//! Must never let a layer through whose content does not have the diff_id that the config says.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use flate2::GzBuilder;
use image::{Compression, Digest, Hasher, Verifier};

use crate::chunks::{self, Chunks};
use crate::error::{Error, Result};
use crate::temporary;

const BUFFER: usize = 128 << 10;
/// The level of gzip and zstd that their own tools take.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// A layer in its new form.
#[derive(Debug)]
pub(crate) struct Recoded {
    /// Without a name, so that nothing is left if this process is killed.
    file: File,
    pub digest: Digest,
    pub size: u64,
}

impl Recoded {
    pub(crate) async fn chunks(&self) -> Result<Chunks> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        chunks::from_file(Path::new(&path), 0, self.size).await
    }
}

/// How a layer is compressed, by its first bytes: media types are often wrong.
pub(crate) fn detect(reader: &mut impl BufRead) -> io::Result<Compression> {
    Ok(match reader.fill_buf()? {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    })
}

/// Compresses a layer as `to`, at `level` (the format's own when `None`).
pub(crate) async fn recode(
    layer: Chunks,
    digest: Digest,
    diff_id: Option<Digest>,
    to: Compression,
    level: Option<i32>,
) -> Result<Recoded> {
    let reader = chunks::reader(layer);
    tokio::task::spawn_blocking(move || {
        let file = temporary::nameless()?;
        let subject = format!("content of layer {digest}");
        let blob = |source| Error::Blob { digest, source };
        let mut content = diff_id.as_ref().map(Digest::verifier);
        let (digest, size) = run(reader, &file, &mut content, to, level).map_err(blob)?;
        if let Some(content) = content {
            content.finish(&subject)?;
        }
        Ok(Recoded { file, digest, size })
    })
    .await?
}

/// The digest and size of the result.
fn run(
    reader: impl Read,
    file: &File,
    verifier: &mut Option<Verifier>,
    to: Compression,
    level: Option<i32>,
) -> io::Result<(Digest, u64)> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let mut content: Box<dyn Read + '_> = match detect(&mut reader)? {
        Compression::None => Box::new(&mut reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&mut reader)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(&mut reader)?),
    };
    let mut encoder = Encoder::new(Hashing::new(file), to, level)?;
    let mut chunk = vec![0; BUFFER];
    loop {
        match content.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => {
                if let Some(verifier) = verifier {
                    verifier.update(&chunk[..length]);
                }
                encoder.write_all(&chunk[..length])?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    drop(content);
    // What comes after the compressed stream counts for the digest of the source.
    io::copy(&mut reader, &mut io::sink())?;
    Ok(encoder.finish()?.finish())
}

/// A file that knows the digest of what was written.
struct Hashing<'a> {
    file: &'a File,
    hasher: Hasher,
    size: u64,
}

impl<'a> Hashing<'a> {
    fn new(file: &'a File) -> Hashing<'a> {
        Hashing {
            file,
            hasher: Digest::hasher(),
            size: 0,
        }
    }

    fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.size)
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

enum Encoder<'a> {
    Plain(Box<Hashing<'a>>),
    Gzip(Box<flate2::write::GzEncoder<Hashing<'a>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Hashing<'a>>>),
}

impl<'a> Encoder<'a> {
    fn new(out: Hashing<'a>, to: Compression, level: Option<i32>) -> io::Result<Encoder<'a>> {
        Ok(match to {
            Compression::None => Encoder::Plain(Box::new(out)),
            Compression::Gzip => {
                let level = level.map_or(Ok(GZIP_LEVEL), u32::try_from);
                let level = level.unwrap_or(GZIP_LEVEL).min(9);
                // No name and no time: the same layer gives the same bytes.
                let level = flate2::Compression::new(level);
                Encoder::Gzip(Box::new(GzBuilder::new().write(out, level)))
            }
            Compression::Zstd => {
                let level = level.unwrap_or(ZSTD_LEVEL);
                Encoder::Zstd(Box::new(zstd::stream::write::Encoder::new(out, level)?))
            }
        })
    }

    fn finish(self) -> io::Result<Hashing<'a>> {
        match self {
            Encoder::Plain(out) => Ok(*out),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Encoder<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::Plain(out) => out.write(bytes),
            Encoder::Gzip(encoder) => encoder.write(bytes),
            Encoder::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Plain(out) => out.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
            Encoder::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    async fn through(bytes: &[u8], to: Compression, diff_id: Option<Digest>) -> Result<Vec<u8>> {
        let source = chunks::from_bytes(Bytes::copy_from_slice(bytes));
        let recoded = recode(source, Digest::of(bytes), diff_id, to, None).await?;
        let out = chunks::collect(recoded.chunks().await?, 1 << 20)
            .await
            .unwrap();
        assert_eq!(
            (Digest::of(&out), out.len() as u64),
            (recoded.digest, recoded.size)
        );
        Ok(out)
    }

    #[tokio::test]
    async fn every_form_becomes_every_other_and_keeps_its_content() {
        let content = b"some content ".repeat(1000);
        let diff_id = Some(Digest::of(&content));
        let mut bytes = content.clone();
        for to in [
            Compression::Gzip,
            Compression::Zstd,
            Compression::Gzip,
            Compression::None,
            Compression::Zstd,
            Compression::None,
        ] {
            bytes = through(&bytes, to, diff_id.clone()).await.unwrap();
            assert_eq!(detect(&mut bytes.as_slice()).unwrap(), to);
        }
        assert_eq!(bytes, content);
    }

    #[tokio::test]
    async fn a_layer_with_other_content_than_the_config_says_is_refused() {
        let other = Some(Digest::of(b"other"));
        let error = through(b"content", Compression::Gzip, other)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("content of layer"), "{error}");
    }

    #[tokio::test]
    async fn a_broken_layer_is_named() {
        let broken = [&[0x1f, 0x8b, 8][..], &[0; 20]].concat();
        let error = through(&broken, Compression::None, None).await.unwrap_err();
        let digest = Digest::of(&broken).to_string();
        assert!(error.to_string().contains(&digest), "{error}");
    }
}
