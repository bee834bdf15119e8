//! Signatures of images in registries: beside them, at the place that registries.d names
//! (containers/image's lookaside protocol), and attached to them (cosign's tag `sha256-HEX.sig`).
//!
//! What is fetched here is unverified. Must never fetch without bound.

use std::fs;
use std::io;
use std::path::Path;

use base::file::{Lasts, read_linked, replace};
use bytes::Bytes;
use futures_util::StreamExt;
use image::{AnyManifest, Descriptor, Digest, Manifest, MediaType, Reference};
use reqwest::{Method, Url};
use serde_json::json;
use trust::signature::{Attachment, MAX_SIGNATURE, MAX_SIGNATURES};
use trust::{RegistriesD, Signature, SignatureFlaw};

use super::endpoint::shown;
use super::exchange::{Ask, Repo, Target};
use super::{BlobBody, Client, PULL};
use crate::auth::Credentials;
use crate::error::{Error, Result};
use crate::registries::Source;

impl Client {
    /// All signatures that there are for the manifest `digest` of the image at `source`, unverified.
    pub async fn signatures(
        &self,
        source: &Source,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<Vec<Signature>> {
        let mut found = self.beside(source, digest).await?;
        if self.registries_d().use_attachments(&source.reference) {
            let attached = self.attached(source, digest, credentials).await?;
            found.extend(attached.into_iter().map(Signature::Sigstore));
        }
        Ok(found)
    }

    /// Keeps signatures for the manifest `digest` where an image was pushed: simple ones in place of
    /// those that are there, sigstore's beside them.
    pub async fn push_signatures(
        &self,
        reference: &Reference,
        digest: &Digest,
        signatures: &[Signature],
        credentials: &Credentials,
    ) -> Result<()> {
        let (mut simple, mut attached) = (Vec::new(), Vec::new());
        for signature in signatures {
            match signature {
                Signature::Simple(_) => simple.push(signature),
                Signature::Sigstore(attachment) => attached.push(attachment),
            }
        }
        if !attached.is_empty() && !self.registries_d().use_attachments(reference) {
            return Err(no_place(
                reference,
                "sigstore's need use-sigstore-attachments: true for it in registries.d",
            ));
        }
        if !simple.is_empty() {
            self.write_beside(reference, digest, &simple)?;
        }
        if !attached.is_empty() {
            self.attach(reference, digest, &attached, credentials)
                .await?;
        }
        Ok(())
    }

    fn registries_d(&self) -> &RegistriesD {
        &self.inner.config.registries_d
    }

    /// `signature-1` and so on, until one is not there.
    async fn beside(&self, source: &Source, digest: &Digest) -> Result<Vec<Signature>> {
        let base = self.registries_d().lookaside(&source.reference, false)?;
        let mut found = Vec::new();
        for number in 1.. {
            let url = numbered(&base, digest, number);
            let bytes = match url.to_file_path() {
                Ok(path) if url.scheme() == "file" => read_file(&path)?,
                _ => self.fetch_beside(source, &url).await?,
            };
            let Some(bytes) = bytes else { break };
            if number > MAX_SIGNATURES {
                return Err(flawed(shown(&base), SignatureFlaw::TooMany(MAX_SIGNATURES)));
            }
            let signature = Signature::from_file(&bytes);
            found.push(signature.map_err(|flaw| flawed(shown(&url), flaw))?);
        }
        Ok(found)
    }

    /// Asked for as by anybody: the registry's logins are not for this server.
    async fn fetch_beside(&self, source: &Source, url: &Url) -> Result<Option<Bytes>> {
        let repo = Repo {
            source: source.clone(),
            credentials: Credentials::Anonymous,
            actions: "",
            from: None,
        };
        let subject = format!("signature {}", url.path());
        let ask = Ask::new(Method::GET, Target::Own(url.clone()), subject);
        match self.inner.ask_bytes(&repo, &ask, MAX_SIGNATURE).await {
            Ok(document) => Ok(Some(document.bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_beside(
        &self,
        reference: &Reference,
        digest: &Digest,
        signatures: &[&Signature],
    ) -> Result<()> {
        let base = self.registries_d().lookaside(reference, true)?;
        let place = |number| {
            let url = numbered(&base, digest, number);
            match url.to_file_path() {
                Ok(path) if url.scheme() == "file" => Ok(path),
                _ => Err(no_place(
                    reference,
                    &format!(
                        "{base} cannot be written: name a file: URL as lookaside-staging in registries.d"
                    ),
                )),
            }
        };
        for (number, signature) in (1..).zip(signatures) {
            let path = place(number)?;
            let bytes = signature
                .to_file()
                .map_err(|flaw| flawed(shown(&base), flaw))?;
            write_file(&path, &bytes).map_err(|e| cannot_write(reference, &path, &e))?;
        }
        for number in signatures.len() + 1.. {
            let path = place(number)?;
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(cannot_write(reference, &path, &error)),
            }
        }
        Ok(())
    }

    async fn attached(
        &self,
        source: &Source,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<Vec<Attachment>> {
        let Some(manifest) = self.attachments(source, digest, credentials).await? else {
            return Ok(Vec::new());
        };
        let subject = || format!("{}, attached for {digest}", source.reference.name());
        if manifest.layers.len() > MAX_SIGNATURES {
            let flaw = SignatureFlaw::TooMany(MAX_SIGNATURES);
            return Err(flawed(subject(), flaw));
        }
        let mut found = Vec::new();
        for layer in manifest.layers {
            if layer.size > MAX_SIGNATURE {
                let flaw = SignatureFlaw::TooLarge(MAX_SIGNATURE);
                return Err(flawed(subject(), flaw));
            }
            let mut blob = self.blob(source, &layer, credentials).await?;
            let mut payload = Vec::new();
            while let Some(chunk) = blob.next().await {
                payload.extend_from_slice(&chunk?);
            }
            found.push(Attachment {
                media_type: layer.media_type.to_string(),
                payload,
                annotations: layer.annotations,
            });
        }
        Ok(found)
    }

    /// The manifest whose layers are the signatures; `None` when there is none.
    async fn attachments(
        &self,
        source: &Source,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<Option<Manifest>> {
        let mut repo = self.inner.repo(source, credentials, PULL).await?;
        repo.source.reference = tagged(&source.reference, digest)?;
        let fetched = match self.inner.manifest_at(&repo).await {
            Ok(fetched) => fetched,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match fetched.parsed {
            AnyManifest::Manifest(manifest) if fetched.media_type == MediaType::OciManifest => {
                Ok(Some(manifest))
            }
            _ => {
                let subject = repo.source.reference.to_string();
                Err(flawed(subject, SignatureFlaw::Format))
            }
        }
    }

    async fn attach(
        &self,
        reference: &Reference,
        digest: &Digest,
        attached: &[&Attachment],
        credentials: &Credentials,
    ) -> Result<()> {
        let source = self.inner.config.registries.push_target(reference)?;
        let existing = self.attachments(&source, digest, credentials).await?;
        let mut layers = existing.map_or_else(Vec::new, |manifest| manifest.layers);
        for attachment in attached {
            let mut layer =
                Descriptor::of(attachment.media_type.as_str().into(), &attachment.payload);
            layer.annotations.clone_from(&attachment.annotations);
            if layers.contains(&layer) {
                continue;
            }
            let body = BlobBody::Bytes(attachment.payload.clone().into());
            self.push_blob(reference, &layer, body, credentials).await?;
            layers.push(layer);
        }
        // An attachment unpacks to nothing, but registries and tools expect an image's config.
        let diff_ids: Vec<_> = layers
            .iter()
            .map(|layer| layer.digest.to_string())
            .collect();
        let config = json!({
            "architecture": "", "os": "", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Bytes::from(config.to_string());
        let descriptor = Descriptor::of(MediaType::OciConfig, &config);
        let body = BlobBody::Bytes(config);
        self.push_blob(reference, &descriptor, body, credentials)
            .await?;
        let manifest = Manifest::new(MediaType::OciManifest, descriptor, layers);
        let bytes =
            serde_json::to_vec(&manifest).map_err(image::Error::json("manifest of signatures"))?;
        let name = tagged(reference, digest)?;
        self.push_manifest(&name, &MediaType::OciManifest, bytes.into(), credentials)
            .await?;
        Ok(())
    }
}

/// The name of what is attached to the manifest `digest`.
fn tagged(reference: &Reference, digest: &Digest) -> Result<Reference> {
    let tag = format!("{}.sig", digest.to_string().replace(':', "-"));
    Ok(reference.repository().with_tag(&tag)?)
}

/// `BASE@sha256=HEX/signature-N`
fn numbered(base: &Url, digest: &Digest, number: usize) -> Url {
    let mut url = base.clone();
    let digest = digest.to_string().replace(':', "=");
    url.set_path(&format!("{}@{digest}/signature-{number}", base.path()));
    url
}

fn read_file(path: &Path) -> Result<Option<Bytes>> {
    match read_linked(path, MAX_SIGNATURE) {
        Ok(bytes) => Ok(bytes.map(Bytes::from)),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The whole file or none of it.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    replace(path, bytes, 0o644, Lasts::Always)
}

fn flawed(subject: String, flaw: SignatureFlaw) -> Error {
    trust::Error::Signature { subject, flaw }.into()
}

fn no_place(reference: &Reference, why: &str) -> Error {
    let (reference, why) = (reference.to_string(), why.to_owned());
    trust::Error::SignaturePlace { reference, why }.into()
}

fn cannot_write(reference: &Reference, path: &Path, error: &io::Error) -> Error {
    no_place(reference, &format!("{}: {error}", path.display()))
}
