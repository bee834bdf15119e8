//! What a store says of its images and layers (`images.json`, `layers.json`), read under its locks.
//!
//! ```text
//! GRAPHROOT/DRIVER-images/images.json, images.lock, ID/DATA       manifests, configs, signatures
//! GRAPHROOT/DRIVER-layers/layers.json, volatile-layers.json, layers.lock, ID.tar-split.gz
//! GRAPHROOT/overlay/ID/diff, GRAPHROOT/vfs/dir/ID                 the layers' files
//! ```
//!
//! Identifiers in there are file names that somebody else chose: all is opened below the root. Must
//! never write there.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::Digest;
use rustix::fs::ResolveFlags;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::lock::Lock;
use super::tree;
use crate::error::{Error, Result};

/// The most that a list of images or layers may be.
const MAX_LIST: u64 = 256 << 20;

/// How layers are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    Overlay,
    Vfs,
}

impl Driver {
    /// The driver of this name; the name itself when it is none that is known.
    pub(super) fn parse(name: &str) -> Result<Driver, &str> {
        match name {
            "overlay" | "overlay2" => Ok(Driver::Overlay),
            "vfs" => Ok(Driver::Vfs),
            other => Err(other),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Driver::Overlay => "overlay",
            Driver::Vfs => "vfs",
        }
    }
}

/// An image of `images.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Image {
    pub(super) id: String,
    /// What was said to be its digest, besides those of its manifests.
    digest: Option<String>,
    #[serde(default)]
    pub(super) names: Vec<String>,
    #[serde(default, rename = "layer")]
    pub(super) top_layer: String,
    /// JSON: sizes of its signatures.
    #[serde(default)]
    pub(super) metadata: String,
    #[serde(default)]
    big_data_digests: HashMap<String, String>,
}

impl Image {
    /// Whether it has a manifest or index with this digest.
    pub(super) fn has_digest(&self, digest: &Digest) -> bool {
        let text = digest.to_string();
        let mut known = self.big_data_digests.iter();
        self.digest.as_ref() == Some(&text)
            || known.any(|(name, known)| name.starts_with("manifest") && *known == text)
    }
}

/// A layer of `layers.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Layer {
    pub(super) id: String,
    #[serde(default)]
    pub(super) parent: String,
    diff_digest: Option<String>,
    diff_size: Option<i64>,
    #[serde(default)]
    flags: Map<String, Value>,
}

impl Layer {
    /// Digest and size of its plain tar, or why they are not known.
    pub(super) fn content(&self) -> Result<(Digest, u64), String> {
        if self.flags.get("incomplete") == Some(&Value::Bool(true)) {
            return Err("it was never finished".into());
        }
        // A layer that was pulled in parts has only what was promised of it.
        let promised = self
            .flags
            .get("expected-layer-diffid")
            .and_then(Value::as_str);
        let digest = self.diff_digest.as_deref().filter(|text| !text.is_empty());
        let digest = digest.or(promised).ok_or("its digest is not recorded")?;
        let digest = Digest::parse(digest).map_err(|error| error.to_string())?;
        // A size of 0 is left out in the file.
        let size = self.diff_size.unwrap_or(0);
        let size = u64::try_from(size).map_err(|_| "its size is not recorded")?;
        Ok((digest, size))
    }
}

/// A directory of images and layers.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    dir: OwnedFd,
    driver: Driver,
}

impl Root {
    pub(super) fn open(path: &Path, driver: Driver) -> Result<Root> {
        let dir = File::open(path).map_err(Error::io("open", path))?;
        Ok(Root {
            path: path.to_owned(),
            dir: dir.into(),
            driver,
        })
    }

    /// All images. The lock is taken only meanwhile, here and elsewhere, so that nobody waits for a
    /// reader with patience.
    pub(super) fn images(&self) -> Result<Vec<Image>> {
        let _lock = self.lock("images")?;
        let images = self.list("images", "images.json")?;
        Ok(images.unwrap_or_default())
    }

    /// All layers.
    pub(super) fn layers(&self) -> Result<Vec<Layer>> {
        let _lock = self.lock("layers")?;
        let mut layers: Vec<Layer> = Vec::new();
        for name in ["layers.json", "volatile-layers.json"] {
            layers.extend(
                self.list::<Vec<Layer>>("layers", name)?
                    .into_iter()
                    .flatten(),
            );
        }
        Ok(layers)
    }

    /// What is kept with an image under a key; `None` when there is nothing.
    pub(super) fn data(&self, image: &Image, key: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let _lock = self.lock("images")?;
        let path = self.below("images", &image.id).join(file_name(key));
        self.read(&path, max)
    }

    /// What makes a layer, while nobody may change it: the pieces of its tar, and the directory of
    /// its files.
    pub(super) fn parts(&self, layer: &Layer) -> Result<(File, OwnedFd, Option<Lock>)> {
        let lock = self.lock("layers")?;
        let mut place = PathBuf::from(self.driver.name());
        match self.driver {
            Driver::Overlay => {
                place.push(&layer.id);
                if self.exists(&place.join("composefs-data"))? {
                    let why = "a layer of composefs is not supported";
                    return Err(Error::place(self.path.join(place).display(), why));
                }
                place.push("diff");
            }
            Driver::Vfs => place.extend([Path::new("dir"), Path::new(&layer.id)]),
        }
        let files = tree::open_dir(&self.dir, &place);
        let files = files.map_err(Error::io("open", self.path.join(&place)))?;
        let pieces = format!("{}.tar-split.gz", layer.id);
        let pieces = self.file(&self.below("layers", &pieces))?.ok_or_else(|| {
            let why = format!("layer {} has no tar-split data", layer.id);
            Error::place(self.path.display(), why)
        })?;
        Ok((pieces, files, lock))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        match tree::open_dir(&self.dir, path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("open", self.path.join(path))(error)),
        }
    }

    /// A store that nobody wrote to since it came here may have no such file.
    fn lock(&self, what: &str) -> Result<Option<Lock>> {
        let path = self.below(what, &format!("{what}.lock"));
        let lock = self.file(&path)?.map(Lock::shared).transpose();
        lock.map_err(Error::io("lock", self.path.join(path)))
    }

    fn list<T: DeserializeOwned>(&self, what: &str, name: &str) -> Result<Option<T>> {
        let path = self.below(what, name);
        let Some(bytes) = self.read(&path, MAX_LIST)? else {
            return Ok(None);
        };
        let list = serde_json::from_slice(&bytes).map(Some);
        list.map_err(Error::json(self.path.join(path).display().to_string()))
    }

    fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else {
            return Ok(None);
        };
        let path = self.path.join(path);
        let mut bytes = Vec::new();
        let read = file.take(max + 1).read_to_end(&mut bytes);
        read.map_err(Error::io("read", &path))?;
        if bytes.len() as u64 > max {
            let why = format!("it has more than {max} bytes");
            return Err(Error::place(path.display(), why));
        }
        Ok(Some(bytes))
    }

    fn file(&self, path: &Path) -> Result<Option<File>> {
        match tree::open_file(self.dir.as_fd(), path, ResolveFlags::BENEATH) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", self.path.join(path))(error)),
        }
    }

    /// `overlay-images/NAME` and the like.
    fn below(&self, what: &str, name: &str) -> PathBuf {
        Path::new(&format!("{}-{what}", self.driver.name())).join(name)
    }
}

/// The drivers that a store was made with, by the directories that are there.
pub(super) fn drivers(graphroot: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::io("read", graphroot)(error);
    let mut drivers = Vec::new();
    for entry in fs::read_dir(graphroot).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let driver = name.to_str().and_then(|name| name.strip_suffix("-images"));
        drivers.extend(driver.map(str::to_owned));
    }
    drivers.sort();
    Ok(drivers)
}

/// The name of the file for a key: the key, when it is of plain letters.
fn file_name(key: &str) -> String {
    let plain = |byte: u8| matches!(byte, b'.' | b'0'..=b'9' | b'a'..=b'z');
    match key.bytes().all(plain) {
        true => key.to_owned(),
        false => format!("={}", STANDARD.encode(key)),
    }
}
