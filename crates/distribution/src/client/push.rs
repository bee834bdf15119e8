//! Pushing blobs and manifests (distribution-spec, "Pushing").
//!
//! A blob goes up in one request after the upload was opened; `upload.rs` has more patience. Must never push a manifest under a
//! digest that it does not have.

use std::fmt;
use std::io;
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{Stream, StreamExt, try_unfold};
use image::{AnyManifest, Descriptor, Digest, ManifestFlaw, MediaType, Reference};
use reqwest::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Url};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::answer::Answer;
use super::exchange::{Ask, Content, Repo, Target};
use super::upload::BlobContent;
use super::{ALL, Client, Inner, endpoint, referrers};
use crate::auth::Credentials;
use crate::error::{Error, ProtocolFlaw, Result};

const READ_SIZE: usize = 128 << 10;

/// The content of a blob to push.
pub enum BlobBody {
    /// Bytes in memory, which can be sent again after a failure.
    Bytes(Bytes),
    /// A stream, which can be sent only once.
    Stream(BlobContent),
}

impl BlobBody {
    /// A stream of chunks.
    pub fn stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> BlobBody {
        BlobBody::Stream(stream.boxed())
    }

    /// Everything that a reader has, such as an open file.
    pub fn reader(reader: impl AsyncRead + Send + Unpin + 'static) -> BlobBody {
        BlobBody::stream(try_unfold(reader, |mut reader| async move {
            let mut chunk = BytesMut::with_capacity(READ_SIZE);
            let read = reader.read_buf(&mut chunk).await?;
            Ok((read > 0).then(|| (chunk.freeze(), reader)))
        }))
    }
}

impl From<Bytes> for BlobBody {
    fn from(bytes: Bytes) -> BlobBody {
        BlobBody::Bytes(bytes)
    }
}

impl fmt::Debug for BlobBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobBody::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            BlobBody::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl Client {
    /// Whether the repository of `reference` has the blob.
    pub async fn blob_exists(
        &self,
        reference: &Reference,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<bool> {
        let repo = self.inner.push_repo(reference, credentials).await?;
        self.inner.has_blob(&repo, digest).await
    }

    /// Pushes a blob to the repository of `reference`, unless it is there. The registry checks the
    /// digest; the size must be exact. Returns whether it had to be sent.
    pub async fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        body: BlobBody,
        credentials: &Credentials,
    ) -> Result<bool> {
        let repo = self.inner.push_repo(reference, credentials).await?;
        if self.inner.has_blob(&repo, &descriptor.digest).await? {
            return Ok(false);
        }
        let subject = format!("blob {} to {}", descriptor.digest, reference.name());
        let open = Ask::new(
            Method::POST,
            Target::Api("blobs/uploads/".to_owned()),
            subject.clone(),
        );
        let opened = self.inner.ask(&repo, &open).await?;
        let mut url = upload_url(&opened)?;
        url.query_pairs_mut()
            .append_pair("digest", &descriptor.digest.to_string());
        let mut put = Ask::new(Method::PUT, Target::Url(url), subject);
        put.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        put.content = match body {
            BlobBody::Bytes(bytes) => Content::Bytes(bytes),
            BlobBody::Stream(body) => Content::Once(Mutex::new(Some(body)), descriptor.size),
        };
        self.inner.ask(&repo, &put).await?;
        self.inner.locations.remember(reference, &descriptor.digest);
        Ok(true)
    }

    /// Deletes what `reference` names: the manifest that its tag means now, or that of its digest,
    /// and with it every tag of the same. Errors with [`Error::NotFound`], and with what the
    /// registry says when it does not allow it. Returns the manifest's digest.
    pub async fn delete(&self, reference: &Reference, credentials: &Credentials) -> Result<Digest> {
        let fetched = self.manifest(reference, credentials).await?;
        let repo = Repo {
            actions: ALL,
            ..self.inner.push_repo(reference, credentials).await?
        };
        let ask = Ask::new(
            Method::DELETE,
            Target::Api(format!("manifests/{}", fetched.digest)),
            format!("manifest {reference}"),
        );
        self.inner.ask(&repo, &ask).await?;
        Ok(fetched.digest)
    }

    /// Pushes a manifest or index under the tag of `reference`, or under its digest if it has no
    /// tag (`latest` without both). All that it points to must be there. Returns its digest.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &MediaType,
        bytes: Bytes,
        credentials: &Credentials,
    ) -> Result<Digest> {
        let reference = reference.clone().or_latest();
        let repo = self.inner.push_repo(&reference, credentials).await?;
        let subject = format!("manifest to {reference}");
        let digest = match reference.digest() {
            Some(digest) => {
                let mut verifier = digest.verifier();
                verifier.update(&bytes);
                verifier.finish(&subject)?
            }
            None => Digest::of(&bytes),
        };
        let name = reference
            .tag()
            .map_or_else(|| digest.to_string(), str::to_owned);
        let mut put = Ask::new(
            Method::PUT,
            Target::Api(format!("manifests/{name}")),
            subject,
        );
        let content_type = HeaderValue::from_str(media_type.as_str()).map_err(|_| {
            let reason = ManifestFlaw::MediaType(media_type.to_string());
            image::Error::Manifest { reason }
        })?;
        put.headers.insert(CONTENT_TYPE, content_type);
        put.content = Content::Bytes(bytes.clone());
        let answer = self.inner.ask(&repo, &put).await?;
        if answer.header(referrers::SUBJECT).is_none()
            && let Ok(AnyManifest::Manifest(manifest)) = AnyManifest::parse(None, &bytes)
        {
            // The registry keeps no list of what refers to what: it is the pusher's, then.
            let entry = referrers::entry(media_type, &digest, bytes.len() as u64, &manifest);
            self.add_referrer(&reference, &manifest, entry, credentials)
                .await?;
        }
        Ok(digest)
    }
}

impl Inner {
    pub(super) async fn has_blob(&self, repo: &Repo, digest: &Digest) -> Result<bool> {
        let subject = format!("blob {digest} of {}", repo.source.reference.name());
        let head = Ask::new(
            Method::HEAD,
            Target::Api(format!("blobs/{digest}")),
            subject,
        );
        match self.ask(repo, &head).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }
}

/// Where an opened upload is to be sent: `Location`, relative to the URL that answered, under the
/// rules of a redirect.
pub(super) fn upload_url(opened: &Answer) -> Result<Url> {
    let location = opened.header(LOCATION.as_str());
    let from = opened.response.url();
    let url = location.and_then(|location| endpoint::redirect(from, location, false).ok());
    url.ok_or_else(|| Error::Protocol {
        at: opened.at.clone(),
        flaw: ProtocolFlaw::UploadLocation,
    })
}
