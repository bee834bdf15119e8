//! From a reference to the places to ask for it: longest prefix, rewriting, mirrors in order.
//!
//! The matching is that of containers-registries.conf(5) to the letter, as a node's files depend on
//! it. Must never return a place for a blocked reference.

use image::Reference;

use super::{PullFromMirror, Registries, Registry};
use crate::error::{Error, Result};

/// A place that may have an image: a registry and the image's name there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The image by the name that this registry has it under.
    pub reference: Reference,
    /// Certificates are not checked, and plain HTTP will do.
    pub insecure: bool,
    /// It is a mirror and not the image's own location.
    pub mirror: bool,
}

impl Source {
    /// The registry that the reference names, over checked HTTPS.
    pub fn direct(reference: Reference) -> Source {
        Source {
            reference,
            insecure: false,
            mirror: false,
        }
    }
}

impl Registries {
    /// The places to pull `reference` from, in order; the last is its own location.
    ///
    /// Errors with [`Error::Blocked`], and with [`Error::Rewrite`] when a rewritten name is invalid.
    pub fn resolve(&self, reference: &Reference) -> Result<Vec<Source>> {
        let Some(registry) = self.find(reference) else {
            return Ok(vec![Source::direct(reference.clone())]);
        };
        check_blocked(registry, reference)?;
        let by_digest = reference.digest().is_some();
        let mut sources = Vec::with_capacity(registry.mirrors.len() + 1);
        for mirror in &registry.mirrors {
            let wanted = match mirror.pull {
                _ if registry.mirror_by_digest_only => by_digest,
                PullFromMirror::All => true,
                PullFromMirror::DigestOnly => by_digest,
                PullFromMirror::TagOnly => !by_digest,
            };
            if wanted {
                let reference = rewrite(reference, &registry.prefix, &mirror.location)?;
                sources.push(Source {
                    reference,
                    insecure: mirror.insecure,
                    mirror: true,
                });
            }
        }
        let own = match &registry.location {
            Some(location) => rewrite(reference, &registry.prefix, location)?,
            None => reference.clone(),
        };
        sources.push(Source {
            reference: own,
            insecure: registry.insecure,
            mirror: false,
        });
        Ok(sources)
    }

    /// Where to push `reference`: always to the registry that it names, never to a mirror or a
    /// rewritten location. Errors with [`Error::Blocked`].
    pub fn push_target(&self, reference: &Reference) -> Result<Source> {
        let registry = self.find(reference);
        if let Some(registry) = registry {
            check_blocked(registry, reference)?;
        }
        let insecure = registry.is_some_and(|registry| registry.insecure);
        Ok(Source {
            insecure,
            ..Source::direct(reference.clone())
        })
    }

    /// The table with the longest prefix that matches.
    pub fn find(&self, reference: &Reference) -> Option<&Registry> {
        let text = reference.to_string();
        let matching = self
            .registries
            .values()
            .filter(|r| matched(&text, &r.prefix).is_some());
        matching.max_by_key(|registry| registry.prefix.len())
    }
}

fn check_blocked(registry: &Registry, reference: &Reference) -> Result<()> {
    if !registry.blocked {
        return Ok(());
    }
    Err(Error::Blocked {
        reference: reference.to_string(),
        prefix: registry.prefix.clone(),
    })
}

/// How many bytes of `reference` the prefix covers, if it matches.
///
/// A prefix ends at the end, or before `/`, `:` or `@`; so `example.com` covers
/// `example.com:5000/x` too, which is what the other tools do.
fn matched(reference: &str, prefix: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        Some(domain) => {
            let at = reference.find(domain)?;
            if reference[..at].contains('/') {
                return None;
            }
            at + domain.len()
        }
        None => reference.starts_with(prefix).then_some(prefix.len())?,
    };
    matches!(
        reference.as_bytes().get(end),
        None | Some(b'/' | b':' | b'@')
    )
    .then_some(end)
}

fn rewrite(reference: &Reference, prefix: &str, location: &str) -> Result<Reference> {
    let text = reference.to_string();
    let end = matched(&text, prefix).unwrap_or_default();
    let rewritten = format!("{location}{}", &text[end..]);
    if rewritten == text {
        return Ok(reference.clone());
    }
    Reference::parse(&rewritten).map_err(|error| match error {
        image::Error::Reference { flaw, .. } => Error::Rewrite {
            reference: text,
            rewritten,
            flaw,
        },
        other => other.into(),
    })
}
