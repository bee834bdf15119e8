//! The keys that tokens may be signed with: PEM certificates and public keys, or a JSON Web Key Set
//! (RFC 7517). Must never verify with an algorithm that does not fit the key.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{
    CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use serde::Deserialize;
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};

use crate::error::{Error, Result};

/// A signature algorithm (RFC 7518, RFC 8037) that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// `none` and all that share a secret are not among them.
    pub(super) fn parse(name: &str) -> Option<Algorithm> {
        match name {
            "RS256" => Some(Algorithm::Rs256),
            "ES256" => Some(Algorithm::Es256),
            "ES384" => Some(Algorithm::Es384),
            "EdDSA" => Some(Algorithm::EdDsa),
            _ => None,
        }
    }

    fn of_certificates(self) -> &'static dyn SignatureVerificationAlgorithm {
        match self {
            Algorithm::Rs256 => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Es256 => webpki::ring::ECDSA_P256_SHA256,
            Algorithm::Es384 => webpki::ring::ECDSA_P384_SHA384,
            Algorithm::EdDsa => webpki::ring::ED25519,
        }
    }
}

#[derive(Debug, Clone)]
enum Material {
    /// A certificate's or PEM file's public key.
    Info(SubjectPublicKeyInfoDer<'static>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An elliptic curve's point, with the algorithm of that curve.
    Point(Algorithm, Vec<u8>),
}

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    material: Material,
}

/// Keys, and certificates that may vouch for others.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<Key>,
    anchors: Vec<TrustAnchor<'static>>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<WebKey>,
}

#[derive(Deserialize)]
struct WebKey {
    kty: String,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    pub(super) fn read(path: &Path) -> Result<Keys> {
        let bad = |reason: String| Error::Setting {
            what: "token keys",
            path: path.to_owned(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        let keys = match serde_json::from_slice::<KeySet>(&bytes) {
            Ok(set) => from_set(&set),
            Err(_) => from_pem(&bytes),
        };
        let keys = keys.map_err(bad)?;
        if keys.keys.is_empty() {
            return Err(bad(
                "there is no certificate, public key or JSON Web Key in it".to_owned(),
            ));
        }
        Ok(keys)
    }

    /// Whether one of the keys (that of this id, if it has one) signed the message; `chain` is what
    /// the token brings along (`x5c`).
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        chain: &[Vec<u8>],
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let fits = |key: &&Key| match (&key.id, id) {
            (Some(own), Some(asked)) => own == asked,
            _ => true,
        };
        let mut keys = self.keys.iter().filter(fits);
        if keys.any(|key| key.material.verify(algorithm, message, signature)) {
            return true;
        }
        let vouched = self.vouched(chain);
        vouched.is_some_and(|key| key.verify(algorithm, message, signature))
    }

    /// The key of the chain's first certificate, if the chain ends at a certificate of ours.
    fn vouched(&self, chain: &[Vec<u8>]) -> Option<Material> {
        let (first, rest) = chain.split_first()?;
        let first = CertificateDer::from(first.as_slice());
        let rest: Vec<_> = rest
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let certificate = EndEntityCert::try_from(&first).ok()?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        certificate
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                &rest,
                UnixTime::since_unix_epoch(now),
                KeyUsage::client_auth(),
                None,
                None,
            )
            .ok()?;
        Some(Material::Info(certificate.subject_public_key_info()))
    }
}

impl Material {
    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Material::Info(info) => {
                let signature = match algorithm {
                    Algorithm::Es256 | Algorithm::Es384 => asn1(signature),
                    Algorithm::Rs256 | Algorithm::EdDsa => signature.to_vec(),
                };
                RawPublicKeyEntity::try_from(info).is_ok_and(|key| {
                    key.verify_signature(algorithm.of_certificates(), message, &signature)
                        .is_ok()
                })
            }
            Material::Rsa(key) => {
                let rsa = &signature::RSA_PKCS1_2048_8192_SHA256;
                algorithm == Algorithm::Rs256 && key.verify(rsa, message, signature).is_ok()
            }
            Material::Point(own, point) => {
                let verifier: &dyn signature::VerificationAlgorithm = match own {
                    Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
                    Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
                    Algorithm::EdDsa => &signature::ED25519,
                    Algorithm::Rs256 => return false,
                };
                let key = UnparsedPublicKey::new(verifier, point);
                algorithm == *own && key.verify(message, signature).is_ok()
            }
        }
    }
}

fn from_pem(bytes: &[u8]) -> Result<Keys, String> {
    let (mut keys, mut anchors) = (Vec::new(), Vec::new());
    for item in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let (kind, der) = item.map_err(|e| format!("neither PEM nor a key set: {e}"))?;
        let info = match kind {
            SectionKind::Certificate => {
                let der = CertificateDer::from(der);
                let read = |e: webpki::Error| format!("a certificate: {e}");
                let anchor = webpki::anchor_from_trusted_cert(&der).map_err(read)?;
                anchors.push(anchor.to_owned());
                EndEntityCert::try_from(&der)
                    .map_err(read)?
                    .subject_public_key_info()
            }
            SectionKind::PublicKey => SubjectPublicKeyInfoDer::from(der),
            _ => return Err("it may have certificates and public keys only".to_owned()),
        };
        keys.push(Key {
            id: None,
            material: Material::Info(info),
        });
    }
    Ok(Keys { keys, anchors })
}

fn from_set(set: &KeySet) -> Result<Keys, String> {
    let keys = set.keys.iter().map(|key| {
        let name = key.kid.as_deref().unwrap_or("without kid");
        let material = key.material();
        let material = material
            .ok_or_else(|| format!("key {name}: not an RSA, P-256, P-384 or Ed25519 key"))?;
        Ok(Key {
            id: key.kid.clone(),
            material,
        })
    });
    Ok(Keys {
        keys: keys.collect::<Result<_, String>>()?,
        anchors: Vec::new(),
    })
}

impl WebKey {
    fn material(&self) -> Option<Material> {
        let decode = |field: &Option<String>| BASE64_URL_SAFE_NO_PAD.decode(field.as_deref()?).ok();
        let point = || {
            let (x, y) = (decode(&self.x)?, decode(&self.y)?);
            Some([&[4], x.as_slice(), &y].concat())
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Some(Material::Rsa(RsaPublicKeyComponents {
                n: decode(&self.n)?,
                e: decode(&self.e)?,
            })),
            ("EC", Some("P-256")) => Some(Material::Point(Algorithm::Es256, point()?)),
            ("EC", Some("P-384")) => Some(Material::Point(Algorithm::Es384, point()?)),
            ("OKP", Some("Ed25519")) => Some(Material::Point(Algorithm::EdDsa, decode(&self.x)?)),
            _ => None,
        }
    }
}

/// A token has r and s as they are (RFC 7518, 3.4); certificates' algorithms want them in DER.
fn asn1(signature: &[u8]) -> Vec<u8> {
    let integer = |half: &[u8]| {
        let zeros = half.iter().take_while(|byte| **byte == 0).count();
        let digits = &half[zeros.min(half.len().saturating_sub(1))..];
        let sign = digits.first().is_some_and(|first| *first >= 0x80);
        let mut out = vec![2, (digits.len() + usize::from(sign)) as u8];
        out.extend(sign.then_some(0));
        out.extend_from_slice(digits);
        out
    };
    // P-384's two halves of 48 bytes stay below 128: short lengths only.
    if signature.len() > 96 || signature.len() % 2 == 1 {
        return Vec::new();
    }
    let (r, s) = signature.split_at(signature.len() / 2);
    let body = [integer(r), integer(s)].concat();
    [&[0x30, body.len() as u8], body.as_slice()].concat()
}
