//! Content management: tags, manifests and blobs go (Distribution spec, "Content Management").

use hyper::StatusCode;
use image::Digest;

use super::{Answer, App, empty};
use crate::error::Result;
use crate::name::{Name, Target};

/// `DELETE` of a tag, or of a manifest with its tags.
pub(super) async fn manifest(app: &App, name: Name, target: Target) -> Result<Answer> {
    app.write(move |directory| match &target {
        Target::Tag(tag) => directory.delete_tag(&name, tag),
        Target::Digest(digest) => directory.delete_manifest(&name, digest),
    })
    .await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `DELETE` of a blob from a repository.
pub(super) async fn blob(app: &App, name: Name, digest: Digest) -> Result<Answer> {
    app.write(move |directory| directory.delete_blob(&name, &digest))
        .await?;
    Ok(empty(StatusCode::ACCEPTED))
}
