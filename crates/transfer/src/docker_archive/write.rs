//! Writing an archive of `docker save`: its images are collected in a private directory and become a
//! tar file at once.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use image::{Descriptor, Digest, Manifest};

use super::{INDEX, Item};
use crate::chunks::Chunks;
use crate::error::{Error, Result};
use crate::{layout, temporary};

/// An archive that gets any number of images. Nothing is written before [`ArchiveWriter::finish`].
#[derive(Debug, Clone)]
pub struct ArchiveWriter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    blobs: temporary::PrivateDir,
    items: Mutex<Vec<Item>>,
}

impl ArchiveWriter {
    /// Begins an archive. Errors when there is a file with something in it.
    pub fn create(path: &Path) -> Result<ArchiveWriter> {
        if fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
            return Err(Error::place(
                path.display(),
                "it exists, and an archive cannot be added to",
            ));
        }
        Ok(ArchiveWriter(Arc::new(Inner {
            path: path.to_owned(),
            blobs: temporary::dir()?,
            items: Mutex::default(),
        })))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Adds an image whose blobs are there; the same image again only gets further names.
    fn add(&self, names: Vec<String>, manifest: &Manifest) {
        let layers = manifest.layers.iter();
        let item = Item {
            config: config_name(&manifest.config.digest),
            repo_tags: Some(names),
            layers: layers.map(|layer| layer_name(&layer.digest)).collect(),
        };
        let mut items = self.0.items.lock().unwrap_or_else(PoisonError::into_inner);
        let same = items
            .iter_mut()
            .find(|old| old.config == item.config && old.layers == item.layers);
        match same {
            Some(old) => {
                let names = old.repo_tags.get_or_insert_default();
                for name in item.repo_tags.into_iter().flatten() {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
            None => items.push(item),
        }
    }

    /// Writes the archive with all its images.
    pub fn finish(self) -> Result<()> {
        let items = self.0.items.lock().unwrap_or_else(PoisonError::into_inner);
        let index = serde_json::to_vec(&*items).map_err(Error::json(INDEX))?;
        let parent = self
            .0
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        temporary::sweep(parent.unwrap_or(Path::new(".")), self.0.path.file_name());
        let temp = temporary::Beside::create(&self.0.path)?;
        let mut tar = tar::Builder::new(io::BufWriter::new(temp.file()));
        tar.mode(tar::HeaderMode::Deterministic);
        self.fill(&mut tar, &items, &index)
            .and_then(|()| tar.into_inner())
            .and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error))
            .and_then(|out| out.sync_all())
            .map_err(Error::io("write", temp.path()))?;
        temp.finish(&self.0.path)
    }

    fn fill(
        &self,
        tar: &mut tar::Builder<impl io::Write>,
        items: &[Item],
        index: &[u8],
    ) -> io::Result<()> {
        let files = items
            .iter()
            .flat_map(|item| item.layers.iter().chain([&item.config]));
        let mut written = HashSet::new();
        for name in files.filter(|name| written.insert(*name)) {
            // A blob lies under its digest; the archive's name has an ending more.
            let hex = name.split('.').next().unwrap_or(name);
            tar.append_path_with_name(self.0.blobs.path().join(hex), name)?;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(index.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, INDEX, index)
    }
}

/// An image's place in an archive.
#[derive(Debug)]
pub(crate) struct ArchiveTarget {
    writer: ArchiveWriter,
    names: Vec<String>,
    /// Whether the archive is written with this image, as it is the only one.
    only: bool,
}

impl ArchiveTarget {
    pub(crate) fn open(path: &Path, names: Vec<String>) -> Result<ArchiveTarget> {
        Ok(ArchiveTarget {
            writer: ArchiveWriter::create(path)?,
            names,
            only: true,
        })
    }

    pub(crate) fn among(writer: &ArchiveWriter, names: Vec<String>) -> ArchiveTarget {
        ArchiveTarget {
            writer: writer.clone(),
            names,
            only: false,
        }
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.writer.0.blobs.path().join(digest.hex())
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blob(digest).exists()
    }

    pub(crate) async fn put_blob(&self, descriptor: &Descriptor, chunks: Chunks) -> Result<()> {
        layout::put_file(&self.blob(&descriptor.digest), descriptor, chunks).await
    }

    pub(crate) fn commit(self, manifest: &Manifest) -> Result<()> {
        self.writer.add(self.names, manifest);
        match self.only {
            true => self.writer.finish(),
            false => Ok(()),
        }
    }
}

fn config_name(digest: &Digest) -> String {
    format!("{}.json", digest.hex())
}

fn layer_name(digest: &Digest) -> String {
    format!("{}.tar", digest.hex())
}
