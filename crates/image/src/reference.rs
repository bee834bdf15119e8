//! Image references: `[domain/]path[:tag][@digest]`, read as every Docker-compatible tool reads them.
//!
//! The grammar is that of the Distribution project's reference format, with its normalisation:
//! `busybox` is `docker.io/library/busybox`. Hosts are the same in capitals, and get small letters, so
//! that `EXAMPLE.com` is blocked and trusted as `example.com` is. Must never do I/O, and never guess: what does not
//! parse is refused, because references become URLs and file names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestFlaw, clip};
use crate::error::{Error, Result};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// What is wrong with a text that should be a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceFlaw {
    /// Nothing, or nothing before the tag or digest.
    #[error("the name is empty")]
    Empty,
    /// 64 hexadecimal digits are an image ID, not a name.
    #[error("64 hexadecimal digits are an image ID and cannot be a name")]
    Identifier,
    /// A capital letter in the repository.
    #[error("the repository name must be lower case")]
    Uppercase,
    /// The repository path is longer than 255 characters.
    #[error("the repository name is longer than 255 characters")]
    TooLong,
    /// The host part is not a host name or address with an optional port.
    #[error("the registry is not a host name or address with an optional port")]
    Domain,
    /// The repository path breaks the grammar.
    #[error(
        "the repository name may have a-z, 0-9, and single separators (. _ __ -) inside each part"
    )]
    Path,
    /// The tag breaks the grammar.
    #[error("a tag has 1 to 128 of A-Z a-z 0-9 _ . - and does not begin with . or -")]
    Tag,
    /// The digest is none.
    #[error("the digest is invalid: {0}")]
    Digest(DigestFlaw),
}

/// A valid, normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses what a user writes. A name without a registry is Docker Hub's; no tag is added.
    pub fn parse(input: &str) -> Result<Reference> {
        parse(input).map_err(|flaw| Error::Reference {
            input: clip(input),
            flaw,
        })
    }

    /// The registry's `host[:port]`, `docker.io` when none was written.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, as `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given. It wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The full repository name, as `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The same, with this tag. Errors when `tag` breaks the grammar.
    pub fn with_tag(&self, tag: &str) -> Result<Reference> {
        if !is_tag(tag) {
            return Err(Error::Reference {
                input: clip(tag),
                flaw: ReferenceFlaw::Tag,
            });
        }
        Ok(Reference {
            tag: Some(tag.to_owned()),
            ..self.clone()
        })
    }

    /// The same, with this digest; a tag is kept.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same, without its tag.
    #[must_use]
    pub fn without_tag(&self) -> Reference {
        Reference {
            tag: None,
            ..self.clone()
        }
    }

    /// The same, without its digest.
    #[must_use]
    pub fn without_digest(&self) -> Reference {
        Reference {
            digest: None,
            ..self.clone()
        }
    }

    /// The repository alone: without tag and digest.
    #[must_use]
    pub fn repository(&self) -> Reference {
        Reference {
            tag: None,
            digest: None,
            ..self.clone()
        }
    }

    /// The same, with the tag `latest` when it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(self) -> Reference {
        if self.tag.is_some() || self.digest.is_some() {
            return self;
        }
        Reference {
            tag: Some(DEFAULT_TAG.to_owned()),
            ..self
        }
    }

    /// The short form that people write: without Docker Hub's domain and `library/`, where that
    /// still means the same.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    /// [`familiar`](Reference::familiar) without tag and digest.
    pub fn familiar_name(&self) -> String {
        // `docker.io/a.b/c` is not `a.b/c`, and 64 digits alone would be an image ID.
        if self.domain != DEFAULT_DOMAIN || is_qualified(&self.path) {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(name) if !name.contains('/') && !is_identifier(name) => name.to_owned(),
            _ => self.path.clone(),
        }
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(input: &str) -> Result<Reference> {
        Reference::parse(input)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        let text = String::deserialize(deserializer)?;
        Reference::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn parse(input: &str) -> Result<Reference, ReferenceFlaw> {
    if is_identifier(input) {
        return Err(ReferenceFlaw::Identifier);
    }
    let (domain, rest) = split_domain(input);
    let domain = domain.as_str();
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(Digest::check(digest).map_err(ReferenceFlaw::Digest)?),
        ),
        None => (rest, None),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    if path.is_empty() {
        return Err(ReferenceFlaw::Empty);
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceFlaw::Uppercase);
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(ReferenceFlaw::Tag);
    }
    if !is_domain(domain) {
        return Err(ReferenceFlaw::Domain);
    }
    if !path.split('/').all(is_path_component) {
        return Err(ReferenceFlaw::Path);
    }
    let official = domain == DEFAULT_DOMAIN && !path.contains('/');
    let path = if official {
        format!("{OFFICIAL_PREFIX}{path}")
    } else {
        path.to_owned()
    };
    if path.len() > MAX_PATH {
        return Err(ReferenceFlaw::TooLong);
    }
    Ok(Reference {
        domain: domain.to_owned(),
        path,
        tag: tag.map(str::to_owned),
        digest,
    })
}

/// The first part is a registry when it cannot be a Docker Hub name: it has a dot, a colon or a
/// capital letter, or is `localhost`.
fn split_domain(input: &str) -> (String, &str) {
    match input.split_once('/') {
        Some((first, rest)) if is_registry(first) => match small(first) {
            legacy if legacy == LEGACY_DEFAULT_DOMAIN => (DEFAULT_DOMAIN.to_owned(), rest),
            domain => (domain, rest),
        },
        _ => (DEFAULT_DOMAIN.to_owned(), input),
    }
}

/// A registry in small letters, unless it would be taken for a part of Docker Hub then.
fn small(registry: &str) -> String {
    let small = registry.to_ascii_lowercase();
    match is_registry(&small) {
        true => small,
        false => registry.to_owned(),
    }
}

/// `host[:port][/…]`, as configuration files have it, with its host as references have it.
pub fn with_small_host(text: &str) -> String {
    let (host, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
    format!("{}{rest}", small(host))
}

fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first
            .bytes()
            .any(|b| b == b'.' || b == b':' || b.is_ascii_uppercase())
}

/// Whether a text names its registry, so that no short-name search applies to it.
pub fn is_qualified(input: &str) -> bool {
    input
        .split_once('/')
        .is_some_and(|(first, _)| is_registry(first))
}

fn is_identifier(input: &str) -> bool {
    input.len() == 64
        && input
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if is_ipv6(address) => ("", port),
            _ => return false,
        },
        None => match domain.find(':') {
            Some(colon) => domain.split_at(colon),
            None => (domain, ""),
        },
    };
    let bracketed = domain.starts_with('[');
    if !bracketed && !host.split('.').all(is_domain_component) {
        return false;
    }
    port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_ipv6(address: &str) -> bool {
    !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
}

fn is_domain_component(part: &str) -> bool {
    !part.is_empty()
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !part.starts_with('-')
        && !part.ends_with('-')
}

/// `[a-z0-9]+` pieces joined by one of `.`, `_`, `__` or any number of `-`.
fn is_path_component(part: &str) -> bool {
    let bytes = part.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    bytes
        .split(alphanumeric)
        .filter(|separator| !separator.is_empty())
        .all(|separator| {
            matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests;
