//! Manifest lists that are put together from images elsewhere (podman manifest): an index, and where
//! each of its images is.
//!
//! Must never push an entry as anything but the manifest that has its digest: whatever a name means
//! by then, an image is found again by digest.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::{AnyManifest, Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Platform};
use serde::{Deserialize, Serialize};

use crate::chunks::Chunks;
use crate::copy::Instances;
use crate::document::Document;
use crate::error::{Error, Result};
use crate::name::Location;
use crate::source::{Access, Source};

/// A manifest list and the places of its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    index: Index,
    /// A place (`docker://…@…`, `floe:ID`, …) by the digest of the entry.
    places: BTreeMap<String, String>,
}

/// What to say about an entry; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Further annotations.
    pub annotations: BTreeMap<String, String>,
    /// CPU architecture.
    pub architecture: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Version of the operating system.
    pub os_version: Option<String>,
    /// Features of the operating system; empty: as they are.
    pub os_features: Vec<String>,
    /// Variant of the architecture.
    pub variant: Option<String>,
}

impl Default for List {
    fn default() -> List {
        List {
            index: Index {
                schema_version: 2,
                media_type: Some(MediaType::OciIndex),
                artifact_type: None,
                manifests: Vec::new(),
                subject: None,
                annotations: Default::default(),
            },
            places: BTreeMap::new(),
        }
    }
}

impl List {
    /// Reads what [`to_bytes`](List::to_bytes) wrote.
    pub fn parse(bytes: &[u8]) -> Result<List> {
        serde_json::from_slice(bytes).map_err(Error::json("manifest list"))
    }

    /// The list, to be kept.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(Error::json("manifest list"))
    }

    /// The index as it is now.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Adds the image at a place, or those of an index that are asked for; what is in the list already
    /// takes its place again. Returns the digests.
    pub async fn add(
        &mut self,
        location: &Location,
        access: &Access,
        which: &Instances,
    ) -> Result<Vec<Digest>> {
        let source = Source::open(location, access).await?;
        let top = source.manifest(None).await?;
        let entries = match (top.parse()?, which) {
            (AnyManifest::Manifest(manifest), _) => {
                let mut entry = top.descriptor();
                entry.platform = platform(&source, &manifest).await?;
                vec![entry]
            }
            (AnyManifest::Index(index), Instances::One(platform)) => {
                vec![index.choose(platform)?.clone()]
            }
            (AnyManifest::Index(index), _) => index.manifests,
        };
        let digests = entries.iter().map(|entry| entry.digest.clone()).collect();
        for entry in entries {
            let place = place(location, &entry.digest)?.to_string();
            self.places.insert(entry.digest.to_string(), place);
            let mut same = self.index.manifests.iter_mut();
            match same.find(|old| old.digest == entry.digest) {
                Some(old) => *old = entry,
                None => self.index.manifests.push(entry),
            }
        }
        Ok(digests)
    }

    /// Changes what is said about an entry; `false` when there is none.
    pub fn annotate(&mut self, digest: &Digest, change: &Change) -> bool {
        let mut all = self.index.manifests.iter_mut();
        let Some(entry) = all.find(|entry| entry.digest == *digest) else {
            return false;
        };
        entry.annotations.extend(change.annotations.clone());
        let mut platform = entry
            .platform
            .clone()
            .unwrap_or_else(|| Platform::new("", ""));
        let set = |field: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                field.clone_from(value);
            }
        };
        set(&mut platform.architecture, &change.architecture);
        set(&mut platform.os, &change.os);
        if change.variant.is_some() {
            platform.variant.clone_from(&change.variant);
        }
        if change.os_version.is_some() {
            platform.os_version.clone_from(&change.os_version);
        }
        if !change.os_features.is_empty() {
            platform.os_features.clone_from(&change.os_features);
        }
        let stated = !platform.os.is_empty() || !platform.architecture.is_empty();
        entry.platform = stated.then_some(platform);
        true
    }

    /// Takes an entry out; `false` when there is none.
    pub fn remove(&mut self, digest: &Digest) -> bool {
        let before = self.index.manifests.len();
        self.index.manifests.retain(|entry| entry.digest != *digest);
        self.places.remove(&digest.to_string());
        self.index.manifests.len() < before
    }

    /// The places of the images, by the digests of the entries.
    pub fn places(&self) -> Result<Vec<(Digest, Location)>> {
        let known = |entry: &Descriptor| {
            let lost = || Error::place(&entry.digest, "the list does not know where it is");
            let place = self
                .places
                .get(&entry.digest.to_string())
                .ok_or_else(lost)?;
            Ok((entry.digest.clone(), Location::parse(place)?))
        };
        self.index.manifests.iter().map(known).collect()
    }

    /// The list as something to be copied, with its images from the places that
    /// [`places`](List::places) tells, opened in the same order.
    pub fn source(&self, name: &str, images: Vec<Source>) -> Result<Source> {
        let entries = self.index.manifests.iter();
        let members = entries
            .map(|entry| entry.digest.clone())
            .zip(images)
            .collect();
        let list = ListSource {
            top: Document::of(MediaType::OciIndex, &self.index)?,
            members,
            blobs: Mutex::default(),
        };
        Ok(Source::list(name, list))
    }
}

/// The same image, wherever its name moves and whoever asks from where.
fn place(location: &Location, digest: &Digest) -> Result<Location> {
    let absolute = |path: &std::path::Path| {
        std::path::absolute(path).map_err(Error::io("resolve", path.to_owned()))
    };
    Ok(match location {
        Location::Registry(reference) => {
            Location::Registry(reference.repository().with_digest(digest.clone()))
        }
        Location::Layout(path, name) => Location::Layout(absolute(path)?, name.clone()),
        Location::LayoutArchive(path, name) => {
            Location::LayoutArchive(absolute(path)?, name.clone())
        }
        Location::DockerArchive(path, entry) => {
            Location::DockerArchive(absolute(path)?, entry.clone())
        }
        Location::Dir(path) => Location::Dir(absolute(path)?),
        Location::Storage(place) => Location::Storage(place.clone()),
        Location::Store(image) => Location::Store(image.clone()),
    })
}

/// What an image says that it is for.
async fn platform(source: &Source, manifest: &Manifest) -> Result<Option<Platform>> {
    match manifest.config.media_type {
        MediaType::OciConfig | MediaType::DockerConfig => {
            let config = source.config(&manifest.config).await?;
            Ok(Some(ImageConfig::parse(&config)?.platform()))
        }
        _ => Ok(None),
    }
}

/// A list that is being copied.
#[derive(Debug)]
pub(crate) struct ListSource {
    top: Document,
    members: Vec<(Digest, Source)>,
    /// Whose blob it is, of those whose manifest was asked for.
    blobs: Mutex<HashMap<Digest, usize>>,
}

impl ListSource {
    pub(crate) async fn manifest(&self, digest: Option<&Digest>) -> Result<Document> {
        let Some(digest) = digest else {
            return Ok(self.top.clone());
        };
        let mut members = self.members.iter().enumerate();
        let (number, (_, source)) = members
            .find(|(_, (member, _))| member == digest)
            .ok_or_else(|| Error::place(digest, "it is not in the list"))?;
        let document = match source.manifest(None).await {
            Ok(top) if top.digest == *digest => top,
            Ok(_) | Err(Error::Io { .. }) => source.manifest(Some(digest)).await?,
            Err(error) => return Err(error),
        };
        if let AnyManifest::Manifest(manifest) = document.parse()? {
            let blobs = manifest.layers.iter().chain([&manifest.config]);
            self.known()
                .extend(blobs.map(|blob| (blob.digest.clone(), number)));
        }
        Ok(document)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of the entry with this digest.
    pub(crate) fn member(&self, digest: &Digest) -> Option<&Source> {
        let mut members = self.members.iter();
        let found = members.find(|(member, _)| member == digest);
        found.map(|(_, source)| source)
    }

    pub(crate) async fn layers(
        &self,
        document: &Document,
        manifest: &Manifest,
    ) -> Result<Option<Vec<Descriptor>>> {
        let blob = &manifest.config.digest;
        let number = self.known().get(blob).copied();
        let Some((number, (_, source))) = number.and_then(|n| Some((n, self.members.get(n)?)))
        else {
            return Ok(None);
        };
        let layers = source.layers(document, manifest).await?;
        let blobs = layers
            .iter()
            .flatten()
            .map(|layer| (layer.digest.clone(), number));
        self.known().extend(blobs);
        Ok(layers)
    }

    pub(crate) async fn blob(&self, descriptor: &Descriptor) -> Result<Chunks> {
        let digest = &descriptor.digest;
        let number = self.known().get(digest).copied();
        let member = number.and_then(|number| self.members.get(number));
        let (_, source) =
            member.ok_or_else(|| Error::place(digest, "no image of the list has it"))?;
        source.blob(descriptor).await
    }
}
