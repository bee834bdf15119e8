//! Before a blob is sent (distribution-spec, "Mounting a blob from another repository"): perhaps the
//! repository has it, or the registry takes it from another one.
//!
//! Must never fail because a registry mounts nothing: it is only asked.

use image::{Digest, Reference};
use reqwest::{Method, StatusCode, Url};

use super::answer::Answer;
use super::exchange::{Ask, Repo, Target};
use super::push::upload_url;
use super::{Client, Inner};
use crate::auth::Credentials;
use crate::error::Result;

/// The most that a registry may want in a chunk: it gets what it gets.
const MAX_CHUNK: u64 = 64 << 20;
/// The header in which a registry says how small a chunk may be.
const CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";

/// What a registry answers to the offer of a blob.
#[derive(Debug)]
pub enum Offer {
    /// The repository has it.
    There,
    /// It has it now, from another repository.
    Mounted,
    /// It has to be sent.
    Missing(Opened),
}

/// An upload that may be open already; for [`push_blob_from`](Client::push_blob_from).
#[derive(Debug, Default)]
pub struct Opened(pub(super) Option<OpenUpload>);

/// An upload that the registry has opened.
#[derive(Debug)]
pub(super) struct OpenUpload {
    /// Where it is.
    pub(super) url: Url,
    /// The least that the registry takes in a chunk.
    pub(super) min_chunk: u64,
}

impl OpenUpload {
    pub(super) fn of(answer: &Answer) -> Result<OpenUpload> {
        let least = answer.header(CHUNK_MIN_LENGTH);
        let least = least.and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(OpenUpload {
            url: upload_url(answer)?,
            min_chunk: MAX_CHUNK.min(least),
        })
    }
}

impl Client {
    /// Offers a blob to the repository of `reference`: the registry may take it from `from`, another of
    /// its repositories, or from one where this machine has seen it.
    pub async fn offer_blob(
        &self,
        reference: &Reference,
        from: Option<&Reference>,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<Offer> {
        let inner = &self.inner;
        let repo = inner.push_repo(reference, credentials).await?;
        let other = |from: &&Reference| {
            from.domain() == reference.domain() && from.path() != reference.path()
        };
        let from = from.filter(other).cloned();
        let from = from.or_else(|| inner.locations.find(reference, digest));
        let opened = match &from {
            Some(from) => match inner.mount(&repo, from, digest).await? {
                Mount::Done => {
                    inner.locations.remember(reference, digest);
                    return Ok(Offer::Mounted);
                }
                Mount::Opened(upload) => Some(upload),
                Mount::Refused => None,
            },
            None => None,
        };
        if !inner.has_blob(&repo, digest).await? {
            return Ok(Offer::Missing(Opened(opened)));
        }
        inner.locations.remember(reference, digest);
        if let Some(upload) = opened {
            let subject = format!("blob {digest} to {}", reference.name());
            let end = Ask::new(Method::DELETE, Target::Url(upload.url), subject);
            if let Err(error) = inner.ask(&repo, &end).await {
                tracing::debug!("an upload that is not needed stays open: {error}");
            }
        }
        Ok(Offer::There)
    }
}

/// What a registry answers to the request for a mount.
enum Mount {
    Done,
    /// It waits for the blob.
    Opened(OpenUpload),
    Refused,
}

impl Inner {
    async fn mount(&self, repo: &Repo, from: &Reference, digest: &Digest) -> Result<Mount> {
        let repo = Repo {
            from: Some(from.path().to_owned()),
            ..repo.clone()
        };
        let to = repo.source.reference.name();
        let subject = format!("blob {digest} from {} to {to}", from.name());
        let target = format!("blobs/uploads/?mount={digest}&from={}", from.path());
        let ask = Ask::new(Method::POST, Target::Api(target), subject);
        match self.ask_once(&repo, &ask).await {
            Ok(answer) if answer.response.status() == StatusCode::CREATED => Ok(Mount::Done),
            Ok(answer) => OpenUpload::of(&answer).map(Mount::Opened),
            // The other repository may be gone, or nobody's business; real trouble is met again.
            Err(failure) => {
                tracing::debug!("not mounted: {}", failure.error);
                Ok(Mount::Refused)
            }
        }
    }
}
