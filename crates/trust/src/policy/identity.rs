//! `signedIdentity` (containers-policy.json(5)): which name a signature must be for.
//!
//! Pure. Must never complete a name with a tag that was not signed.

use image::Reference;
use serde::Deserialize;

use crate::signature::SignatureFlaw;

/// Which name a signature must be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedIdentity {
    /// Exactly that of the image.
    Exact,
    /// Exactly that of the image; its repository where the image is named by digest.
    RepoDigestOrExact,
    /// That of the image's repository.
    Repository,
    /// Exactly this.
    ExactReference(Reference),
    /// This repository.
    ExactRepository(Reference),
    /// As `RepoDigestOrExact`, after one prefix of the image's name was put in place of another.
    Remap {
        /// The prefix of the image's name.
        prefix: String,
        /// What it was when it was signed.
        signed_prefix: String,
    },
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields, rename_all_fields = "camelCase")]
enum Raw {
    #[serde(rename = "matchExact")]
    Exact {},
    #[serde(rename = "matchRepoDigestOrExact")]
    RepoDigestOrExact {},
    #[serde(rename = "matchRepository")]
    Repository {},
    #[serde(rename = "exactReference")]
    ExactReference { docker_reference: String },
    #[serde(rename = "exactRepository")]
    ExactRepository { docker_repository: String },
    #[serde(rename = "remapIdentity")]
    Remap {
        prefix: String,
        signed_prefix: String,
    },
}

impl SignedIdentity {
    /// Reads the value of `signedIdentity`; says what is wrong.
    pub(super) fn parse(value: serde_json::Value) -> Result<SignedIdentity, String> {
        let raw: Raw = serde_json::from_value(value).map_err(|e| format!("signedIdentity: {e}"))?;
        Ok(match raw {
            Raw::Exact {} => SignedIdentity::Exact,
            Raw::RepoDigestOrExact {} => SignedIdentity::RepoDigestOrExact,
            Raw::Repository {} => SignedIdentity::Repository,
            Raw::ExactReference { docker_reference } => {
                let reference = parse(&docker_reference)?;
                if is_bare(&reference) {
                    return Err(format!("{docker_reference:?} has neither tag nor digest"));
                }
                SignedIdentity::ExactReference(reference)
            }
            Raw::ExactRepository { docker_repository } => {
                SignedIdentity::ExactRepository(parse(&docker_repository)?)
            }
            Raw::Remap {
                prefix,
                signed_prefix,
            } => {
                check_prefix(&prefix)?;
                check_prefix(&signed_prefix)?;
                SignedIdentity::Remap {
                    prefix,
                    signed_prefix,
                }
            }
        })
    }

    /// The rule, as policy.json calls it.
    pub(super) fn rule(&self) -> &'static str {
        match self {
            SignedIdentity::Exact => "matchExact",
            SignedIdentity::RepoDigestOrExact => "matchRepoDigestOrExact",
            SignedIdentity::Repository => "matchRepository",
            SignedIdentity::ExactReference(_) => "exactReference",
            SignedIdentity::ExactRepository(_) => "exactRepository",
            SignedIdentity::Remap { .. } => "remapIdentity",
        }
    }

    /// Whether a signature for the name `signed` counts for `image`; places other than registries
    /// have no name.
    pub(super) fn check(
        &self,
        image: Option<&Reference>,
        signed: &str,
    ) -> Result<(), SignatureFlaw> {
        let rule = self.rule();
        let image_name = || image.ok_or(SignatureFlaw::NoName(rule));
        let matches = match (self, Reference::parse(signed)) {
            (_, Err(_)) => false,
            (SignedIdentity::Exact, Ok(signed)) => exact(image_name()?, &signed),
            (SignedIdentity::RepoDigestOrExact, Ok(signed)) => {
                exact_or_digest(image_name()?, &signed)
            }
            (SignedIdentity::Repository, Ok(signed)) => image_name()?.name() == signed.name(),
            (SignedIdentity::ExactReference(wanted), Ok(signed)) => exact(wanted, &signed),
            (SignedIdentity::ExactRepository(wanted), Ok(signed)) => wanted.name() == signed.name(),
            (
                SignedIdentity::Remap {
                    prefix,
                    signed_prefix,
                },
                Ok(signed),
            ) => {
                let image = remap(image_name()?, prefix, signed_prefix);
                image.is_some_and(|image| exact_or_digest(&image, &signed))
            }
        };
        match matches {
            true => Ok(()),
            false => Err(SignatureFlaw::Identity {
                signed: signed.to_owned(),
                rule,
                image: image.map_or("an image without a name".into(), ToString::to_string),
            }),
        }
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    Reference::parse(text).map_err(|e| e.to_string())
}

fn is_bare(reference: &Reference) -> bool {
    reference.tag().is_none() && reference.digest().is_none()
}

fn exact(wanted: &Reference, signed: &Reference) -> bool {
    !is_bare(wanted) && wanted == signed
}

fn exact_or_digest(wanted: &Reference, signed: &Reference) -> bool {
    match (wanted.tag(), wanted.digest()) {
        // What the digest says of the image is compared with the signature's elsewhere.
        (None, Some(_)) => !is_bare(signed) && wanted.name() == signed.name(),
        _ => exact(wanted, signed),
    }
}

/// The prefix must be a host, a namespace or a repository, written in full.
fn check_prefix(prefix: &str) -> Result<(), String> {
    let host_only = !prefix.contains('/');
    let whole = match host_only {
        // A host alone is no reference; one with a repository is.
        true => format!("{prefix}/x"),
        false => prefix.to_owned(),
    };
    let reference = parse(&whole)?;
    if !is_bare(&reference) || reference.name() != whole {
        return Err(format!(
            "{prefix:?} is no host, namespace or repository in full"
        ));
    }
    Ok(())
}

fn remap(image: &Reference, prefix: &str, signed_prefix: &str) -> Option<Reference> {
    let name = image.name();
    match name.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let text = image.to_string();
            let rest = text.strip_prefix(prefix)?;
            Reference::parse(&format!("{signed_prefix}{rest}")).ok()
        }
        _ => Some(image.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn accepts(rule: &SignedIdentity, image: &str, signed: &str) -> bool {
        let image = Reference::parse(&image.replace("@D", DIGEST)).unwrap();
        rule.check(Some(&image), &signed.replace("@D", DIGEST))
            .is_ok()
    }

    #[test]
    fn each_rule_accepts_the_names_that_it_should_and_no_others() {
        let rule = |value| SignedIdentity::parse(value).unwrap();
        let exact = rule(json!({"type": "matchExact"}));
        let digest = rule(json!({"type": "matchRepoDigestOrExact"}));
        let repository = rule(json!({"type": "matchRepository"}));
        let this = rule(json!({"type": "exactReference", "dockerReference": "busybox:1"}));
        let here = rule(json!({"type": "exactRepository", "dockerRepository": "busybox"}));
        let remap = rule(
            json!({"type": "remapIdentity", "prefix": "m.example:5000/v", "signedPrefix": "a.example"}),
        );
        for (rule, image, signed, accepted) in [
            (&exact, "a.b/c:1", "a.b/c:1", true),
            (&exact, "docker.io/library/x:1", "x:1", true),
            (&exact, "a.b/c:1", "a.b/c:2", false),
            (&exact, "a.b/c:latest", "a.b/c", false),
            (&exact, "a.b/c@D", "a.b/c:1", false),
            (&exact, "a.b/c@D", "a.b/c@D", true),
            (&exact, "a.b/c:1", "Not A Name", false),
            (&digest, "a.b/c:1", "a.b/c:1", true),
            (&digest, "a.b/c:1", "a.b/c:2", false),
            (&digest, "a.b/c@D", "a.b/c:2", true),
            (&digest, "a.b/c@D", "a.b/c", false),
            (&digest, "a.b/c@D", "a.b/d:2", false),
            (&repository, "a.b/c:1", "a.b/c:2", true),
            (&repository, "a.b/c:1", "a.b/c", true),
            (&repository, "a.b/c:1", "a.b/cc:1", false),
            (&this, "a.b/c:1", "docker.io/library/busybox:1", true),
            (&this, "a.b/c:1", "busybox:2", false),
            (&here, "a.b/c:1", "busybox:2", true),
            (&here, "busybox:1", "a.b/c:1", false),
            (&remap, "m.example:5000/v/x:1", "a.example/x:1", true),
            (&remap, "m.example:5000/v/x@D", "a.example/x:1", true),
            (&remap, "m.example:5000/vv/x:1", "a.example/x:1", false),
            (&remap, "other.example/x:1", "other.example/x:1", true),
        ] {
            assert_eq!(
                accepts(rule, image, signed),
                accepted,
                "{rule:?} {image} {signed}"
            );
        }
    }

    #[test]
    fn an_image_without_a_name_meets_only_rules_that_bring_one() {
        let this = SignedIdentity::ExactRepository(Reference::parse("a.b/c").unwrap());
        assert!(this.check(None, "a.b/c:1").is_ok());
        assert_eq!(
            SignedIdentity::Repository.check(None, "a.b/c:1"),
            Err(SignatureFlaw::NoName("matchRepository"))
        );
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in [
            json!({}),
            json!({"type": "matchAnything"}),
            json!({"type": "matchExact", "dockerReference": "a.b/c:1"}),
            json!({"type": "exactReference"}),
            json!({"type": "exactReference", "dockerReference": "a.b/c"}),
            json!({"type": "exactReference", "dockerReference": "A"}),
            json!({"type": "remapIdentity", "prefix": "busybox", "signedPrefix": "a.example/x:1"}),
            json!({"type": "remapIdentity", "prefix": "", "signedPrefix": "a.example"}),
        ] {
            assert!(SignedIdentity::parse(bad.clone()).is_err(), "{bad}");
        }
    }
}
