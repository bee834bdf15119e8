//! What a URL names: repository, tag or digest, upload (Distribution spec, "Pulling manifests").
//!
//! Must never let through what does not fit the grammar: names become file names.

use std::fmt;

use image::{Digest, Reference};
use uuid::Uuid;

use crate::error::{Error, Result};

/// A name without a registry is parsed as if it were one's here.
const HERE: &str = "localhost";

/// A valid repository name as the URL has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    path: String,
    host: Option<String>,
}

impl Name {
    /// Checks a name. `host` is what a mirror's client says is the registry (`ns`).
    pub(crate) fn parse(path: &str, host: Option<&str>) -> Result<Name> {
        let invalid = |source| Error::NameInvalid(Box::new(source));
        let reference = Reference::parse(&format!("{HERE}/{path}")).map_err(invalid)?;
        if reference.path() != path {
            // A colon or @ would have made it a tag or digest.
            return Err(Error::NameUnknown(path.escape_default().to_string()));
        }
        if let Some(host) = host {
            Reference::parse(&format!("{host}/{path}")).map_err(invalid)?;
        }
        Ok(Name {
            path: path.to_owned(),
            host: host.map(str::to_owned),
        })
    }

    /// The name in the URL.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The whole name, with the registry: of an image that came from elsewhere.
    pub(crate) fn reference(&self) -> Result<Reference> {
        let full = match &self.host {
            Some(host) if !self.path.starts_with(&format!("{host}/")) => {
                format!("{host}/{}", self.path)
            }
            Some(_) => self.path.clone(),
            None => with_port(&self.path),
        };
        Reference::parse(&full).map_err(|source| Error::NameInvalid(Box::new(source)))
    }
}

/// `HOST__PORT/…` is how floe's nodes write a registry with a port in a path: no host has an underscore.
fn with_port(path: &str) -> String {
    let parts = path.split_once('/').and_then(|(first, rest)| {
        let (host, port) = first.split_once("__")?;
        Some((host, port, rest))
    });
    match parts {
        Some((host, port, rest))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            format!("{host}:{port}/{rest}")
        }
        _ => path.to_owned(),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// What stands for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A name that may move.
    Tag(String),
    /// The content's own name.
    Digest(Digest),
}

impl Target {
    /// What has a colon is a digest; no tag has one.
    pub(crate) fn parse(text: &str) -> Result<Target> {
        if text.contains(':') {
            return digest(text).map(Target::Digest);
        }
        tag(text)?;
        Ok(Target::Tag(text.to_owned()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tag(tag) => f.write_str(tag),
            Target::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Checks a tag.
pub(crate) fn tag(text: &str) -> Result<()> {
    Reference::parse(HERE)
        .and_then(|reference| reference.with_tag(text))
        .map(drop)
        .map_err(|source| Error::TagInvalid(Box::new(source)))
}

/// Reads a digest.
pub(crate) fn digest(text: &str) -> Result<Digest> {
    Digest::parse(text).map_err(|source| Error::DigestInvalid(Box::new(source)))
}

/// The name of an upload: random, so that only who began it knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct UploadId(Uuid);

impl UploadId {
    pub(crate) fn random() -> UploadId {
        UploadId(Uuid::new_v4())
    }

    /// Only the one spelling that [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<UploadId> {
        let id = UploadId(Uuid::try_parse(text).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_grammar_are_names() {
        for good in [
            "a",
            "a/b",
            "library/busybox",
            "a--b/c__d/e.f",
            "docker.io/library/x",
        ] {
            assert_eq!(Name::parse(good, None).unwrap().path(), good);
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "..",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "A",
            "a:b",
            "a@sha256:x",
            "a b",
            "ä",
            "a/.b",
            "a\0",
            &long,
        ] {
            Name::parse(bad, None).expect_err(bad);
        }
        Name::parse("a", Some("../x")).expect_err("a host is checked too");
    }

    #[test]
    fn a_mirrors_name_has_its_registry_in_the_path_or_beside_it() {
        let full = |path, host| Name::parse(path, host).unwrap().reference().unwrap().name();
        assert_eq!(
            full("library/busybox", Some("docker.io")),
            "docker.io/library/busybox"
        );
        assert_eq!(
            full("docker.io/library/busybox", None),
            "docker.io/library/busybox"
        );
        assert_eq!(full("a/b", Some("localhost:5000")), "localhost:5000/a/b");
        assert_eq!(full("quay.io/a/b", Some("quay.io")), "quay.io/a/b");
        assert_eq!(full("library/busybox", None), "docker.io/library/busybox");
    }

    #[test]
    fn an_upload_has_one_spelling() {
        let id = UploadId::random();
        assert_eq!(UploadId::parse(&id.to_string()), Some(id));
        let other = UploadId::random();
        assert_ne!(id, other);
        for bad in [
            "",
            "..",
            &id.to_string().to_uppercase(),
            &format!("{{{id}}}"),
            &id.0.simple().to_string(),
        ] {
            assert_eq!(UploadId::parse(bad), None, "{bad}");
        }
    }
}
