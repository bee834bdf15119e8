//! The digest of a manifest as registries tell it, also of Docker's schema 1 (image manifest v2, schema 1):
//! its signatures stand in the document itself (RFC 7515, in the form that Docker calls pretty), and the digest
//! is that of what was signed.
//!
//! Nothing else is read of schema 1. Must never take a signature for verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::MediaType;
use crate::digest::Digest;
use crate::error::{Error, ManifestFlaw, Result};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    #[serde(default)]
    schema_version: i64,
    media_type: Option<String>,
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    protected: String,
}

/// Which part of the document was signed.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Protected {
    /// The signed bytes begin with as many of the document's.
    format_length: usize,
    /// And end with these, in base64.
    format_tail: String,
}

/// The digest of a manifest, whatever it is: that of its bytes, and of schema 1 that of what was signed.
///
/// # Errors
/// [`Error::Manifest`] for schema 1 whose signatures do not say what was signed, or say different things.
pub fn digest(bytes: &[u8]) -> Result<Digest> {
    match serde_json::from_slice::<Signed>(bytes) {
        Ok(signed) if signed.schema_version == 1 && !signed.signatures.is_empty() => {
            let payload = payload(bytes, &signed);
            let payload = payload.ok_or(Error::Manifest {
                reason: ManifestFlaw::SchemaOneSignatures,
            })?;
            Ok(Digest::of(&payload))
        }
        _ => Ok(Digest::of(bytes)),
    }
}

fn payload(bytes: &[u8], signed: &Signed) -> Option<Vec<u8>> {
    let plain = signed.media_type.as_deref().map(MediaType::from);
    if plain.is_some_and(|media_type| media_type == MediaType::DockerSchemaOne) {
        return Some(bytes.to_owned());
    }
    let mut all = signed.signatures.iter().map(|signature| {
        let protected = URL_SAFE_NO_PAD.decode(&signature.protected).ok()?;
        serde_json::from_slice::<Protected>(&protected).ok()
    });
    let first = all.next()??;
    if !all.all(|other| other.as_ref() == Some(&first)) {
        return None;
    }
    let mut payload = bytes.get(..first.format_length)?.to_owned();
    payload.extend(URL_SAFE_NO_PAD.decode(&first.format_tail).ok()?);
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document with signatures, as Docker writes it: they are put in before the last brace.
    fn document(payload: &str, protected: &[String]) -> String {
        let body = payload.strip_suffix("\n}").unwrap();
        let signatures: Vec<_> = protected
            .iter()
            .map(|text| format!(r#"{{"header":{{}},"signature":"x","protected":"{text}"}}"#))
            .collect();
        format!("{body},\n   \"signatures\": [{}]\n}}", signatures.join(","))
    }

    fn protected(length: usize, tail: &str) -> String {
        let tail = URL_SAFE_NO_PAD.encode(tail);
        URL_SAFE_NO_PAD.encode(format!(
            r#"{{"formatLength":{length},"formatTail":"{tail}"}}"#
        ))
    }

    #[test]
    fn schema_one_has_the_digest_of_what_was_signed() {
        let payload = "{\n   \"schemaVersion\": 1,\n   \"name\": \"x\"\n}";
        let good = protected(payload.len() - 2, "\n}");
        let whole = document(payload, &[good.clone(), good.clone()]);
        assert_eq!(
            digest(whole.as_bytes()).unwrap(),
            Digest::of(payload.as_bytes())
        );
        for flawed in [
            vec!["!".to_owned()],
            vec![protected(1 << 20, "")],
            vec![good, protected(3, "\n}")],
        ] {
            let whole = document(payload, &flawed);
            assert!(digest(whole.as_bytes()).is_err(), "{whole}");
        }
        for bytes in [&b""[..], b"{}", b"\xff", payload.as_bytes()] {
            assert_eq!(digest(bytes).unwrap(), Digest::of(bytes));
        }
    }
}
