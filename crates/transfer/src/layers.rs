//! Layers of an image by themselves, in a directory (`skopeo layers`).

use std::path::Path;

use image::{AnyManifest, Descriptor, Digest, Platform};

use crate::copy::choose;
use crate::dir::DirTarget;
use crate::error::{Error, Result};
use crate::source::Source;

/// Writes blobs of the image for a platform into a `dir:` at `into`, and its manifest: the layers that are
/// `wanted`, or when there are none of these all layers and the configuration.
///
/// # Errors
/// Digests that the image does not have, and what can go wrong at either place.
pub async fn layers(
    source: &Source,
    into: &Path,
    platform: &Platform,
    wanted: &[Digest],
) -> Result<()> {
    let top = source.manifest(None).await?;
    let (document, manifest) = match top.parse()? {
        AnyManifest::Manifest(manifest) => (top, manifest),
        AnyManifest::Index(index) => {
            let (document, manifest, _) = choose(source, top, index, platform).await?;
            (document, manifest)
        }
    };
    let all = || manifest.layers.iter().chain([&manifest.config]);
    let blobs: Vec<&Descriptor> = match wanted {
        [] => all().collect(),
        wanted => wanted
            .iter()
            .map(|digest| {
                let found = all().find(|blob| blob.digest == *digest);
                found.ok_or_else(|| {
                    Error::missing(
                        source.location(),
                        format!("the image has no layer {digest}"),
                    )
                })
            })
            .collect::<Result<_>>()?,
    };
    let target = DirTarget::open(into)?;
    for blob in blobs {
        if !target.has_blob(&blob.digest) {
            target.put_blob(blob, source.blob(blob).await?).await?;
        }
    }
    target.commit(&document)
}
