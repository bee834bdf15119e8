//! `oci:` and `oci-archive:`: an OCI image layout (image-spec image-layout.md), in a directory or a
//! tar file.
//!
//! An archive is unpacked to, or packed from, a private temporary directory. Must never write
//! `index.json` before what it points to, nor unpack anything but plain files of a layout.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use base::lock::{Kind, or_timeout};
use image::{Descriptor, Digest, Index, MediaType};
use store::{TarFile, TarKind};

use crate::chunks::{self, Chunks, ToFile};
use crate::compression;
use crate::document::{Document, MAX_MANIFEST};
use crate::error::{Error, Result};
use crate::temporary::{self, Beside, PrivateDir};

/// The annotation that names an image of a layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Names that an error lists.
const MOST_NAMES: usize = 20;
const BLOBS: &str = "blobs";
const LAYOUT: &str = r#"{"imageLayoutVersion": "1.0.0"}"#;

/// An image in a layout.
#[derive(Debug)]
pub(crate) struct LayoutSource {
    blobs: PathBuf,
    top: Descriptor,
    _unpacked: Option<PrivateDir>,
}

impl LayoutSource {
    pub(crate) fn open(
        dir: &Path,
        name: Option<&str>,
        shared: Option<&Path>,
        place: &str,
    ) -> Result<LayoutSource> {
        let top = find(&read_index(dir)?, name, place)?;
        Ok(LayoutSource {
            blobs: shared.map_or_else(|| dir.join(BLOBS), Path::to_owned),
            top,
            _unpacked: None,
        })
    }

    pub(crate) fn open_archive(
        file: &Path,
        name: Option<&str>,
        shared: Option<&Path>,
        place: &str,
    ) -> Result<LayoutSource> {
        let unpacked = temporary::dir()?;
        unpack(file, unpacked.path())?;
        let source = LayoutSource::open(unpacked.path(), name, shared, place)?;
        Ok(LayoutSource {
            _unpacked: Some(unpacked),
            ..source
        })
    }

    pub(crate) fn manifest(&self, digest: Option<&Digest>) -> Result<Document> {
        let digest = digest.unwrap_or(&self.top.digest);
        let bytes = read(&blob_path(&self.blobs, digest), MAX_MANIFEST)?;
        if *digest == self.top.digest {
            return Document::checked(self.top.media_type.clone(), digest, bytes);
        }
        let untyped = Document::untyped(bytes)?;
        Document::checked(untyped.media_type, digest, untyped.bytes.to_vec())
    }

    pub(crate) async fn blob(&self, descriptor: &Descriptor) -> Result<Chunks> {
        let path = blob_path(&self.blobs, &descriptor.digest);
        // One byte more would be one too many, and is found to be.
        chunks::from_file(&path, 0, descriptor.size.saturating_add(1)).await
    }
}

/// A layout that gets an image.
#[derive(Debug)]
pub(crate) struct LayoutTarget {
    dir: PathBuf,
    blobs: PathBuf,
    name: Option<String>,
    /// The archive to be, and the directory that it is made from.
    archive: Option<(PathBuf, PrivateDir)>,
}

impl LayoutTarget {
    pub(crate) fn open(
        dir: &Path,
        name: Option<&str>,
        shared: Option<&Path>,
    ) -> Result<LayoutTarget> {
        let blobs = shared.map_or_else(|| dir.join(BLOBS), Path::to_owned);
        fs::create_dir_all(dir.join(BLOBS)).map_err(Error::io("create", dir))?;
        fs::create_dir_all(blobs.join("sha256")).map_err(Error::io("create", &blobs))?;
        temporary::sweep(dir, None);
        for algorithm in ["sha256", "sha512"] {
            temporary::sweep(&blobs.join(algorithm), None);
        }
        let marker = dir.join("oci-layout");
        if !marker.exists() {
            temporary::write(&marker, LAYOUT.as_bytes())?;
        }
        Ok(LayoutTarget {
            dir: dir.to_owned(),
            blobs,
            name: name.map(str::to_owned),
            archive: None,
        })
    }

    pub(crate) fn open_archive(
        file: &Path,
        name: Option<&str>,
        shared: Option<&Path>,
    ) -> Result<LayoutTarget> {
        let temp = temporary::dir()?;
        let target = LayoutTarget::open(temp.path(), name, shared)?;
        Ok(LayoutTarget {
            archive: Some((file.to_owned(), temp)),
            ..target
        })
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        blob_path(&self.blobs, digest).exists()
    }

    pub(crate) async fn put_blob(&self, descriptor: &Descriptor, chunks: Chunks) -> Result<()> {
        let path = blob_path(&self.blobs, &descriptor.digest);
        put_file(&path, descriptor, chunks).await
    }

    pub(crate) fn put_manifest(&self, document: &Document) -> Result<()> {
        let path = blob_path(&self.blobs, &document.digest);
        temporary::write(&path, &document.bytes)
    }

    /// Lists the image in `index.json`: in place of what had its name, beside all others.
    pub(crate) fn commit(self, top: &Document) -> Result<()> {
        let lock = fs::File::open(&self.dir).map_err(Error::io("open", &self.dir))?;
        // One that becomes an archive is private, and locked by this process.
        if self.archive.is_none() {
            or_timeout(&lock, Kind::Exclusive, LOCK_WAIT).map_err(Error::io("lock", &self.dir))?;
        }
        let mut index = match read_index(&self.dir) {
            Ok(index) => index,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => empty(),
            Err(error) => return Err(error),
        };
        let mut entry = top.descriptor();
        match &self.name {
            Some(name) => {
                index
                    .manifests
                    .retain(|other| other.annotations.get(REF_NAME) != Some(name));
                entry.annotations.insert(REF_NAME.into(), name.clone());
            }
            None => index.manifests.retain(|other| {
                other.annotations.contains_key(REF_NAME) || other.digest != entry.digest
            }),
        }
        index.manifests.push(entry);
        let bytes = serde_json::to_vec(&index).map_err(Error::json("index.json"))?;
        temporary::write(&self.dir.join("index.json"), &bytes)?;
        match &self.archive {
            Some((file, temp)) => pack(temp.path(), file),
            None => Ok(()),
        }
    }
}

/// The file of a blob. A digest's parts are plain words: they cannot lead elsewhere.
fn blob_path(blobs: &Path, digest: &Digest) -> PathBuf {
    blobs.join(digest.algorithm().as_str()).join(digest.hex())
}

/// Writes a blob beside its name, checks it, and then gives it the name.
pub(crate) async fn put_file(path: &Path, descriptor: &Descriptor, chunks: Chunks) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    let temp = Beside::create(path)?;
    let failed = |source| Error::io("write", temp.path())(source);
    let file = temp.file().try_clone().map_err(failed)?;
    match chunks::to_file(chunks::verified(chunks, descriptor), file).await {
        Ok(()) => temp.finish(path),
        Err(ToFile::Write(source)) => Err(failed(source)),
        Err(ToFile::Read(source)) => Err(Error::Blob {
            digest: descriptor.digest.clone(),
            source,
        }),
    }
}

fn empty() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        artifact_type: None,
        manifests: Vec::new(),
        subject: None,
        annotations: Default::default(),
    }
}

pub(crate) fn read_index(dir: &Path) -> Result<Index> {
    let path = dir.join("index.json");
    let bytes = read(&path, MAX_MANIFEST)?;
    serde_json::from_slice(&bytes).map_err(Error::json(path.display().to_string()))
}

/// At most `max` bytes of a file.
fn read(path: &Path, max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = fs::File::open(path).map_err(Error::io("open", path))?;
    let read = (&mut file).take(max + 1).read_to_end(&mut bytes);
    read.map_err(Error::io("read", path))?;
    if bytes.len() as u64 > max {
        return Err(Error::place(
            path.display(),
            format!("it has more than {max} bytes"),
        ));
    }
    Ok(bytes)
}

fn find(index: &Index, name: Option<&str>, place: &str) -> Result<Descriptor> {
    let named = |entry: &&Descriptor| entry.annotations.get(REF_NAME).map(String::as_str) == name;
    let names = || {
        let names = index.manifests.iter();
        let names = names.filter_map(|entry| entry.annotations.get(REF_NAME));
        let names = names.take(MOST_NAMES).map(|name| format!("{name:?}"));
        names.collect::<Vec<_>>().join(", ")
    };
    match (name, index.manifests.as_slice()) {
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(Error::missing(place, "there is no image in it")),
        (None, _) => Err(Error::place(
            place,
            format!(
                "there is more than one image in it; name one of: {}",
                names()
            ),
        )),
        (Some(name), all) => all.iter().find(named).cloned().ok_or_else(|| {
            Error::missing(
                place,
                format!("there is no image named {name:?} in it, but: {}", names()),
            )
        }),
    }
}

/// Parts of a layout's longest name, `./blobs/ALGORITHM/ENCODED`: each may be a directory to make.
const DEEPEST: usize = 4;

/// Unpacks the plain files and directories of a layout; whatever else an archive holds is refused.
fn unpack(file: &Path, into: &Path) -> Result<()> {
    let archive = compression::tar_file(file)?;
    let failed = Error::archive("read", file);
    let mut archive = TarFile::new(archive).map_err(&failed)?;
    while let Some(entry) = archive.entry().map_err(&failed)? {
        let name = PathBuf::from(OsString::from_vec(entry.path));
        let plain = name
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
            && name.components().count() <= DEEPEST;
        let is_directory = entry.kind == TarKind::Directory;
        if !plain || !(is_directory || entry.kind == TarKind::File) {
            return Err(Error::place(
                file.display(),
                format!(
                    "{:?} is not a file of an image layout",
                    name.display().to_string()
                ),
            ));
        }
        let path = into.join(&name);
        if is_directory {
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let mut out = fs::File::create(&path).map_err(Error::io("create", &path))?;
        archive
            .copy(&mut out)
            .map_err(Error::archive("unpack", file))?;
    }
    Ok(())
}

fn pack(dir: &Path, file: &Path) -> Result<()> {
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    temporary::sweep(parent.unwrap_or(Path::new(".")), file.file_name());
    let temp = Beside::create(file)?;
    let mut archive = tar::Builder::new(io::BufWriter::new(temp.file()));
    archive.mode(tar::HeaderMode::Deterministic);
    let packed = archive
        .append_path_with_name(dir.join("oci-layout"), "oci-layout")
        .and_then(|()| archive.append_path_with_name(dir.join("index.json"), "index.json"))
        .and_then(|()| archive.append_dir_all(BLOBS, dir.join(BLOBS)))
        .and_then(|()| archive.into_inner())
        .and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error))
        .and_then(|out| out.sync_all());
    packed.map_err(Error::io("write", temp.path()))?;
    temp.finish(file)
}

/// How long another process that changes the index is waited for: it may be stopped.
const LOCK_WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
