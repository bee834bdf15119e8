//! Pull: manifests and blobs, whole, in ranges, or only whether they are there (Distribution spec, "Pull").

use std::sync::Arc;

use hyper::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use hyper::{Method, Response, StatusCode};
use image::{Digest, MediaType};

use super::range::Span;
use super::{Answer, App, Asked, CONTENT_DIGEST, body, empty, json, range, value};
use crate::error::{Error, Result};
use crate::name::{Name, Target};
use crate::peers::{Arrival, holding};

/// Content never changes under its digest; whom it is for, the server decides each time.
const FOREVER: &str = "private, max-age=31536000, immutable";

pub(super) async fn manifest(
    app: &Arc<App>,
    name: Name,
    target: Target,
    asked: &Asked<'_>,
) -> Result<Answer> {
    let (of, what) = (name.clone(), target.clone());
    let found = app
        .read(move |contents| contents.manifest(&of, &what))
        .await
        .map_err(|error| match error {
            // As other registries answer, and clients tell "not there" from a failure by it.
            Error::NameUnknown(_) => Error::ManifestUnknown {
                name: name.to_string(),
                target: target.to_string(),
            },
            other => other,
        })?;
    if !accepts(&asked.headers, &found.media_type) {
        return Err(Error::NotAcceptable {
            name: name.to_string(),
            target: target.to_string(),
            media_type: found.media_type,
        });
    }
    let mut answer = match is_known(&asked.headers, &found.digest) {
        true => empty(StatusCode::NOT_MODIFIED),
        false => json(StatusCode::OK, &found.media_type, found.bytes),
    };
    describe(answer.headers_mut(), &found.digest);
    Ok(answer)
}

pub(super) async fn blob(
    app: &Arc<App>,
    name: Name,
    digest: Digest,
    asked: &Asked<'_>,
) -> Result<Answer> {
    let (wanted, of) = (digest.clone(), name.clone());
    let mut found = app.read(move |contents| contents.blob(&of, &wanted)).await;
    if let (Err(Error::BlobUnknown { .. }), Some(peers)) = (&found, &app.peers) {
        match peers.arrival(&name, &digest, &asked.headers)? {
            Arrival::Unknown => {}
            Arrival::Coming => return Err(Error::Later),
            Arrival::Here => {
                let wanted = digest.clone();
                found = app
                    .read(move |contents| contents.loose_blob(&name, &wanted))
                    .await;
            }
        }
    }
    let (file, size) = found?;
    if is_known(&asked.headers, &digest) {
        let mut answer = empty(StatusCode::NOT_MODIFIED);
        describe(answer.headers_mut(), &digest);
        return Ok(answer);
    }
    let part = match asked.method == Method::GET {
        true => part(&asked.headers, &digest, size)?,
        false => None,
    };
    let span = part.unwrap_or(Span {
        start: 0,
        end: size,
    });
    // The parts of one that was begun are not held up.
    let place = match &app.peers {
        Some(peers) if asked.method == Method::GET && span.start == 0 => Some(peers.place()?),
        _ => None,
    };
    let body =
        body::file(app, file, span).map_err(Error::io("seek in blob", digest.to_string()))?;
    let body = match place {
        Some(place) => holding(body, place),
        None => body,
    };
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    describe(headers, &digest);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(CONTENT_LENGTH, HeaderValue::from(span.length()));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(FOREVER));
    if part.is_some() {
        let range = format!("bytes {}-{}/{size}", span.start, span.end - 1);
        headers.insert(CONTENT_RANGE, value(&range));
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(answer)
}

/// The part that is asked for, unless it was of something else (`If-Range`).
fn part(headers: &HeaderMap, digest: &Digest, size: u64) -> Result<Option<Span>> {
    let same = text(headers, IF_RANGE).is_none_or(|tag| tag.trim() == etag(digest));
    match text(headers, RANGE) {
        Some(range) if same => range::wanted(range, size),
        _ => Ok(None),
    }
}

fn describe(headers: &mut HeaderMap, digest: &Digest) {
    headers.insert(CONTENT_DIGEST, value(&digest.to_string()));
    headers.insert(ETAG, value(&etag(digest)));
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client has it already (`If-None-Match`).
fn is_known(headers: &HeaderMap, digest: &Digest) -> bool {
    let etag = etag(digest);
    let digest = digest.to_string();
    text(headers, IF_NONE_MATCH).is_some_and(|tags| {
        let mut tags = tags
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"));
        // Some clients leave the quotes out.
        tags.any(|tag| tag == etag || tag == digest || tag == "*")
    })
}

/// Whether a client wants this type; one that says nothing takes all.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut lines = headers.get_all(ACCEPT).iter().peekable();
    if lines.peek().is_none() {
        return true;
    }
    let wanted = MediaType::from(media_type);
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter(|entry| !is_unwanted(entry))
        .map(MediaType::from_header)
        .any(|entry| {
            entry == wanted
                || matches!(entry.as_str(), "*/*" | "application/*" | "application/json")
        })
}

/// `q=0` is a refusal.
fn is_unwanted(entry: &str) -> bool {
    let mut parameters = entry.split(';').skip(1);
    parameters.any(|parameter| {
        let quality = parameter.trim().strip_prefix("q=");
        quality
            .and_then(|q| q.parse::<f32>().ok())
            .is_some_and(|q| q <= 0.0)
    })
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(lines: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, HeaderValue::from_static(line));
        }
        accepts(&headers, MediaType::OciIndex.as_str())
    }

    #[test]
    fn a_client_gets_only_the_types_it_asks_for() {
        assert!(accepted(&[]));
        assert!(accepted(&["*/*"]));
        assert!(accepted(&["text/html, application/*;q=0.1"]));
        assert!(accepted(&[
            "text/html",
            "application/vnd.oci.image.index.v1+json; q=1"
        ]));
        assert!(!accepted(&["application/vnd.oci.image.manifest.v1+json"]));
        assert!(!accepted(&["application/vnd.oci.image.index.v1+json;q=0"]));
        assert!(!accepted(&["text/*"]));
    }
}
