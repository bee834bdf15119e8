//! Pulling manifests (distribution-spec, "Pulling manifests").
//!
//! Must never return a manifest whose digest is not the one asked for or announced.

use bytes::Bytes;
use image::{AnyManifest, Descriptor, Digest, ManifestFlaw, MediaType, Reference};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::answer::{Document, is_page};
use super::exchange::{Ask, Repo, Target};
use super::{Client, Inner, PULL, Trail};
use crate::auth::Credentials;
use crate::error::{At, Error, ProtocolFlaw, Result};
use crate::registries::Source;

/// The most that a manifest may be, as registries have it.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest or index as it came.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The document, byte for byte.
    pub bytes: Bytes,
    /// What it is.
    pub media_type: MediaType,
    /// The digest of the bytes: checked, not believed.
    pub digest: Digest,
    /// Who had it. Its blobs are best asked for there.
    pub source: Source,
    /// The document, read.
    pub parsed: AnyManifest,
}

impl Fetched {
    /// The pointer to this document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(
            self.media_type.clone(),
            self.digest.clone(),
            self.bytes.len() as u64,
        )
    }
}

impl Client {
    /// The manifest or index that `reference` names, from the first source that has it. Without tag
    /// and digest it is that of `latest`.
    ///
    /// Errors with what [`Error`] says about sources; [`Error::AllSourcesFailed`] when there were several.
    pub async fn manifest(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Fetched> {
        let reference = reference.clone().or_latest();
        let inner = &self.inner;
        let mut trail = Trail::new(&reference);
        for source in inner.config.registries.resolve(&reference)? {
            let fetched = match inner.turn(&source, credentials).await {
                Ok(repo) => inner.manifest_at(&repo).await,
                Err(error) => Err(error),
            };
            match fetched {
                Ok(fetched) => return Ok(fetched),
                Err(error) => trail.failed(inner, source, error),
            }
        }
        Err(trail.into_error())
    }

    /// A manifest of the repository by its digest, from a source that had another document of the image.
    /// Other sources are asked only when this one fails.
    pub async fn manifest_beside(
        &self,
        source: &Source,
        reference: &Reference,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<Fetched> {
        let there = Source {
            reference: source.reference.repository().with_digest(digest.clone()),
            ..source.clone()
        };
        let repo = self.inner.repo(&there, credentials, PULL).await?;
        match self.inner.manifest_at(&repo).await {
            Ok(fetched) => Ok(fetched),
            Err(error) if source.mirror => {
                self.inner.note_slow(source, &error);
                let reference = reference.repository().with_digest(digest.clone());
                self.manifest(&reference, credentials).await
            }
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    pub(super) async fn manifest_at(&self, repo: &Repo) -> Result<Fetched> {
        let reference = &repo.source.reference;
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let mut ask = Ask::new(
            Method::GET,
            Target::Api(format!("manifests/{name}")),
            format!("manifest {reference}"),
        );
        ask.headers
            .insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let Document {
            headers, at, bytes, ..
        } = self.ask_bytes(repo, &ask, MAX_MANIFEST).await?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let content_type = text(CONTENT_TYPE.as_str());
        if content_type.is_some_and(|header| MediaType::from_header(header).is_schema_one()) {
            // Its digest is not that of its bytes, so that it would be called corrupt below.
            return Err(flawed(ManifestFlaw::SchemaOne));
        }
        if is_page(&bytes) {
            let flaw = ProtocolFlaw::WebPage;
            return Err(Error::Protocol { at, flaw });
        }
        let digest = checked_digest(reference.digest(), &headers, &at, &bytes)?;
        let parsed = AnyManifest::parse(content_type, &bytes)?;
        let media_type = match (&parsed, content_type.map(MediaType::from_header)) {
            (_, Some(header)) if header.is_manifest() || header.is_index() => header,
            (parsed, _) => parsed.media_type(),
        };
        Ok(Fetched {
            bytes,
            media_type,
            digest,
            source: repo.source.clone(),
            parsed,
        })
    }
}

fn flawed(reason: ManifestFlaw) -> Error {
    image::Error::Manifest { reason }.into()
}

/// The digest asked for, or else the one that the registry announced, or else our own: each computed.
fn checked_digest(
    asked: Option<&Digest>,
    headers: &HeaderMap,
    at: &At,
    bytes: &[u8],
) -> Result<Digest> {
    let announced = headers.get("docker-content-digest").map(|value| {
        let digest = value
            .to_str()
            .ok()
            .and_then(|text| Digest::parse(text).ok());
        digest.ok_or_else(|| Error::Protocol {
            at: at.clone(),
            flaw: ProtocolFlaw::ContentDigest,
        })
    });
    let announced = announced.transpose()?;
    for expected in asked.iter().copied().chain(&announced) {
        let mut verifier = expected.verifier();
        verifier.update(bytes);
        verifier.finish(&format!("{} from {}", at.subject, at.endpoint))?;
    }
    Ok(asked
        .cloned()
        .or(announced)
        .unwrap_or_else(|| Digest::of(bytes)))
}
