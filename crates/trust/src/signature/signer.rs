//! Whoever signs: a key of GnuPG's, or one of sigstore's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use image::{Digest, Reference};

use super::flaw::SignatureFlaw;
use super::payload::{self, Kind};
use super::private_key::PrivateKey;
use super::{Attachment, SIMPLE_SIGNING, Signature, gpg, sigstore};

/// Makes signatures.
#[derive(Debug, Clone)]
pub enum Signer {
    /// Simple signing by the `gpg` program.
    Gpg {
        /// The key, by its fingerprint or what else gpg knows it by.
        key: String,
        /// A file with the passphrase; without it gpg's agent asks.
        passphrase: Option<PathBuf>,
    },
    /// As cosign signs with a key.
    Sigstore(Arc<PrivateKey>),
}

impl Signer {
    /// The statement, signed, that `reference` is the manifest with this digest. May block.
    pub fn sign(&self, digest: &Digest, reference: &Reference) -> Result<Signature, SignatureFlaw> {
        let now = now();
        match self {
            Signer::Gpg { key, passphrase } => {
                let content = payload::make(Kind::Simple, digest, reference, now)?;
                gpg::sign(&content, key, passphrase.as_deref()).map(Signature::Simple)
            }
            Signer::Sigstore(key) => {
                let payload = payload::make(Kind::Sigstore, digest, reference, now)?;
                let signature = key.sign(&payload)?;
                Ok(Signature::Sigstore(Attachment {
                    media_type: SIMPLE_SIGNING.to_owned(),
                    annotations: BTreeMap::from([(sigstore::SIGNATURE.to_owned(), signature)]),
                    payload,
                }))
            }
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
