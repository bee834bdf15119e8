//! Discovery: repositories, tags and referrers, in parts (Distribution spec, "Content Discovery").

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{HeaderName, LINK};
use image::{Descriptor, Digest, Index, MediaType};
use serde_json::json;

use super::query::Page;
use super::{Answer, App, Asked, value};
use crate::error::{Error, Result};
use crate::name::Name;

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// No answer about referrers is larger: a client takes manifests of this size.
const LARGEST: usize = 4 << 20;

/// `GET /v2/_catalog`.
pub(super) async fn catalog(app: &App, asked: &Asked<'_>) -> Result<Answer> {
    let page = asked.query.page()?;
    let list = app.read(|contents| contents.repositories()).await?;
    let (list, more) = page.cut(list);
    let body = json!({ "repositories": list });
    Ok(part(page, "/v2/_catalog", &list, more, &[], &body))
}

/// `GET /v2/NAME/tags/list`.
pub(super) async fn tags(app: &App, name: Name, asked: &Asked<'_>) -> Result<Answer> {
    let page = asked.query.page()?;
    let of = name.clone();
    let list = app.read(move |contents| contents.tags(&of)).await?;
    let (list, more) = page.cut(list);
    let body = json!({ "name": name.path(), "tags": list });
    let path = format!("/v2/{name}/tags/list");
    Ok(part(
        page,
        &path,
        &list,
        more,
        &namespace(app, asked),
        &body,
    ))
}

/// What the rest of a mirror's list must be asked for with.
fn namespace<'a>(app: &App, asked: &'a Asked<'_>) -> Vec<(&'static str, &'a str)> {
    let host = asked.query.get("ns").filter(|_| app.mirror);
    host.map(|host| ("ns", host)).into_iter().collect()
}

fn part(
    page: Page<'_>,
    path: &str,
    list: &[String],
    more: bool,
    query: &[(&str, &str)],
    body: &serde_json::Value,
) -> Answer {
    let mut answer = super::json(
        StatusCode::OK,
        "application/json",
        body.to_string().into_bytes(),
    );
    if let (true, Some(last)) = (more, list.last()) {
        let link = page.link(path, last, query);
        answer.headers_mut().insert(LINK, value(&link));
    }
    answer
}

/// `GET /v2/NAME/referrers/DIGEST`.
pub(super) async fn referrers(
    app: &Arc<App>,
    name: Name,
    digest: Digest,
    asked: &Asked<'_>,
) -> Result<Answer> {
    let page = asked.query.page()?;
    let (of, subject) = (name.clone(), digest.clone());
    let found = app
        .read(move |contents| contents.referrers(&of, &subject))
        .await?;
    // A media type has no spaces: this was a + that the client did not encode.
    let wanted = asked
        .query
        .get("artifactType")
        .map(|wanted| wanted.replace(' ', "+"));
    let fits = |descriptor: &Descriptor| {
        let own = descriptor.artifact_type.as_deref();
        wanted.as_deref().is_none_or(|wanted| own == Some(wanted))
    };
    let after = |descriptor: &Descriptor| {
        page.last
            .is_none_or(|last| sort_key(&descriptor.digest) > last.replace(':', "-"))
    };
    let found: Vec<_> = found.into_iter().filter(|d| fits(d) && after(d)).collect();
    let (manifests, more) = fill(found, page.n)?;
    let mut query = namespace(app, asked);
    query.extend(
        wanted
            .iter()
            .map(|wanted| ("artifactType", wanted.as_str())),
    );
    let path = format!("/v2/{name}/referrers/{digest}");
    let last = manifests.last().map(|last| last.digest.to_string());
    let mut answer = index(manifests)?;
    if let (true, Some(last)) = (more, last) {
        let link = page.link(&path, &last, &query);
        answer.headers_mut().insert(LINK, value(&link));
    }
    if wanted.is_some() {
        answer.headers_mut().insert(FILTERS, value("artifactType"));
    }
    Ok(answer)
}

/// The order in which a directory lists referrers.
fn sort_key(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

/// As many descriptors as fit in one answer, but at least one; whether there are more.
fn fill(found: Vec<Descriptor>, n: usize) -> Result<(Vec<Descriptor>, bool)> {
    let (mut fitting, mut size, count) = (Vec::new(), 0, found.len());
    for descriptor in found.into_iter().take(n) {
        size += serde_json::to_vec(&descriptor).map_err(damaged)?.len();
        if size > LARGEST && !fitting.is_empty() {
            break;
        }
        fitting.push(descriptor);
    }
    let more = n > 0 && fitting.len() < count;
    Ok((fitting, more))
}

fn index(manifests: Vec<Descriptor>) -> Result<Answer> {
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        artifact_type: None,
        manifests,
        subject: None,
        annotations: Default::default(),
    };
    let bytes = serde_json::to_vec(&index).map_err(damaged)?;
    Ok(super::json(
        StatusCode::OK,
        MediaType::OciIndex.as_str(),
        bytes,
    ))
}

fn damaged(error: serde_json::Error) -> Error {
    Error::Damaged {
        path: "referrers".into(),
        reason: error.to_string(),
    }
}
