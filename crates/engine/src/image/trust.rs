//! Which images may be used: policy.json, a namespace's own policy before it, and whether an image that
//! is here already still meets what they demand.
//!
//! Must never take an image for trusted because it was once: policies change, and a name that is trusted
//! says nothing about another.

use std::path::{Component, Path, PathBuf};

use image::Reference;
use trust::{Demands, Policy, Signature};

use super::ImageRecord;
use super::pull::failed;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Largest manifest that is read again, in bytes.
const MAX_MANIFEST: u64 = 8 * 1024 * 1024;

/// Which images are trusted: the policy.json that the configuration names.
///
/// # Errors
/// A policy that cannot be used.
pub fn policy(config: &Config) -> Result<Policy> {
    Policy::load(std::slice::from_ref(&config.image.signature_policy)).map_err(failed)
}

/// The node's policy, and where those of namespaces are.
#[derive(Debug)]
pub(crate) struct Policies {
    node: Policy,
    dir: PathBuf,
}

impl Policies {
    pub(super) fn load(config: &Config) -> Result<Policies> {
        Ok(Policies {
            node: policy(config)?,
            dir: config.image.signature_policy_dir.clone(),
        })
    }

    /// The node's own.
    pub(super) fn node(&self) -> &Policy {
        &self.node
    }

    /// What is demanded of an image for a pod of this namespace.
    pub(super) fn demands(&self, namespace: &str, reference: &Reference) -> Result<Demands> {
        let demands = self.policy(namespace, reference)?.demands(reference);
        demands.map_err(|source| refused(reference, source))
    }

    /// The policy that holds for a pod of this namespace; `reference` is for messages.
    pub(super) fn policy(&self, namespace: &str, reference: &Reference) -> Result<Policy> {
        match self.own(namespace)? {
            Some(path) => Policy::open(&path).map_err(|source| refused(reference, source)),
            None => Ok(self.node.clone()),
        }
    }

    /// The policy of a namespace, if it has one. Read anew each time: it is there before its pods.
    fn own(&self, namespace: &str) -> Result<Option<PathBuf>> {
        if namespace.is_empty() || self.dir.as_os_str().is_empty() {
            return Ok(None);
        }
        let mut parts = Path::new(namespace).components();
        if !matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        ) {
            let why = format!("{namespace:?} is no name of a namespace");
            return Err(Error::invalid("metadata.namespace", why));
        }
        let path = self.dir.join(format!("{namespace}.json"));
        let there = path.try_exists().map_err(Error::io("look for", &path))?;
        Ok(there.then_some(path))
    }
}

impl Engine {
    /// Whether a pod of this namespace may use an image that is in the store, by the name that was
    /// asked for: the policy is held against what came with the image when it was pulled.
    ///
    /// # Errors
    /// What the policy says against it ([`Error::is_policy`]), or a store that cannot be read.
    pub(crate) fn admit_stored(
        &self,
        image: &ImageRecord,
        asked: &str,
        namespace: &str,
    ) -> Result<()> {
        let reference = self.name_of(image, asked)?;
        let policies = self.images_fetcher().policies();
        let demands = policies.demands(namespace, &reference)?;
        if !demands.want_signatures() {
            return Ok(());
        }
        let mut refusal = None;
        for manifest in self.store().signed_manifests(image)? {
            let Some(bytes) = self.store().read_blob(&manifest.digest, MAX_MANIFEST)? else {
                continue;
            };
            let met = from_files(&reference, &manifest.signatures)
                .and_then(|signatures| demands.verify(&bytes, &signatures));
            match met {
                Ok(()) => return Ok(()),
                Err(error) => refusal = Some(error),
            }
        }
        // A manifest that is gone was not verified either.
        let refusal = refusal.map_or_else(|| demands.verify(&[], &[]), Err);
        refusal.map_err(|source| refused(&reference, source))
    }

    /// What the image was asked for by, as one of the names that it has; an image without names, or
    /// one that was asked for by its ID, has the first of its own.
    fn name_of(&self, image: &ImageRecord, asked: &str) -> Result<Reference> {
        let names = image.names.iter().chain(&image.repo_digests);
        let mut own: Vec<Reference> = names
            .filter_map(|name| Reference::parse(name).ok())
            .collect();
        let candidates = self.images_fetcher().candidates(asked);
        let known = |name: &Reference| own.iter().any(|own| own.name() == name.name());
        if let Some(asked) = candidates.into_iter().find(known) {
            return Ok(asked);
        }
        match own.is_empty() {
            false => Ok(own.swap_remove(0)),
            true => Reference::parse(&format!("localhost/{}", image.id))
                .map_err(|e| Error::invalid("image", e.to_string())),
        }
    }
}

/// An image that cannot be had, or may not be used, and why.
pub(super) fn refused(reference: &Reference, source: impl Into<distribution::Error>) -> Error {
    Error::Pull {
        image: reference.to_string(),
        source: Box::new(source.into()),
    }
}

fn from_files(reference: &Reference, files: &[Vec<u8>]) -> trust::Result<Vec<Signature>> {
    let signatures = files.iter().map(|file| Signature::from_file(file));
    signatures
        .collect::<Result<_, _>>()
        .map_err(flawed(reference))
}

fn flawed(reference: &Reference) -> impl FnOnce(trust::SignatureFlaw) -> trust::Error {
    let subject = reference.to_string();
    move |flaw| trust::Error::Signature { subject, flaw }
}
