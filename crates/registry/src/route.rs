//! From method-less paths to endpoints (Distribution spec, "Endpoints").
//!
//! A repository may be called `a/blobs/uploads` or `tags`: paths are read from their end. Must never
//! decode a part twice, nor before it was cut at its slashes.

use image::Digest;
use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};
use crate::name::{self, Name, Target};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/` (end-1).
    Base,
    /// `/v2/_catalog`.
    Catalog,
    /// A manifest (end-3, 7, 9).
    Manifest(Name, Target),
    /// A blob (end-2, 10).
    Blob(Name, Digest),
    /// Where uploads begin (end-4, 11).
    Uploads(Name),
    /// An upload, as the client wrote it (end-5, 6, 13, 14).
    Upload(Name, String),
    /// The tags of a repository (end-8).
    Tags(Name),
    /// What refers to a manifest (end-12).
    Referrers(Name, Digest),
    /// The list of repositories for people.
    Home,
    /// A repository for people.
    Page(Name),
    /// What the pages look like.
    Style,
}

impl Route {
    /// Reads a path. `host` is the registry that a mirror's client has in mind.
    pub(crate) fn parse(path: &str, host: Option<&str>) -> Result<Route> {
        match path {
            "/" => return Ok(Route::Home),
            "/style.css" => return Ok(Route::Style),
            "/v2" | "/v2/" => return Ok(Route::Base),
            "/v2/_catalog" => return Ok(Route::Catalog),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("/repository/") {
            return Ok(Route::Page(Name::parse(&decode(name)?.join("/"), host)?));
        }
        let rest = path.strip_prefix("/v2/").ok_or(Error::NoEndpoint)?;
        let parts = decode(rest)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let name = |parts: &[&str]| Name::parse(&parts.join("/"), host);
        match parts.as_slice() {
            [of @ .., "blobs", "uploads"] | [of @ .., "blobs", "uploads", ""] => {
                Ok(Route::Uploads(name(of)?))
            }
            [of @ .., "blobs", "uploads", id] => Ok(Route::Upload(name(of)?, (*id).to_owned())),
            [of @ .., "blobs", digest] => Ok(Route::Blob(name(of)?, name::digest(digest)?)),
            [of @ .., "manifests", target] => {
                Ok(Route::Manifest(name(of)?, Target::parse(target)?))
            }
            [of @ .., "tags", "list"] => Ok(Route::Tags(name(of)?)),
            [of @ .., "referrers", digest] => {
                Ok(Route::Referrers(name(of)?, name::digest(digest)?))
            }
            _ => Err(Error::NoEndpoint),
        }
    }
}

fn decode(path: &str) -> Result<Vec<String>> {
    path.split('/')
        .map(|part| {
            let part = percent_decode_str(part).decode_utf8();
            let part = part.map_err(|_| Error::NoEndpoint)?;
            // An encoded slash is no slash.
            (!part.contains('/'))
                .then(|| part.into_owned())
                .ok_or(Error::NoEndpoint)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Name {
        Name::parse(path, None).unwrap()
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let digest = Digest::of(b"x");
        let route = |path: &str| Route::parse(path, None).unwrap();
        assert_eq!(route("/v2/"), Route::Base);
        assert_eq!(route("/v2/tags/tags/list"), Route::Tags(name("tags")));
        assert_eq!(
            route("/v2/a/blobs/uploads/manifests/v1"),
            Route::Manifest(name("a/blobs/uploads"), Target::Tag("v1".into()))
        );
        assert_eq!(
            route(&format!("/v2/a/blobs/sha256%3A{}", digest.hex())),
            Route::Blob(name("a"), digest.clone())
        );
        assert_eq!(route("/v2/a/b/blobs/uploads/"), Route::Uploads(name("a/b")));
        assert_eq!(
            route(&format!("/v2/manifests/referrers/{digest}")),
            Route::Referrers(name("manifests"), digest)
        );
    }

    #[test]
    fn a_path_leads_nowhere_but_into_a_repository() {
        for bad in [
            "/v2/../../etc/passwd/manifests/x",
            "/v2/a%2f..%2fb/manifests/x",
            "/v2/%2e%2e/manifests/x",
            "/v2/a/manifests/..",
            "/v2/a/manifests/%2e%2e%2fx",
            "/v2/a/blobs/sha256:..",
            "/v2/a/%ff/manifests/x",
            "/v2/a/%252e/manifests/x",
            "/v2//manifests/x",
            "/v1/a",
            "/repository/../x",
        ] {
            Route::parse(bad, None).expect_err(bad);
        }
    }
}
