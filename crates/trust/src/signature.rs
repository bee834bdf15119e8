//! Signatures of images: what they are made of, and how they are written into files
//! (containers/image's signature protocols, cosign's signature specification).
//!
//! One file per kind and per thing that vouches. Nothing here asks a registry: the client fetches,
//! [`Policy`](crate::Policy) decides. Must never take a signature's word for anything before it is
//! verified.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::strict_json;

pub(crate) mod certificate;
mod flaw;
pub mod gpg;
pub mod openpgp;
pub mod payload;
mod private_key;
pub(crate) mod public_key;
pub(crate) mod rekor;
pub(crate) mod signer;
pub(crate) mod sigstore;
pub(crate) mod simple;

pub use flaw::SignatureFlaw;
pub use private_key::{Generated, PrivateKey};
pub use public_key::PublicKey;
pub use signer::Signer;
pub use simple::verify_simple;

/// The most that one signature, or one signed payload, may be.
pub const MAX_SIGNATURE: u64 = 4 << 20;
/// The most signatures that one image may have.
pub const MAX_SIGNATURES: usize = 128;
/// The type of the payload that cosign signs.
pub(crate) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// How files tell sigstore's signatures from OpenPGP messages, which never begin with a zero.
const SIGSTORE_PREFIX: &[u8] = b"\0sigstore-json\n";

/// A signature that says something about an image; unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// Simple signing: an OpenPGP message.
    Simple(Vec<u8>),
    /// What cosign attaches to an image.
    Sigstore(Attachment),
}

/// A blob with annotations, as it is a layer of an attachment's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// What it is: a signature is `application/vnd.dev.cosign.simplesigning.v1+json`.
    #[serde(rename = "mimeType")]
    pub media_type: String,
    /// What is signed.
    #[serde(with = "base64_bytes")]
    pub payload: Vec<u8>,
    /// The signature itself, and what vouches for its key.
    pub annotations: BTreeMap<String, String>,
}

impl Signature {
    /// Reads a signature as files have it (`signature-N`).
    pub fn from_file(bytes: &[u8]) -> Result<Signature, SignatureFlaw> {
        match bytes.strip_prefix(SIGSTORE_PREFIX) {
            Some(json) => strict_json::parse(json)
                .map(Signature::Sigstore)
                .map_err(SignatureFlaw::Json),
            // Other formats begin with a zero, too; an OpenPGP packet has its highest bit set.
            None if bytes.first().is_some_and(|first| first & 0x80 != 0) => {
                Ok(Signature::Simple(bytes.to_owned()))
            }
            None => Err(SignatureFlaw::Format),
        }
    }

    /// The signature as files have it.
    pub fn to_file(&self) -> Result<Vec<u8>, SignatureFlaw> {
        match self {
            Signature::Simple(message) => Ok(message.clone()),
            Signature::Sigstore(attachment) => {
                let json = serde_json::to_vec(attachment)
                    .map_err(|e| SignatureFlaw::Json(e.to_string()))?;
                Ok([SIGSTORE_PREFIX, &json].concat())
            }
        }
    }
}

/// Base64 as Go's tools read it: lines may end anywhere.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.replace(['\r', '\n'], "");
    STANDARD.decode(text).ok()
}

/// Bytes in a JSON string, as base64.
pub(crate) mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::from_base64(&text).ok_or_else(|| D::Error::custom("what must be base64 is not"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_come_back_from_files_as_they_went() {
        let simple = Signature::Simple(vec![0xc4, 1, 2]);
        let attached = Signature::Sigstore(Attachment {
            media_type: SIMPLE_SIGNING.into(),
            payload: vec![0, 255, b'"'],
            annotations: BTreeMap::from([(
                "dev.cosignproject.cosign/signature".into(),
                "x".into(),
            )]),
        });
        for signature in [simple, attached] {
            let bytes = signature.to_file().unwrap();
            assert_eq!(Signature::from_file(&bytes).unwrap(), signature);
        }
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        for bad in [
            &b""[..],
            b"hello",
            b"\0other-format\n{}",
            b"\0sigstore-json\n{}",
            b"\0sigstore-json\n{\"mimeType\":\"a\",\"mimeType\":\"b\",\"payload\":\"\",\"annotations\":{}}",
        ] {
            assert!(Signature::from_file(bad).is_err(), "{bad:?}");
        }
    }
}
