//! The compressed side of a layer: which format it is, and its stream of uncompressed bytes.
//!
//! The first bytes decide, not the media type: registries are full of layers whose type is wrong.
//! Must never need memory that the stream chooses: zstd windows above 128 MiB are refused.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use image::{Compression, MediaType};

use crate::error::LayerError;

/// zstd's own default limit, as a power of two.
const ZSTD_WINDOW: u32 = 27;

/// A layer's uncompressed bytes.
pub(super) enum Decoder<R: BufRead> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn new(compression: Compression, reader: R) -> io::Result<Decoder<R>> {
        Ok(match compression {
            Compression::None => Decoder::Plain(reader),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(reader))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Decoder::Zstd(Box::new(decoder))
            }
        })
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(reader) => reader.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// The format of a layer by its first bytes.
pub(super) fn detect(media_type: &MediaType, magic: &[u8]) -> Result<Compression, LayerError> {
    match magic {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(LayerError::Format("bzip2".to_owned())),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(LayerError::Format("xz".to_owned())),
        // Neither a known layer type nor recognisable: encrypted, or no layer at all.
        _ if media_type.compression().is_none() && media_type.as_str().contains("encrypted") => {
            Err(LayerError::Format(media_type.to_string()))
        }
        _ => Ok(Compression::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_win_over_the_media_type() {
        let typed = MediaType::OciLayerGzip;
        assert_eq!(detect(&typed, b"\x1f\x8b\x08").unwrap(), Compression::Gzip);
        assert_eq!(
            detect(&typed, b"\x28\xb5\x2f\xfd\0\0").unwrap(),
            Compression::Zstd
        );
        assert_eq!(
            detect(&typed, b"\x50\x2a\x4d\x18\0\0").unwrap(),
            Compression::Zstd
        );
        assert_eq!(detect(&typed, b"bin/sh").unwrap(), Compression::None);
    }

    #[test]
    fn what_cannot_be_unpacked_is_named() {
        let error = detect(&MediaType::OciLayer, b"\xfd7zXZ\0").unwrap_err();
        assert_eq!(
            error.to_string(),
            "xz is not a layer format that can be unpacked"
        );
        let encrypted = MediaType::from("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
        assert!(detect(&encrypted, b"\x01\x02\x03\x04\x05\x06").is_err());
    }
}
