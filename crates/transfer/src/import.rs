//! An image of one layer from a tar file of a root file system, for `import`.
//!
//! Must never read the file twice for different purposes without checking that it is still the same:
//! the store checks the digests that the first reading found.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use image::config::{ContainerConfig, History, RootFs};
use image::{Compression, Descriptor, Digest, Hasher, ImageConfig, Manifest, MediaType, Platform};
use store::{Document, ImageRecord, NewImage, Store};

use crate::compression::{self, Form};
use crate::error::{Error, Result};
use crate::recode;

/// What is known of the image besides its files.
#[derive(Debug, Clone)]
pub struct Import {
    /// What its containers start with.
    pub config: ContainerConfig,
    /// What it is for.
    pub platform: Platform,
    /// A remark for its history.
    pub message: Option<String>,
    /// Now, RFC 3339.
    pub created: String,
    /// References with a tag; perhaps none.
    pub names: Vec<String>,
}

/// Makes an image of a tar file, plain or compressed with gzip, zstd, xz or bzip2, and stores it. No layer
/// can be in the last two: they are unpacked first.
///
/// Blocks. Errors with [`Error::Place`] for what is no such file, and with what the store says.
pub fn import(store: &Store, file: &Path, import: Import) -> Result<ImageRecord> {
    let source = Source::open(file)?;
    let (layer, diff_id) = measure(&source)?;
    let config = ImageConfig {
        created: Some(import.created.clone()),
        architecture: import.platform.architecture.clone(),
        variant: import.platform.variant.clone(),
        os: import.platform.os.clone(),
        config: import.config,
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: vec![diff_id.clone()],
        },
        history: vec![History {
            created: Some(import.created),
            created_by: Some(format!("/bin/sh -c #(nop) ADD file:{} in /", diff_id.hex())),
            comment: import.message,
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    let config = json(MediaType::OciConfig, &config)?;
    let parts = vec![layer.clone()];
    let manifest = Manifest::new(MediaType::OciManifest, config.descriptor.clone(), parts);
    let lease = store.lease()?;
    let reader = source.reader()?;
    store.add_layer(&lease, &layer, &diff_id, BufReader::new(reader))?;
    let new = NewImage {
        manifest: json(MediaType::OciManifest, &manifest)?,
        config,
        index: None,
        inner: Vec::new(),
        names: import.names,
        signatures: Vec::new(),
    };
    Ok(store.put_image(&lease, new)?)
}

fn json<T: serde::Serialize>(media_type: MediaType, value: &T) -> Result<Document> {
    let bytes = serde_json::to_vec(value).map_err(Error::json(media_type.to_string()))?;
    Ok(Document::new(media_type, bytes))
}

/// What is imported: the file itself, or what it unpacks to.
struct Source<'a> {
    path: &'a Path,
    unpacked: Option<File>,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Source<'a>> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut reader = BufReader::new(file);
        let form = Form::of(reader.fill_buf().map_err(Error::io("read", path))?);
        let unpacked = match form.is_of_layers() {
            true => None,
            false => Some(compression::tar_file(path)?),
        };
        Ok(Source { path, unpacked })
    }

    /// Reads it from its beginning; one reader at a time.
    fn reader(&self) -> Result<File> {
        let Some(unpacked) = &self.unpacked else {
            return File::open(self.path).map_err(Error::io("open", self.path));
        };
        let again = || {
            let mut file = unpacked.try_clone()?;
            file.rewind()?;
            Ok(file)
        };
        again().map_err(Error::io("read", self.path))
    }
}

/// The layer that the file is, and the digest of its content.
fn measure(source: &Source<'_>) -> Result<(Descriptor, Digest)> {
    let failed = |e| Error::io("read", source.path)(e);
    let mut reader = BufReader::with_capacity(128 << 10, Measured::new(source.reader()?));
    let compression = recode::detect(&mut reader).map_err(failed)?;
    let (media_type, mut content): (_, Box<dyn Read + '_>) = match compression {
        Compression::None => (MediaType::OciLayer, Box::new(&mut reader)),
        Compression::Gzip => {
            let decoder = flate2::bufread::MultiGzDecoder::new(&mut reader);
            (MediaType::OciLayerGzip, Box::new(decoder))
        }
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&mut reader).map_err(failed)?;
            (MediaType::OciLayerZstd, Box::new(decoder))
        }
    };
    let mut hashed = Measured::new(&mut content);
    io::copy(&mut hashed, &mut io::sink()).map_err(failed)?;
    let (diff_id, _) = hashed.finish();
    drop(content);
    // What comes after the compressed stream belongs to the file.
    io::copy(&mut reader, &mut io::sink()).map_err(failed)?;
    let (digest, size) = reader.into_inner().finish();
    Ok((Descriptor::new(media_type, digest, size), diff_id))
}

/// A reader that knows digest and size of what was read.
struct Measured<R> {
    inner: R,
    hasher: Hasher,
    size: u64,
}

impl<R> Measured<R> {
    fn new(inner: R) -> Measured<R> {
        Measured {
            inner,
            hasher: Digest::hasher(),
            size: 0,
        }
    }

    fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.size)
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        self.size += length as u64;
        Ok(length)
    }
}
