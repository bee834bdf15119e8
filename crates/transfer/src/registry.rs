//! `docker://`: an image in a registry.
//!
//! Asks the places that registries.conf names; pushes only to the registry itself.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use distribution::{Client, Credentials, Fetched, Offer, Opened, Source};
use futures_util::StreamExt;
use image::{Descriptor, Digest, MediaType, Reference};
use tokio::sync::OnceCell;
use trust::Signature;

use crate::chunks::{Chunks, Open};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::peers::{Peers, Wants};

/// An image in a registry.
#[derive(Debug)]
pub(crate) struct RegistrySource {
    client: Client,
    reference: Reference,
    credentials: Credentials,
    /// The manifest, and who had it.
    top: OnceCell<(Document, Source)>,
    /// Who had the last manifest: blobs are asked for there, as whoever lacks one of an index lacks its blobs too.
    serving: Mutex<Option<Source>>,
    /// What is asked of peers first.
    wants: Option<Wants>,
}

impl RegistrySource {
    pub(crate) fn new(
        client: Client,
        reference: Reference,
        credentials: Credentials,
        peers: Option<Arc<Peers>>,
    ) -> Self {
        RegistrySource {
            wants: peers.map(|peers| Wants::new(peers, &reference)),
            client,
            reference,
            credentials,
            top: OnceCell::new(),
            serving: Mutex::default(),
        }
    }

    async fn top(&self) -> Result<&(Document, Source)> {
        self.top
            .get_or_try_init(|| async {
                let asked = self.client.manifest(&self.reference, &self.credentials);
                let fetched = asked.await?;
                let source = fetched.source.clone();
                Ok((document(fetched), source))
            })
            .await
    }

    pub(crate) async fn manifest(&self, digest: Option<&Digest>) -> Result<Document> {
        match digest {
            None => Ok(self.top().await?.0.clone()),
            Some(digest) => {
                // Who has the index has its images; a mirror that was of no use is not asked again.
                let (_, source) = self.top().await?;
                let (client, credentials) = (&self.client, &self.credentials);
                let asked = client.manifest_beside(source, &self.reference, digest, credentials);
                let fetched = asked.await?;
                *self.serving.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(fetched.source.clone());
                Ok(document(fetched))
            }
        }
    }

    pub(crate) async fn blob(&self, descriptor: &Descriptor) -> Result<Chunks> {
        let (_, top) = self.top().await?;
        if let Some(wants) = self.wants.as_ref().filter(|_| is_layer(descriptor))
            && let Some(chunks) = wants.blob(descriptor).await
        {
            return Ok(chunks);
        }
        let source = {
            let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
            serving.as_ref().unwrap_or(top).clone()
        };
        let blob = self
            .client
            .blob_unverified(&source, descriptor, &self.credentials)
            .await?;
        Ok(blob.map(|chunk| chunk.map_err(io::Error::other)).boxed())
    }

    pub(crate) fn arrived(&self, digest: &Digest) {
        if let Some(wants) = &self.wants {
            wants.arrived(digest);
        }
    }

    pub(crate) fn leave(&self, digest: &Digest, why: &Error) -> bool {
        let leave = |wants: &Wants| wants.leave(digest, &why.to_string());
        self.wants.as_ref().is_some_and(leave)
    }

    /// What there is at whoever had the manifest.
    pub(crate) async fn signatures(&self, digest: &Digest) -> Result<Vec<Signature>> {
        let (_, source) = self.top().await?;
        let found = self.client.signatures(source, digest, &self.credentials);
        Ok(found.await?)
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }
}

/// A config is small, and read before anything else.
fn is_layer(descriptor: &Descriptor) -> bool {
    !matches!(
        descriptor.media_type,
        MediaType::OciConfig | MediaType::DockerConfig
    )
}

fn document(fetched: Fetched) -> Document {
    Document {
        media_type: fetched.media_type,
        digest: fetched.digest,
        bytes: fetched.bytes,
    }
}

/// A repository of a registry that gets an image.
#[derive(Debug)]
pub(crate) struct RegistryTarget {
    client: Client,
    reference: Reference,
    credentials: Credentials,
    /// Uploads that wait for their blobs.
    opened: Mutex<HashMap<Digest, Opened>>,
}

impl RegistryTarget {
    pub(crate) fn new(client: Client, reference: Reference, credentials: Credentials) -> Self {
        RegistryTarget {
            client,
            reference,
            credentials,
            opened: Mutex::default(),
        }
    }

    /// Whether the registry has the blob, or takes it from another of its repositories without a copy.
    pub(crate) async fn has_blob(&self, digest: &Digest, from: Option<&Reference>) -> Result<bool> {
        let (reference, credentials) = (&self.reference, &self.credentials);
        let offer = self.client.offer_blob(reference, from, digest, credentials);
        match offer.await? {
            Offer::There | Offer::Mounted => Ok(true),
            Offer::Missing(opened) => {
                let mut all = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
                all.insert(digest.clone(), opened);
                Ok(false)
            }
        }
    }

    /// Pushes a blob that it has not; `open` is called again when a connection breaks.
    pub(crate) async fn put_blob(&self, descriptor: &Descriptor, open: &Open<'_>) -> Result<()> {
        let content = || async { open().await.map_err(io::Error::other) };
        let opened = {
            let mut all = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            all.remove(&descriptor.digest).unwrap_or_default()
        };
        let (reference, credentials) = (&self.reference, &self.credentials);
        let pushed =
            self.client
                .push_blob_from(reference, descriptor, opened, content, credentials);
        Ok(pushed.await?)
    }

    pub(crate) async fn put_manifest(&self, document: &Document) -> Result<()> {
        let reference = self
            .reference
            .repository()
            .with_digest(document.digest.clone());
        self.push(&reference, document).await
    }

    pub(crate) async fn put_signatures(
        &self,
        digest: &Digest,
        signatures: &[Signature],
    ) -> Result<()> {
        let (reference, credentials) = (&self.reference, &self.credentials);
        let put = self
            .client
            .push_signatures(reference, digest, signatures, credentials);
        Ok(put.await?)
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    pub(crate) async fn commit(self, top: &Document) -> Result<()> {
        self.push(&self.reference, top).await
    }

    async fn push(&self, reference: &Reference, document: &Document) -> Result<()> {
        self.client
            .push_manifest(
                reference,
                &document.media_type,
                document.bytes.clone(),
                &self.credentials,
            )
            .await?;
        Ok(())
    }
}
