//! Manifests in the other family's form: OCI image-spec and Docker's schema 2 say the same things
//! by different types.
//!
//! Must never drop a layer or change a digest; what the other form cannot say is an error.

use image::{AnyManifest, Compression, Descriptor, Index, Manifest, MediaType};

use crate::error::{Error, Result};

/// A family of manifest types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI image-spec.
    Oci,
    /// Docker image manifest v2, schema 2.
    Docker,
}

impl Format {
    /// The family that a manifest or index belongs to.
    pub fn of(media_type: &MediaType) -> Format {
        match media_type {
            MediaType::DockerManifest | MediaType::DockerManifestList => Format::Docker,
            _ => Format::Oci,
        }
    }

    fn manifest(self) -> MediaType {
        match self {
            Format::Oci => MediaType::OciManifest,
            Format::Docker => MediaType::DockerManifest,
        }
    }

    fn index(self) -> MediaType {
        match self {
            Format::Oci => MediaType::OciIndex,
            Format::Docker => MediaType::DockerManifestList,
        }
    }

    /// The type of a layer. Docker's family has none for zstd.
    pub(crate) fn layer(self, compression: Compression) -> Option<MediaType> {
        match (self, compression) {
            (Format::Oci, Compression::None) => Some(MediaType::OciLayer),
            (Format::Oci, Compression::Gzip) => Some(MediaType::OciLayerGzip),
            (Format::Oci, Compression::Zstd) => Some(MediaType::OciLayerZstd),
            (Format::Docker, Compression::None) => Some(MediaType::DockerLayer),
            (Format::Docker, Compression::Gzip) => Some(MediaType::DockerLayerGzip),
            (Format::Docker, Compression::Zstd) => None,
        }
    }
}

/// The manifest in `format`. It is returned as it is when it has that format.
pub(crate) fn manifest(
    mut manifest: Manifest,
    from: &MediaType,
    format: Format,
) -> Result<Manifest> {
    if Format::of(from) == format {
        return Ok(manifest);
    }
    let flawed = |why: String| Error::Convert {
        from: from.clone(),
        to: format.manifest(),
        why,
    };
    manifest.media_type = Some(format.manifest());
    manifest.config.media_type = match (&manifest.config.media_type, format) {
        (MediaType::DockerConfig, Format::Oci) => MediaType::OciConfig,
        (MediaType::OciConfig, Format::Docker) => MediaType::DockerConfig,
        (other, _) => return Err(flawed(format!("its config is {other}, not an image's"))),
    };
    for layer in &mut manifest.layers {
        let compression = layer.media_type.compression();
        layer.media_type = compression
            .and_then(|compression| format.layer(compression))
            .ok_or_else(|| flawed(format!("it has a layer of type {}", layer.media_type)))?;
    }
    if format == Format::Docker {
        if let Some(subject) = &manifest.subject {
            return Err(flawed(format!("it is about {}", subject.digest)));
        }
        manifest.annotations.clear();
        let layers = manifest.layers.iter_mut();
        layers.chain([&mut manifest.config]).for_each(strip);
    }
    Ok(manifest)
}

fn strip(descriptor: &mut Descriptor) {
    descriptor.annotations.clear();
}

/// An index in `format`, with entries that were converted before.
pub(crate) fn index(mut index: Index, from: &MediaType, format: Format) -> Index {
    if Format::of(from) != format {
        index.media_type = Some(format.index());
        if format == Format::Docker {
            index.annotations.clear();
            index.manifests.iter_mut().for_each(strip);
        }
    }
    index
}

/// The type that a converted document has.
pub(crate) fn media_type(document: &AnyManifest, format: Format) -> MediaType {
    match document {
        AnyManifest::Manifest(_) => format.manifest(),
        AnyManifest::Index(_) => format.index(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(layer: MediaType) -> Manifest {
        Manifest::new(
            MediaType::OciManifest,
            Descriptor::of(MediaType::OciConfig, b"{}"),
            vec![Descriptor::of(layer, b"layer")],
        )
    }

    #[test]
    fn there_and_back_is_the_same() {
        let oci = sample(MediaType::OciLayerGzip);
        let docker = manifest(oci.clone(), &MediaType::OciManifest, Format::Docker).unwrap();
        assert_eq!(docker.layers[0].media_type, MediaType::DockerLayerGzip);
        assert_eq!(docker.config.media_type, MediaType::DockerConfig);
        let back = manifest(docker, &MediaType::DockerManifest, Format::Oci).unwrap();
        assert_eq!(back, oci);
    }

    #[test]
    fn what_dockers_form_cannot_say_is_refused() {
        let zstd = sample(MediaType::OciLayerZstd);
        let error = manifest(zstd, &MediaType::OciManifest, Format::Docker).unwrap_err();
        assert!(error.to_string().contains("+zstd"), "{error}");
        let mut artifact = sample(MediaType::OciLayer);
        artifact.config.media_type = MediaType::OciEmpty;
        assert!(manifest(artifact, &MediaType::OciManifest, Format::Docker).is_err());
        let mut about = sample(MediaType::OciLayer);
        about.subject = Some(Descriptor::of(MediaType::OciManifest, b"x"));
        assert!(manifest(about, &MediaType::OciManifest, Format::Docker).is_err());
    }
}
