//! A signature that is attached to an image, and whether a requirement of policy.json takes it.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code"
)]

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{Digest, Reference};
use serde_json::{Value, json};
use trust::signature::Attachment;
use trust::signature::payload::{self, Kind};
use trust::{Error, Policy, Signature};

pub const MANIFEST: &[u8] = b"{\"a\":\"manifest\"}";
pub const NAME: &str = "example.com/x:1";
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
pub const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
pub const CHAIN: &str = "dev.sigstore.cosign/chain";
pub const BUNDLE: &str = "dev.sigstore.cosign/bundle";
/// 2023-11-14, when the certificates here were valid.
pub const THEN: u64 = 1_700_000_000;
pub const EMAIL: &str = "ali@example.com";
pub const OIDC: &str = "https://accounts.example.com";

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

pub fn payload() -> Vec<u8> {
    let name = Reference::parse(NAME).unwrap();
    payload::make(Kind::Sigstore, &Digest::of(MANIFEST), &name, THEN).unwrap()
}

pub fn attachment(payload: &[u8], annotations: &[(&str, &str)]) -> Attachment {
    let pairs = annotations
        .iter()
        .map(|(name, text)| (name.to_string(), text.to_string()));
    Attachment {
        media_type: "application/vnd.dev.cosign.simplesigning.v1+json".into(),
        payload: payload.to_vec(),
        annotations: BTreeMap::from_iter(pairs),
    }
}

pub fn verify(requirement: &Value, attachment: &Attachment) -> Result<(), Error> {
    let text = json!({"default": [requirement]}).to_string();
    let policy = Policy::parse(Path::new("/p.json"), &text)?;
    let demands = policy.demands(&Reference::parse(NAME).unwrap())?;
    demands.verify(MANIFEST, &[Signature::Sigstore(attachment.clone())])
}

#[track_caller]
pub fn refused(requirement: &Value, attachment: &Attachment, words: &str) {
    let error = verify(requirement, attachment).unwrap_err();
    assert!(matches!(error, Error::SignatureRefused { .. }), "{error}");
    assert!(error.to_string().contains(words), "no {words:?} in {error}");
}

pub fn by_key(pem: &str) -> Value {
    json!({"type": "sigstoreSigned", "keyData": base64(pem)})
}
