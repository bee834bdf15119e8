//! Referrers (distribution-spec, "Listing Referrers"): the manifests that are about another one, such
//! as signatures and lists of parts, by the API or the tag that stands for it.
//!
//! Must never drop what a fallback tag lists already: others may have written it.

use image::{AnyManifest, Descriptor, Digest, Index, Manifest, MediaType, Reference};
use reqwest::Method;
use reqwest::header::LINK;

use super::exchange::{Ask, Repo, Target};
use super::pull::MAX_MANIFEST;
use super::tags::{next_link, next_page};
use super::{Client, PULL};
use crate::auth::Credentials;
use crate::error::{Error, ProtocolFlaw, Result};

/// As many pages are read.
const MAX_PAGES: usize = 100;
/// The header by which a registry says that it keeps the list itself.
pub(super) const SUBJECT: &str = "oci-subject";

impl Client {
    /// What refers to the manifest of this digest in the repository of `reference`, from the registry
    /// itself: of one type of artifact, or all. A registry without the API is asked for the tag that
    /// stands in for it. What nothing refers to has an empty list.
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Vec<Descriptor>> {
        let sources = self.inner.config.registries.resolve(reference)?;
        let repo = match sources.last() {
            Some(own) => self.inner.repo(own, credentials, PULL).await?,
            None => return Ok(Vec::new()),
        };
        let mut found = match self.listed(&repo, digest).await {
            Ok(found) => found,
            // 404 is a registry without the API, and so are answers that are no index.
            Err(Error::NotFound { .. } | Error::UnexpectedStatus { .. }) => {
                self.fallback(&repo.source.reference, digest, credentials)
                    .await?
            }
            Err(error) => return Err(error),
        };
        // Registries need not filter.
        found.retain(|entry| {
            artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted))
        });
        Ok(found)
    }

    async fn listed(&self, repo: &Repo, digest: &Digest) -> Result<Vec<Descriptor>> {
        let subject = format!("referrers of {digest} of {}", repo.source.reference.name());
        let mut target = Target::Api(format!("referrers/{digest}"));
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let ask = Ask::new(Method::GET, target, subject.clone());
            let page = self.inner.ask_bytes(repo, &ask, MAX_MANIFEST).await?;
            let broken = |flaw| Error::Protocol {
                at: page.at.clone(),
                flaw,
            };
            match AnyManifest::parse(Some(MediaType::OciIndex.as_str()), &page.bytes)? {
                AnyManifest::Index(index) => found.extend(index.manifests),
                AnyManifest::Manifest(_) => return Err(broken(ProtocolFlaw::Referrers)),
            }
            let link = page.headers.get(LINK).and_then(|value| value.to_str().ok());
            let Some(link) = link.and_then(next_link) else {
                return Ok(found);
            };
            let next = next_page(&page.url, link);
            target = Target::Url(next.ok_or_else(|| broken(ProtocolFlaw::NextPage))?);
        }
        let at = crate::error::At {
            subject: subject.into(),
            endpoint: repo.source.reference.domain().into(),
        };
        Err(Error::Protocol {
            at,
            flaw: ProtocolFlaw::NextPage,
        })
    }

    async fn fallback(
        &self,
        reference: &Reference,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<Vec<Descriptor>> {
        let tag = fallback_tag(reference, digest)?;
        match self.manifest(&tag, credentials).await {
            Ok(fetched) => match fetched.parsed {
                AnyManifest::Index(index) => Ok(index.manifests),
                AnyManifest::Manifest(_) => Ok(Vec::new()),
            },
            Err(error) if matches!(error.deciding(), Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Adds a pushed manifest to the list of what refers to its subject, at a registry that keeps no
    /// such list itself.
    pub(super) async fn add_referrer(
        &self,
        reference: &Reference,
        manifest: &Manifest,
        entry: Descriptor,
        credentials: &Credentials,
    ) -> Result<()> {
        let Some(subject) = &manifest.subject else {
            return Ok(());
        };
        let mut manifests = self
            .fallback(reference, &subject.digest, credentials)
            .await?;
        if manifests.iter().any(|old| old.digest == entry.digest) {
            return Ok(());
        }
        manifests.push(entry);
        let index = Index {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: Default::default(),
        };
        let bytes = serde_json::to_vec(&index).map_err(image::Error::json("image index"))?;
        let tag = fallback_tag(reference, &subject.digest)?;
        let pushed =
            Box::pin(self.push_manifest(&tag, &MediaType::OciIndex, bytes.into(), credentials));
        pushed.await.map(drop)
    }
}

/// `sha256-HEX`: the tag that lists what refers to a digest.
fn fallback_tag(reference: &Reference, digest: &Digest) -> Result<Reference> {
    let tag = format!("{}-{}", digest.algorithm(), digest.hex());
    // Of a longer digest as much as a tag can hold.
    let tag: String = tag.chars().take(128).collect();
    Ok(reference.repository().with_tag(&tag)?)
}

/// How a list names a manifest.
pub(super) fn entry(
    media_type: &MediaType,
    digest: &Digest,
    size: u64,
    manifest: &Manifest,
) -> Descriptor {
    let mut entry = Descriptor::new(media_type.clone(), digest.clone(), size);
    let kind = manifest.artifact_type.clone();
    entry.artifact_type = kind.or_else(|| Some(manifest.config.media_type.to_string()));
    entry.annotations.clone_from(&manifest.annotations);
    entry
}
