//! Manifests and indexes (OCI image-spec manifest.md and image-index.md; Docker image manifest v2 schema 2).
//!
//! Must never read a document as anything but what both the registry and the document say it is
//! (CVE-2021-41190), and never re-serialise what was fetched: the bytes are what has the digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, ManifestFlaw, Result};

mod media_type;
mod schema_one;

pub use crate::platform::Platform;
pub use media_type::{Compression, MediaType};
pub use schema_one::digest;

/// Annotations: free text by key.
pub type Annotations = BTreeMap<String, String>;

/// A pointer to content: what it is, its digest and its size (OCI image-spec descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content.
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
    /// Where else the content may be had.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
    /// Free text.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: Annotations,
    /// The content itself in base64, when it is embedded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The platform that the image is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with only the three fields that each must have.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: Annotations::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// The descriptor of `bytes`.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
}

/// An image manifest: a config and the layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: i64,
    /// The manifest's own type; OCI documents may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: Annotations,
}

impl Manifest {
    /// A manifest of `media_type` (OCI or Docker) for a config and its layers.
    pub fn new(media_type: MediaType, config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(media_type),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: Annotations::new(),
        }
    }

    /// The sum of the sizes of config and layers, in bytes.
    pub fn content_size(&self) -> u64 {
        let sizes = self.layers.iter().map(|layer| layer.size);
        sizes.fold(self.config.size, u64::saturating_add)
    }
}

/// An image index, also called a manifest list: the same image for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: i64,
    /// The index's own type; OCI documents may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests, in the order of preference.
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: Annotations,
}

impl Index {
    /// The entry for `wanted`, by the rules of [`Platform::candidates`]. Among equals, of those that need no
    /// feature of the operating system (`os.features`) but what is wanted the one that uses most of them, and
    /// the first of several.
    ///
    /// An entry that states no platform is taken only when it is the only entry.
    /// Errors with [`Error::PlatformMissing`], which lists what there is.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor> {
        let stated = || {
            self.manifests
                .iter()
                .filter_map(|entry| Some((entry, entry.platform.as_ref()?)))
        };
        for candidate in wanted.candidates() {
            let fit = || stated().filter(|(_, platform)| candidate.accepts(platform));
            let able = fit().filter(|(_, platform)| wanted.has_features_of(platform));
            // The last of several that are greatest is what `max_by_key` gives.
            let best = able
                .enumerate()
                .max_by_key(|(place, (_, platform))| {
                    (platform.os_features.len(), std::cmp::Reverse(*place))
                })
                .map(|(_, (entry, _))| entry);
            // Tools have written features there that nobody has to have.
            if let Some(entry) = best.or_else(|| fit().next().map(|(entry, _)| entry)) {
                return Ok(entry);
            }
        }
        if let [only] = self.manifests.as_slice()
            && only.platform.is_none()
        {
            return Ok(only);
        }
        Err(Error::PlatformMissing {
            wanted: Box::new(wanted.clone()),
            available: stated().map(|(_, platform)| platform.clone()).collect(),
        })
    }
}

/// A document that a registry calls a manifest.
#[allow(
    clippy::large_enum_variant,
    reason = "a pull holds one or two of them, never a list"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyManifest {
    /// One image.
    Manifest(Manifest),
    /// One image for several platforms.
    Index(Index),
}

/// The fields that tell the kinds of document apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: i64,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl AnyManifest {
    /// Reads a manifest or an index.
    ///
    /// `content_type` is what the registry (or the pointing descriptor) calls it, if anything;
    /// generic types such as `application/json` say nothing. Errors with [`Error::Json`] or
    /// [`Error::Manifest`], also when the two sides disagree and for Docker schema 1.
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<AnyManifest> {
        let shape: Shape = serde_json::from_slice(bytes).map_err(Error::json("manifest"))?;
        let kind = shape
            .kind(content_type)
            .map_err(|reason| Error::Manifest { reason })?;
        match kind {
            Kind::Manifest => serde_json::from_slice(bytes)
                .map(AnyManifest::Manifest)
                .map_err(Error::json("image manifest")),
            Kind::Index => serde_json::from_slice(bytes)
                .map(AnyManifest::Index)
                .map_err(Error::json("image index")),
        }
    }

    /// The media type that the document states, or else the OCI type of its shape.
    pub fn media_type(&self) -> MediaType {
        match self {
            AnyManifest::Manifest(manifest) => manifest
                .media_type
                .clone()
                .unwrap_or(MediaType::OciManifest),
            AnyManifest::Index(index) => index.media_type.clone().unwrap_or(MediaType::OciIndex),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest,
    Index,
}

impl Shape {
    fn kind(&self, content_type: Option<&str>) -> Result<Kind, ManifestFlaw> {
        let declared = content_type
            .map(MediaType::from_header)
            .filter(|t| !t.is_generic());
        let embedded = self
            .media_type
            .as_deref()
            .filter(|t| !t.is_empty())
            .map(MediaType::from);
        let schema_one = |t: &Option<MediaType>| t.as_ref().is_some_and(MediaType::is_schema_one);
        if schema_one(&declared) || schema_one(&embedded) || self.fs_layers.is_some() {
            return Err(ManifestFlaw::SchemaOne);
        }
        if let (Some(declared), Some(embedded)) = (&declared, &embedded)
            && declared != embedded
        {
            let (declared, embedded) = (declared.to_string(), embedded.to_string());
            return Err(ManifestFlaw::MediaTypeConflict { declared, embedded });
        }
        if self.schema_version != 2 {
            return Err(ManifestFlaw::SchemaVersion(self.schema_version));
        }
        let shape = self.shape()?;
        match declared.or(embedded) {
            None => Ok(shape),
            Some(MediaType::OciManifest | MediaType::DockerManifest) if shape == Kind::Manifest => {
                Ok(shape)
            }
            Some(MediaType::OciIndex | MediaType::DockerManifestList) if shape == Kind::Index => {
                Ok(shape)
            }
            Some(t) if t.is_manifest() || t.is_index() => Err(ManifestFlaw::Shapeless),
            Some(t) => Err(ManifestFlaw::MediaType(t.to_string())),
        }
    }

    fn shape(&self) -> Result<Kind, ManifestFlaw> {
        match (
            self.config.is_some() || self.layers.is_some(),
            self.manifests.is_some(),
        ) {
            (true, true) => Err(ManifestFlaw::Ambiguous),
            (true, false) => Ok(Kind::Manifest),
            (false, true) => Ok(Kind::Index),
            (false, false) => Err(ManifestFlaw::Shapeless),
        }
    }
}

/// For `deserialize_with`: many writers say `null` where the specification has an empty list or map.
pub fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
