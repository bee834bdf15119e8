//! `docker-archive:`: the tar file of `docker save` (`manifest.json`, configs and plain layers; Docker
//! image-spec v1.2), read as an image of Docker's schema 2.
//!
//! Must never believe a name or size of the archive: contents are found by the tar's own headers
//! and checked against the config's diff_ids.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use image::{Compression, Descriptor, Digest, ImageConfig, Manifest, MediaType, Reference};
use serde::{Deserialize, Serialize};
use store::{TarFile, TarKind};

use crate::chunks::{self, Chunks};
use crate::document::{Document, MAX_CONFIG, MAX_MANIFEST};
use crate::error::{Error, Result};
use crate::name::ArchiveEntry;
use crate::{compression, recode};

mod write;

pub(crate) use write::ArchiveTarget;
pub use write::ArchiveWriter;

pub(crate) const INDEX: &str = "manifest.json";
/// Links from one name of the archive to another are followed this often.
const MAX_LINKS: usize = 8;
/// All names and links of an archive together, in bytes: they are kept in memory.
const MAX_NAMES: usize = 32 << 20;

/// One image of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Where an entry's bytes are in the archive.
#[derive(Debug, Clone)]
enum Entry {
    File { offset: u64, size: u64 },
    Link(String),
}

/// An image in an archive.
#[derive(Debug)]
pub(crate) struct ArchiveSource {
    file: File,
    manifest: Document,
    config: Bytes,
    /// Offset and size by digest.
    layers: HashMap<Digest, (u64, u64)>,
}

impl ArchiveSource {
    /// Reads the archive's headers, and the digests of layers that are compressed.
    pub(crate) fn open(path: &Path, which: &ArchiveEntry) -> Result<ArchiveSource> {
        let archive = Archive::open(path)?;
        let item = archive.choose(which)?;
        let config = Bytes::from(archive.read(&item.config, MAX_CONFIG)?);
        let parsed = ImageConfig::parse(&config)?;
        if parsed.rootfs.diff_ids.len() != item.layers.len() {
            return Err(Error::place(
                path.display(),
                format!(
                    "{} layers but {} diff_ids",
                    item.layers.len(),
                    parsed.rootfs.diff_ids.len()
                ),
            ));
        }
        let mut layers = HashMap::new();
        let mut descriptors = Vec::new();
        for (name, diff_id) in item.layers.iter().zip(&parsed.rootfs.diff_ids) {
            let (offset, size) = archive.find(name)?;
            let descriptor = archive.layer(offset, size, diff_id)?;
            layers.insert(descriptor.digest.clone(), (offset, size));
            descriptors.push(descriptor);
        }
        let manifest = Manifest::new(
            MediaType::DockerManifest,
            Descriptor::of(MediaType::DockerConfig, &config),
            descriptors,
        );
        Ok(ArchiveSource {
            file: archive.file,
            manifest: Document::of(MediaType::DockerManifest, &manifest)?,
            config,
            layers,
        })
    }

    pub(crate) fn manifest(&self) -> Document {
        self.manifest.clone()
    }

    pub(crate) async fn blob(&self, descriptor: &Descriptor) -> Result<Chunks> {
        match self.layers.get(&descriptor.digest) {
            // A compressed archive was spooled to a file without a name.
            Some((offset, size)) => {
                let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                chunks::from_file(Path::new(&path), *offset, *size).await
            }
            None => Ok(chunks::from_bytes(self.config.clone())),
        }
    }
}

/// The names in a `docker save` file, image by image.
pub fn docker_archive_names(path: &Path) -> Result<Vec<Vec<String>>> {
    Archive::open(path)?.names()
}

/// A tar file and where its entries are.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    file: File,
    entries: HashMap<String, Entry>,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Archive> {
        let failed = |e| Error::io("read", path)(e);
        let mut file = compression::tar_file(path)?;
        let flawed = Error::archive("read", path);
        let mut entries = HashMap::new();
        let mut names = 0;
        let mut tar = TarFile::new(file.try_clone().map_err(failed)?).map_err(&flawed)?;
        while let Some(entry) = tar.entry().map_err(&flawed)? {
            names += entry.path.len() + entry.link.len();
            if names > MAX_NAMES {
                let why = format!("the names in it are more than {MAX_NAMES} bytes");
                return Err(Error::place(path.display(), why));
            }
            let name = plain(&String::from_utf8_lossy(&entry.path));
            let link = String::from_utf8_lossy(&entry.link);
            let (offset, size) = (entry.offset, entry.size);
            let known = match entry.kind {
                TarKind::File => Entry::File { offset, size },
                TarKind::HardLink => Entry::Link(plain(&link)),
                TarKind::Symlink => {
                    let beside = Path::new(&name).parent().unwrap_or(Path::new(""));
                    Entry::Link(plain(&beside.join(&*link).to_string_lossy()))
                }
                TarKind::Directory | TarKind::Other => continue,
            };
            entries.insert(name, known);
        }
        file.rewind().map_err(failed)?;
        Ok(Archive {
            path: path.to_owned(),
            file,
            entries,
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The names in `manifest.json`, image by image.
    pub(crate) fn names(&self) -> Result<Vec<Vec<String>>> {
        let items = self.items()?.into_iter();
        Ok(items
            .map(|item| item.repo_tags.unwrap_or_default())
            .collect())
    }

    fn items(&self) -> Result<Vec<Item>> {
        let bytes = self.read(INDEX, MAX_MANIFEST)?;
        serde_json::from_slice(&bytes)
            .map_err(Error::json(format!("{INDEX} of {}", self.path.display())))
    }

    fn choose(&self, which: &ArchiveEntry) -> Result<Item> {
        let items = self.items()?;
        let flawed = |why: String| Error::place(self.path.display(), why);
        let has = |item: &Item, name: &Reference| {
            let tags = item.repo_tags.iter().flatten();
            tags.filter_map(|tag| Reference::parse(tag).ok())
                .any(|tag| tag == *name)
        };
        let found = match which {
            ArchiveEntry::Only if items.len() > 1 => {
                return Err(flawed(format!(
                    "there are {} images in it: name one, or its place as :@0",
                    items.len()
                )));
            }
            ArchiveEntry::Only => items.into_iter().next(),
            ArchiveEntry::At(index) => items.into_iter().nth(*index),
            ArchiveEntry::Named(name) => items.into_iter().find(|item| has(item, name)),
        };
        found.ok_or_else(|| flawed("there is no such image in it".into()))
    }

    fn find(&self, name: &str) -> Result<(u64, u64)> {
        let mut name = plain(name);
        for _ in 0..MAX_LINKS {
            match self.entries.get(&name) {
                Some(Entry::File { offset, size }) => return Ok((*offset, *size)),
                Some(Entry::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(Error::place(
            self.path.display(),
            format!("there is no file {name:?} in it"),
        ))
    }

    pub(crate) fn read(&self, name: &str, max: u64) -> Result<Vec<u8>> {
        let (offset, size) = self.find(name)?;
        if size > max {
            return Err(Error::place(
                self.path.display(),
                format!("{name:?} has more than {max} bytes"),
            ));
        }
        let mut bytes = Vec::new();
        self.section(offset, size)
            .and_then(|mut section| section.read_to_end(&mut bytes))
            .map_err(Error::io("read", &self.path))?;
        Ok(bytes)
    }

    fn section(&self, offset: u64, size: u64) -> io::Result<impl Read + use<'_>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        Ok(file.take(size))
    }

    /// The descriptor of a layer. Plain ones have their diff_id for a digest, which the copy checks.
    fn layer(&self, offset: u64, size: u64, diff_id: &Digest) -> Result<Descriptor> {
        let failed = |e| Error::io("read", &self.path)(e);
        let mut section = BufReader::new(self.section(offset, size).map_err(failed)?);
        let media_type = match recode::detect(&mut section).map_err(failed)? {
            Compression::None => {
                return Ok(Descriptor::new(
                    MediaType::DockerLayer,
                    diff_id.clone(),
                    size,
                ));
            }
            Compression::Gzip => MediaType::DockerLayerGzip,
            Compression::Zstd => MediaType::DockerLayerZstd,
        };
        let mut hasher = Digest::hasher();
        let mut chunk = vec![0; 128 << 10];
        loop {
            match section.read(&mut chunk).map_err(failed)? {
                0 => return Ok(Descriptor::new(media_type, hasher.finish(), size)),
                length => hasher.update(&chunk[..length]),
            }
        }
    }
}

/// A name without `./`, and with `a/../b` resolved by words alone.
fn plain(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests;
