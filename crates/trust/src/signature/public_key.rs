//! Public keys of sigstore: PEM of a SubjectPublicKeyInfo (RFC 5280), and what they have signed.
//!
//! As sigstore has it, the hash is SHA-256 whatever the curve.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{self as algorithms, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::flaw::SignatureFlaw;

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    bits: Vec<u8>,
    /// The SubjectPublicKeyInfo that it is from.
    der: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

impl PublicKey {
    /// Reads a PEM file with one public key.
    pub fn from_pem(pem: &[u8]) -> Result<PublicKey, SignatureFlaw> {
        let blocks = pem_blocks(pem).map_err(SignatureFlaw::BadKey)?;
        match blocks.as_slice() {
            [block] if block.label == "PUBLIC KEY" => PublicKey::from_der(&block.contents),
            [block] => {
                let why = format!("it is a {}, and not a PUBLIC KEY", block.label);
                Err(SignatureFlaw::BadKey(why))
            }
            blocks => {
                let why = format!("it has {} PEM blocks, and must have one", blocks.len());
                Err(SignatureFlaw::BadKey(why))
            }
        }
    }

    /// Reads a DER SubjectPublicKeyInfo.
    pub(crate) fn from_der(der: &[u8]) -> Result<PublicKey, SignatureFlaw> {
        let bad = |why: &str| SignatureFlaw::BadKey(why.to_owned());
        let (rest, info) = SubjectPublicKeyInfo::from_der(der)
            .map_err(|_| bad("it is no SubjectPublicKeyInfo"))?;
        if !rest.is_empty() {
            return Err(bad("something follows it"));
        }
        let algorithm = &info.algorithm;
        let parameters = algorithm.parameters.as_ref();
        let curve = parameters.and_then(|any| any.as_oid().ok());
        let kind = match &algorithm.algorithm {
            oid if *oid == OID_KEY_TYPE_EC_PUBLIC_KEY => match curve {
                Some(curve) if curve == OID_EC_P256 => Kind::P256,
                Some(curve) if curve == OID_NIST_EC_P384 => Kind::P384,
                _ => return Err(bad("of elliptic curves P-256 and P-384 are supported")),
            },
            oid if *oid == OID_SIG_ED25519 => Kind::Ed25519,
            oid if *oid == OID_PKCS1_RSAENCRYPTION => Kind::Rsa,
            other => {
                let why = format!("its algorithm {other} is not ECDSA, Ed25519 or RSA");
                return Err(SignatureFlaw::BadKey(why));
            }
        };
        Ok(PublicKey {
            kind,
            bits: info.subject_public_key.data.to_vec(),
            der: der.to_vec(),
        })
    }

    /// The key as a PEM file.
    pub fn to_pem(&self) -> String {
        to_pem("PUBLIC KEY", &self.der)
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether this key has signed `message`.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match self.kind {
            Kind::P256 => &algorithms::ECDSA_P256_SHA256_ASN1,
            Kind::P384 => &algorithms::ECDSA_P384_SHA256_ASN1,
            Kind::Ed25519 => &algorithms::ED25519,
            Kind::Rsa => &algorithms::RSA_PKCS1_2048_8192_SHA256,
        };
        let key = UnparsedPublicKey::new(algorithm, &self.bits);
        key.verify(message, signature).is_ok()
    }
}

/// All blocks of a PEM file.
pub(crate) fn pem_blocks(pem: &[u8]) -> Result<Vec<Pem>, String> {
    Pem::iter_from_buffer(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("it is no PEM: {error}"))
}

pub(crate) fn to_pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for start in (0..body.len()).step_by(64) {
        text += &body[start..body.len().min(start + 64)];
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
