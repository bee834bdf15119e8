//! What is an image by its form only (OCI image-spec manifest.md, "Guidelines for Artifact Usage").

use image::{Manifest, MediaType};

/// The type of an artifact; `None` for images of containers.
pub(crate) fn kind(manifest: &Manifest) -> Option<String> {
    const LONGEST: usize = 100;
    // What registries and old tools say when they know nothing better.
    let generic = |kind: &MediaType| {
        matches!(
            kind.as_str(),
            "" | "application/octet-stream" | "application/json" | "text/plain"
        )
    };
    let config = &manifest.config.media_type;
    let is_config = match config {
        MediaType::OciConfig | MediaType::DockerConfig => true,
        other => manifest.media_type == Some(MediaType::DockerManifest) && generic(other),
    };
    // Types of layers are often wrong, but never without a word of tar.
    let is_layer = |kind: &MediaType| {
        kind.compression().is_some() || generic(kind) || kind.as_str().contains("tar")
    };
    let mut layers = manifest.layers.iter().map(|layer| &layer.media_type);
    let kind = match (is_config, layers.find(|kind| !is_layer(kind))) {
        (true, None) => return None,
        (true, Some(layer)) => layer.as_str(),
        (false, _) => manifest.artifact_type.as_deref().unwrap_or(config.as_str()),
    };
    Some(kind.chars().take(LONGEST).collect())
}
