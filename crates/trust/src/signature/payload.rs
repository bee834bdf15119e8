//! What is signed: the JSON that binds a name to a manifest's digest (containers/image's
//! simple-signing format, which cosign shares but for the type).
//!
//! Must never accept a field that it does not know where the format is closed.

use image::{Digest, Reference};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::flaw::SignatureFlaw;
use crate::strict_json;

/// Which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Simple signing.
    Simple,
    /// cosign's.
    Sigstore,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Simple => "atomic container signature",
            Kind::Sigstore => "cosign container image signature",
        }
    }
}

/// What a signature says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The image's name, as it was signed.
    pub reference: String,
    /// The manifest's digest.
    pub digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    // Not Option: the key must be there, and cosign writes null.
    optional: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

/// Reads a payload whose signature was verified.
pub fn parse(kind: Kind, bytes: &[u8]) -> Result<Claim, SignatureFlaw> {
    let payload: Payload = strict_json::parse(bytes).map_err(SignatureFlaw::Json)?;
    if payload.critical.kind != kind.name() {
        return Err(SignatureFlaw::Kind(payload.critical.kind));
    }
    check_optional(&payload.optional, kind)?;
    let text = payload.critical.image.docker_manifest_digest;
    let digest = Digest::parse(&text).map_err(|_| SignatureFlaw::BadDigest(text))?;
    Ok(Claim {
        reference: payload.critical.identity.docker_reference,
        digest,
    })
}

/// A payload that nobody has verified: nothing may be decided by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// What it says of an image.
    pub claim: Claim,
    /// The program that it names as its maker.
    pub creator: Option<String>,
    /// When it says that it was made, in seconds since 1970.
    pub timestamp: Option<i64>,
}

/// Reads a payload of simple signing WITHOUT a verified signature.
pub fn parse_unverified(bytes: &[u8]) -> Result<Unverified, SignatureFlaw> {
    let claim = parse(Kind::Simple, bytes)?;
    let payload: Payload = strict_json::parse(bytes).map_err(SignatureFlaw::Json)?;
    let timestamp = payload.optional.get("timestamp").and_then(Value::as_f64);
    Ok(Unverified {
        claim,
        creator: payload
            .optional
            .get("creator")
            .and_then(Value::as_str)
            .map(str::to_owned),
        // parse() has let whole numbers through only; one out of range ends at the end of time.
        timestamp: timestamp.map(|seconds| seconds as i64),
    })
}

/// Anything may be there, but what is known must be of its type.
fn check_optional(optional: &Value, kind: Kind) -> Result<(), SignatureFlaw> {
    let flawed = |why: &str| Err(SignatureFlaw::Json(why.to_owned()));
    let map = match optional {
        Value::Object(map) => map,
        Value::Null if kind == Kind::Sigstore => return Ok(()),
        _ => return flawed("optional is no object"),
    };
    if map
        .get("creator")
        .is_some_and(|creator| !creator.is_string())
    {
        return flawed("optional.creator is no string");
    }
    let whole = |number: &Value| number.as_f64().is_some_and(|number| number.fract() == 0.0);
    if map.get("timestamp").is_some_and(|time| !whole(time)) {
        return flawed("optional.timestamp is no whole number");
    }
    Ok(())
}

/// The payload that says that `reference` is the manifest with `digest`, at `time` (seconds since 1970).
pub fn make(
    kind: Kind,
    digest: &Digest,
    reference: &Reference,
    time: u64,
) -> Result<Vec<u8>, SignatureFlaw> {
    let creator = concat!("floe ", env!("CARGO_PKG_VERSION"));
    let optional = Map::from_iter([
        ("creator".to_owned(), Value::from(creator)),
        ("timestamp".to_owned(), Value::from(time)),
    ]);
    let payload = Payload {
        critical: Critical {
            identity: Identity {
                docker_reference: reference.to_string(),
            },
            image: Image {
                docker_manifest_digest: digest.to_string(),
            },
            kind: kind.name().to_owned(),
        },
        optional: Value::Object(optional),
    };
    serde_json::to_vec(&payload).map_err(|e| SignatureFlaw::Json(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn text(kind: &str, optional: &str, more: &str) -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"a.b/c:1"}},"image":{{"docker-manifest-digest":"{HEX}"}},"type":"{kind}"{more}}},"optional":{optional}}}"#
        )
    }

    #[test]
    fn what_is_made_is_read() {
        let (digest, name) = (Digest::of(b"x"), Reference::parse("a.b/c:1").unwrap());
        for kind in [Kind::Simple, Kind::Sigstore] {
            let claim = parse(kind, &make(kind, &digest, &name, 7).unwrap()).unwrap();
            assert_eq!(
                (claim.reference.as_str(), claim.digest),
                ("a.b/c:1", digest.clone())
            );
        }
    }

    #[test]
    fn only_the_closed_format_is_read() {
        let simple = "atomic container signature";
        let cosign = "cosign container image signature";
        let read = |kind, text: String| parse(kind, text.as_bytes());
        assert!(read(Kind::Simple, text(simple, r#"{"x":1,"timestamp":1.0}"#, "")).is_ok());
        assert!(read(Kind::Sigstore, text(cosign, "null", "")).is_ok());
        for (bad, why) in [
            (text(cosign, "{}", ""), "no image's signature"),
            (text(simple, "null", ""), "no object"),
            (text(simple, r#"{"timestamp":1.5}"#, ""), "whole number"),
            (text(simple, r#"{"creator":1}"#, ""), "no string"),
            (text(simple, "{}", r#","more":1"#), "unknown field"),
            (
                text(simple, "{}", r#","type":"atomic container signature""#),
                "twice",
            ),
            (text(simple, "{},\"more\":1", ""), "unknown field"),
            (text(simple, "{\"a\":1,\"a\":1}", ""), "twice"),
            (
                text(simple, "{}", "").replace(HEX, "sha256:1"),
                "which is none",
            ),
            (
                text(simple, "{}", "").replace(",\"optional\":{}", ""),
                "missing field",
            ),
            (text(simple, "{}", "") + "{}", "trailing"),
        ] {
            let error = read(Kind::Simple, bad.clone()).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
