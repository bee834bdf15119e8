//! Media types (OCI image-spec media-types.md, Docker's of the same meaning).
//!
//! An unknown type is kept as it was written; it must never be taken for a known one.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Plain tar.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

macro_rules! media_types {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The type of some content.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum MediaType {
            $($(#[$doc])* $variant,)*
            /// Any other, as it was written.
            Other(String),
        }

        impl MediaType {
            /// The type as it is written in documents and headers.
            pub fn as_str(&self) -> &str {
                match self {
                    $(MediaType::$variant => $text,)*
                    MediaType::Other(text) => text,
                }
            }
        }

        impl From<&str> for MediaType {
            fn from(text: &str) -> MediaType {
                match text {
                    $($text => MediaType::$variant,)*
                    other => MediaType::Other(other.to_owned()),
                }
            }
        }
    };
}

media_types! {
    /// OCI image manifest.
    OciManifest = "application/vnd.oci.image.manifest.v1+json",
    /// OCI image index.
    OciIndex = "application/vnd.oci.image.index.v1+json",
    /// OCI image config.
    OciConfig = "application/vnd.oci.image.config.v1+json",
    /// OCI layer, plain tar.
    OciLayer = "application/vnd.oci.image.layer.v1.tar",
    /// OCI layer, gzip.
    OciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip",
    /// OCI layer, zstd.
    OciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd",
    /// OCI layer that was not to be pushed, plain tar.
    OciForeignLayer = "application/vnd.oci.image.layer.nondistributable.v1.tar",
    /// OCI layer that was not to be pushed, gzip.
    OciForeignLayerGzip = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    /// OCI layer that was not to be pushed, zstd.
    OciForeignLayerZstd = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    /// OCI empty content `{}`.
    OciEmpty = "application/vnd.oci.empty.v1+json",
    /// Docker image manifest, schema 2.
    DockerManifest = "application/vnd.docker.distribution.manifest.v2+json",
    /// Docker manifest list.
    DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json",
    /// Docker image config.
    DockerConfig = "application/vnd.docker.container.image.v1+json",
    /// Docker layer, plain tar.
    DockerLayer = "application/vnd.docker.image.rootfs.diff.tar",
    /// Docker layer, gzip.
    DockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip",
    /// Docker layer, zstd.
    DockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd",
    /// Docker layer that was not to be pushed, plain tar.
    DockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar",
    /// Docker layer that was not to be pushed, gzip.
    DockerForeignLayerGzip = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    /// Docker image manifest, schema 1 (refused).
    DockerSchemaOne = "application/vnd.docker.distribution.manifest.v1+json",
    /// Docker image manifest, schema 1 with signatures (refused).
    DockerSchemaOneSigned = "application/vnd.docker.distribution.manifest.v1+prettyjws",
}

impl MediaType {
    /// Reads a `Content-Type` header: parameters are dropped and case does not matter.
    pub fn from_header(header: &str) -> MediaType {
        let essence = header.split(';').next().unwrap_or_default().trim();
        MediaType::from(essence.to_ascii_lowercase().as_str())
    }

    /// An image manifest, OCI or Docker schema 2.
    pub fn is_manifest(&self) -> bool {
        matches!(self, MediaType::OciManifest | MediaType::DockerManifest)
    }

    /// An index or manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self, MediaType::OciIndex | MediaType::DockerManifestList)
    }

    /// A Docker schema 1 manifest, which is refused.
    pub fn is_schema_one(&self) -> bool {
        matches!(
            self,
            MediaType::DockerSchemaOne | MediaType::DockerSchemaOneSigned
        )
    }

    /// How a layer of this type is compressed; `None` when it is not a layer.
    pub fn compression(&self) -> Option<Compression> {
        use MediaType::*;
        match self {
            OciLayer | OciForeignLayer | DockerLayer | DockerForeignLayer => {
                Some(Compression::None)
            }
            OciLayerGzip | OciForeignLayerGzip | DockerLayerGzip | DockerForeignLayerGzip => {
                Some(Compression::Gzip)
            }
            OciLayerZstd | OciForeignLayerZstd | DockerLayerZstd => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Types that servers send when they know nothing better.
    pub(crate) fn is_generic(&self) -> bool {
        let generic = [
            "",
            "application/json",
            "application/octet-stream",
            "text/plain",
            "binary/octet-stream",
        ];
        generic.contains(&self.as_str())
    }
}

impl From<String> for MediaType {
    fn from(text: String) -> MediaType {
        MediaType::from(text.as_str())
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MediaType, D::Error> {
        String::deserialize(deserializer).map(MediaType::from)
    }
}
