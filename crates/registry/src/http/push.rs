//! Push, second half: manifests (Distribution spec, "Pushing Manifests").

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, LOCATION};

use super::pull::text;
use super::{Answer, App, Asked, CONTENT_DIGEST, body, empty, value};
use crate::directory::NewManifest;
use crate::error::{Error, Result};
use crate::name::{self, Name, Target};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// Tags that one request may give.
const MOST_TAGS: usize = 100;

/// `PUT`: the manifest that makes blobs an image.
pub(super) async fn manifest(
    app: &Arc<App>,
    name: Name,
    target: Target,
    asked: Asked<'_>,
) -> Result<Answer> {
    app.writable()?;
    let tags = tags(&asked, &target)?;
    let media_type = text(&asked.headers, CONTENT_TYPE).map(str::to_owned);
    let mut whole = body::whole(app, asked.body, app.limits.manifest).await?;
    let new = NewManifest {
        media_type,
        bytes: std::mem::take(&mut whole.bytes),
        target: target.clone(),
        tags: tags.clone(),
    };
    let of = name.clone();
    let accepted = app
        .write(move |directory| {
            let put = directory.put_manifest(&of, &new);
            drop((new, whole));
            put
        })
        .await?;
    let mut answer = empty(StatusCode::CREATED);
    let headers = answer.headers_mut();
    let digest = accepted.digest.to_string();
    headers.insert(LOCATION, value(&format!("/v2/{name}/manifests/{digest}")));
    headers.insert(CONTENT_DIGEST, value(&digest));
    if let Some(subject) = accepted.subject {
        headers.insert(SUBJECT, value(&subject.to_string()));
    }
    if !tags.is_empty() {
        headers.insert(TAG, value(&tags.join(", ")));
    }
    Ok(answer)
}

/// Tags given beside a digest (`?tag=a&tag=b`).
fn tags(asked: &Asked<'_>, target: &Target) -> Result<Vec<String>> {
    let tags: Vec<_> = asked.query.all("tag").map(str::to_owned).collect();
    if tags.is_empty() {
        return Ok(tags);
    }
    if matches!(target, Target::Tag(_)) {
        return Err(Error::Query("tag goes with a digest only"));
    }
    if tags.len() > MOST_TAGS {
        return Err(Error::Query("there are more than 100 tags"));
    }
    tags.iter().try_for_each(|tag| name::tag(tag))?;
    Ok(tags)
}
