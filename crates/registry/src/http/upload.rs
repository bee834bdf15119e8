//! Push, first half: blobs, in one request or many (Distribution spec, "Pushing blobs").
//!
//! What a broken connection brought stays in the upload, and the client is told where to go on.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bytes::BytesMut;
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, LOCATION, RANGE};
use image::{Algorithm, Digest};

use super::problem::received;
use super::pull::text;
use super::range::{self, Span};
use super::{Answer, App, Asked, CONTENT_DIGEST, blocking, body, empty, value};
use crate::auth::{Action, Need};
use crate::directory::{Opener, Upload};
use crate::error::{Error, Result};
use crate::name::{self, Name};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// What is gathered before it is written.
const BUFFER: usize = 256 << 10;

/// `POST`: an upload begins, or a blob comes from another repository, or in this very request.
pub(super) async fn begin(app: &Arc<App>, name: Name, asked: Asked<'_>) -> Result<Answer> {
    app.writable()?;
    if let Some(digest) = asked.query.get("mount") {
        let digest = name::digest(digest)?;
        if mount(app, &name, &digest, &asked).await? {
            return Ok(created(&name, &digest));
        }
        return started(app, name, digest.algorithm(), &asked).await;
    }
    if let Some(digest) = asked.query.get("digest") {
        let digest = name::digest(digest)?;
        return at_once(app, name, digest, asked).await;
    }
    let algorithm = match asked.query.get("digest-algorithm") {
        None | Some("sha256") => Algorithm::Sha256,
        Some("sha512") => Algorithm::Sha512,
        Some(other) => {
            let unknown = image::Error::Digest {
                input: other.escape_default().take(100).collect(),
                flaw: image::DigestFlaw::Algorithm,
            };
            return Err(Error::DigestInvalid(Box::new(unknown)));
        }
    };
    started(app, name, algorithm, &asked).await
}

/// Takes a blob from the repository `from`, if the client may read that. Without `from` nobody could
/// say whether it may.
async fn mount(app: &App, name: &Name, digest: &Digest, asked: &Asked<'_>) -> Result<bool> {
    let from = asked
        .query
        .get("from")
        .and_then(|from| Name::parse(from, None).ok());
    let Some(from) = from else {
        return Ok(false);
    };
    let need = Need::Repository(from.path().to_owned(), Action::Pull);
    if !app.gate.allows(&asked.headers, &need).await {
        return Ok(false);
    }
    let (name, digest) = (name.clone(), digest.clone());
    app.write(move |directory| directory.mount_blob(&name, &from, &digest))
        .await
}

async fn started(app: &App, name: Name, algorithm: Algorithm, asked: &Asked<'_>) -> Result<Answer> {
    let opener = opener(app, asked);
    let of = name.clone();
    let id = app
        .write(move |directory| directory.begin_upload(&of, algorithm, &opener))
        .await?;
    Ok(progress(StatusCode::ACCEPTED, &name, &id.to_string(), 0))
}

/// Who begins an upload: the user, or the address, of which IPv6 gives one client very many.
fn opener(app: &App, asked: &Asked<'_>) -> Opener {
    let address = match asked.peer.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let net = Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64));
            format!("{net}/64")
        }
    };
    Opener {
        client: match app.gate.user(&asked.headers) {
            // It is logged.
            Some(user) => super::plain(&user, 200),
            None => address,
        },
        max: app.limits.uploads,
        max_of_one: app.limits.uploads_of_one,
    }
}

/// A blob in one request; of a broken one nothing remains, for its upload has no name.
async fn at_once(app: &Arc<App>, name: Name, digest: Digest, asked: Asked<'_>) -> Result<Answer> {
    let opener = opener(app, &asked);
    let (of, algorithm) = (name.clone(), digest.algorithm());
    let upload = app.write(move |directory| {
        let id = directory.begin_upload(&of, algorithm, &opener)?;
        directory.open_upload(&of, &id.to_string())
    });
    let (upload, outcome) = receive(app, upload.await?, asked.body, None).await?;
    if let Err(error) = outcome {
        app.write(move |directory| directory.drop_upload(&upload))
            .await?;
        return Err(error);
    }
    commit(app, name, upload, digest).await
}

/// `GET`: how far an upload is.
pub(super) async fn status(app: &App, name: Name, id: String) -> Result<Answer> {
    let (of, which) = (name.clone(), id.clone());
    let size = app
        .write(move |directory| directory.upload_size(&of, &which))
        .await?;
    Ok(progress(StatusCode::NO_CONTENT, &name, &id, size))
}

/// `PATCH`: some more of a blob.
pub(super) async fn chunk(
    app: &Arc<App>,
    name: Name,
    id: String,
    asked: Asked<'_>,
) -> Result<Answer> {
    let size = take(app, &name, &id, asked).await?;
    let (upload, size) = (size.0, size.1);
    app.write(move |directory| {
        directory.rest_upload(upload);
        Ok(())
    })
    .await?;
    Ok(progress(StatusCode::ACCEPTED, &name, &id, size))
}

/// `PUT`: the rest of a blob, if any, and its digest.
pub(super) async fn finish(
    app: &Arc<App>,
    name: Name,
    id: String,
    asked: Asked<'_>,
) -> Result<Answer> {
    let digest = asked.query.get("digest");
    let digest = digest.ok_or(Error::UploadInvalid("the query has no digest"))?;
    let digest = name::digest(digest)?;
    let (upload, _) = take(app, &name, &id, asked).await?;
    commit(app, name, upload, digest).await
}

/// `DELETE`: an upload is given up.
pub(super) async fn cancel(app: &App, name: Name, id: String) -> Result<Answer> {
    app.write(move |directory| directory.cancel_upload(&name, &id))
        .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Adds the body to an upload; what came of a broken one stays.
async fn take(app: &Arc<App>, name: &Name, id: &str, asked: Asked<'_>) -> Result<(Upload, u64)> {
    let expected = announced(&asked)?;
    let (of, which) = (name.clone(), id.to_owned());
    let upload = app
        .write(move |directory| directory.open_upload(&of, &which))
        .await?;
    let out_of_order = expected.is_some_and(|span| span.start != upload.size());
    let (upload, outcome) = match out_of_order {
        true => {
            let (location, offset) = (location(name, id), upload.size());
            (upload, Err(Error::OutOfOrder { location, offset }))
        }
        false => receive(app, upload, asked.body, expected.map(Span::length)).await?,
    };
    match outcome {
        Ok(()) => {
            let size = upload.size();
            Ok((upload, size))
        }
        Err(error) => {
            let hopeless = matches!(error, Error::BlobTooLarge { .. });
            app.write(move |directory| match hopeless {
                true => directory.drop_upload(&upload),
                false => {
                    directory.rest_upload(upload);
                    Ok(())
                }
            })
            .await?;
            Err(error)
        }
    }
}

/// What a chunk says of itself. Errors when its length contradicts its range.
fn announced(asked: &Asked<'_>) -> Result<Option<Span>> {
    let Some(range) = text(&asked.headers, CONTENT_RANGE) else {
        return Ok(None);
    };
    let span = range::chunk(range)?;
    let length = text(&asked.headers, CONTENT_LENGTH).and_then(|length| length.parse().ok());
    match length {
        Some(actual) if actual != span.length() => Err(Error::SizeInvalid {
            expected: span.length(),
            actual,
        }),
        _ => Ok(Some(span)),
    }
}

/// Writes a body to an upload as it comes. The outer error is of this machine; the inner one of the
/// client, and then the upload has what came before.
async fn receive(
    app: &Arc<App>,
    mut upload: Upload,
    body: &mut body::Coming,
    expected: Option<u64>,
) -> Result<(Upload, Result<()>)> {
    let begun = upload.size();
    let room = app.limits.blob.saturating_sub(begun);
    let mut buffer = BytesMut::new();
    let mut came = 0;
    loop {
        let next = body::next(app, body).await;
        let (more, outcome) = match next {
            Ok(Some(data)) => {
                came += data.len() as u64;
                let fits = expected.is_none_or(|expected| came <= expected);
                let outcome = match (came <= room, fits) {
                    (false, _) => Err(Error::BlobTooLarge {
                        max: app.limits.blob,
                    }),
                    (true, false) => Err(too_long(expected, came)),
                    (true, true) => Ok(()),
                };
                if outcome.is_ok() {
                    buffer.extend_from_slice(&data);
                }
                (outcome.is_ok(), outcome)
            }
            Ok(None) => match expected {
                Some(length) if came != length => (false, Err(too_long(expected, came))),
                _ => (false, Ok(())),
            },
            Err(error) => (false, Err(error)),
        };
        if buffer.len() >= BUFFER || !more {
            let bytes = buffer.split().freeze();
            upload = blocking(move || upload.append(&bytes).map(|()| upload)).await?;
        }
        if !more {
            return Ok((upload, outcome));
        }
    }
}

fn too_long(expected: Option<u64>, actual: u64) -> Error {
    Error::SizeInvalid {
        expected: expected.unwrap_or_default(),
        actual,
    }
}

async fn commit(app: &App, name: Name, upload: Upload, digest: Digest) -> Result<Answer> {
    let (of, expected) = (name.clone(), digest.clone());
    app.write(move |directory| directory.commit_upload(&of, upload, &expected))
        .await?;
    Ok(created(&name, &digest))
}

fn created(name: &Name, digest: &Digest) -> Answer {
    let mut answer = empty(StatusCode::CREATED);
    let headers = answer.headers_mut();
    headers.insert(LOCATION, value(&format!("/v2/{name}/blobs/{digest}")));
    headers.insert(CONTENT_DIGEST, value(&digest.to_string()));
    answer
}

fn progress(status: StatusCode, name: &Name, id: &str, size: u64) -> Answer {
    let mut answer = empty(status);
    let headers = answer.headers_mut();
    headers.insert(LOCATION, value(&location(name, id)));
    headers.insert(RANGE, value(&received(size)));
    headers.insert(UPLOAD_ID, value(id));
    answer
}

fn location(name: &Name, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}
