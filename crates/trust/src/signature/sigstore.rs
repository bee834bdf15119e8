//! Signatures that cosign attaches to images (cosign's signature specification): a payload, and its
//! signature and what vouches for it as annotations.
//!
//! Everything is checked offline. Certificate transparency (SCTs) is not looked at.

use super::certificate::{Fulcio, Pki};
use super::flaw::SignatureFlaw;
use super::payload::{self, Claim, Kind};
use super::public_key::PublicKey;
use super::{Attachment, from_base64, rekor};

pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
pub(crate) const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
pub(crate) const CHAIN: &str = "dev.sigstore.cosign/chain";
pub(crate) const BUNDLE: &str = "dev.sigstore.cosign/bundle";

/// Who may sign.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// One of these keys.
    Keys(Vec<PublicKey>),
    /// Somebody to whom Fulcio gave a certificate.
    Fulcio(Fulcio),
    /// Somebody with a certificate of these authorities.
    Pki(Pki),
}

/// What the signature says of an image, if it is one by who may sign. With keys of transparency logs
/// the signature must be in one of these logs. `now` is in seconds since 1970.
pub(crate) fn verify(
    attachment: &Attachment,
    trust: &Trust,
    logs: &[PublicKey],
    now: u64,
) -> Result<Claim, SignatureFlaw> {
    let text = annotation(attachment, SIGNATURE)?;
    let signature = from_base64(text).ok_or(SignatureFlaw::Base64("signature"))?;
    let signed = rekor::Signed {
        payload: &attachment.payload,
        signature: &signature,
    };
    let keys = match trust {
        Trust::Keys(keys) if logs.is_empty() => keys.clone(),
        Trust::Keys(keys) => {
            let bundle = annotation(attachment, BUNDLE)?.as_bytes();
            let entry = |key: &PublicKey| rekor::verify(bundle, logs, key.der(), &signed);
            logged(keys, entry)?
        }
        Trust::Fulcio(fulcio) => {
            let bundle = annotation(attachment, BUNDLE)?.as_bytes();
            let certificate = annotation(attachment, CERTIFICATE)?;
            let der = super::certificate::leaf(certificate.as_bytes())?;
            let time = rekor::verify(bundle, logs, &der, &signed)?;
            vec![fulcio.key(&der, chain(attachment), time)?]
        }
        Trust::Pki(pki) => {
            let certificate = annotation(attachment, CERTIFICATE)?;
            let der = super::certificate::leaf(certificate.as_bytes())?;
            vec![pki.key(&der, chain(attachment), now)?]
        }
    };
    let by = |key: &PublicKey| key.has_signed(&attachment.payload, &signature);
    if !keys.iter().any(by) {
        return Err(SignatureFlaw::Forged);
    }
    payload::parse(Kind::Sigstore, &attachment.payload)
}

/// Those keys that a log has seen sign this.
fn logged(
    keys: &[PublicKey],
    entry: impl Fn(&PublicKey) -> Result<u64, SignatureFlaw>,
) -> Result<Vec<PublicKey>, SignatureFlaw> {
    let (mut found, mut flaw) = (Vec::new(), None);
    for key in keys {
        match entry(key) {
            Ok(_) => found.push(key.clone()),
            Err(error) => flaw = Some(error),
        }
    }
    match (found.is_empty(), flaw) {
        (true, Some(flaw)) => Err(flaw),
        _ => Ok(found),
    }
}

fn annotation<'a>(
    attachment: &'a Attachment,
    name: &'static str,
) -> Result<&'a String, SignatureFlaw> {
    let found = attachment.annotations.get(name);
    found.ok_or(SignatureFlaw::Annotation(name))
}

fn chain(attachment: &Attachment) -> &[u8] {
    let chain = attachment.annotations.get(CHAIN);
    chain.map_or(&[], |chain| chain.as_bytes())
}
