//! Certificates of those who sign (RFC 5280): Fulcio's, which name a person and who vouches for that
//! name, and those of an authority of one's own.
//!
//! webpki checks the chain; names are read here. Must never return a key before the chain is checked.

use std::time::Duration;

use pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::Utf8String;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::flaw::SignatureFlaw;
use super::public_key::{PublicKey, pem_blocks};

/// id-kp-codeSigning, 1.3.6.1.5.5.7.3.3
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
/// Who vouches for the name, as bytes; and the same as a UTF8String.
const ISSUER: &str = "1.3.6.1.4.1.57264.1.1";
const ISSUER_V2: &str = "1.3.6.1.4.1.57264.1.8";

static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P256_SHA384,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
    webpki::ring::ED25519,
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::RSA_PKCS1_2048_8192_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA512,
];

/// Certificates of authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authorities(Vec<Vec<u8>>);

impl Authorities {
    /// Reads a PEM file of certificates; there must be one at least.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Authorities, SignatureFlaw> {
        let certificates = certificates(pem).map_err(SignatureFlaw::BadKey)?;
        if certificates.is_empty() {
            return Err(SignatureFlaw::BadKey(
                "there is no certificate in it".into(),
            ));
        }
        for der in &certificates {
            parse(der).map_err(SignatureFlaw::BadKey)?;
        }
        Ok(Authorities(certificates))
    }

    /// The certificate's key, if these authorities say at `time` that it may sign code.
    fn vouch(
        &self,
        leaf: &[u8],
        between: &[Vec<u8>],
        time: u64,
    ) -> Result<PublicKey, SignatureFlaw> {
        let flawed = |why: String| SignatureFlaw::Certificate(why);
        let parsed = parse(leaf).map_err(flawed)?;
        let then = ASN1Time::from_timestamp(i64::try_from(time).unwrap_or(i64::MAX))
            .map_err(|_| flawed("is checked for a time that is none".into()))?;
        let roots: Vec<_> = self
            .0
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let valid = |der: &&CertificateDer<'_>| {
            parse(der).is_ok_and(|root| root.validity().is_valid_at(then))
        };
        let anchors: Vec<TrustAnchor<'_>> = roots
            .iter()
            .filter(valid)
            .filter_map(|der| anchor_from_trusted_cert(der).ok())
            .collect();
        let der = CertificateDer::from(leaf);
        let between: Vec<_> = between
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let untrusted = |why: webpki::Error| {
            flawed(format!(
                "is not from an authority that is trusted for it: {why}"
            ))
        };
        EndEntityCert::try_from(&der)
            .and_then(|leaf| {
                let time = UnixTime::since_unix_epoch(Duration::from_secs(time));
                // As other tools have it: a certificate that names no use is for any.
                let usage = KeyUsage::required_if_present(CODE_SIGNING);
                leaf.verify_for_usage(ALGORITHMS, &anchors, &between, time, usage, None, None)
                    .map(|_| ())
            })
            .map_err(untrusted)?;
        PublicKey::from_der(parsed.public_key().raw)
    }
}

/// Trust in what Fulcio says of who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fulcio {
    pub(crate) authorities: Authorities,
    pub(crate) issuer: String,
    pub(crate) email: String,
}

impl Fulcio {
    /// The key of a certificate for the right person at `time`.
    pub(crate) fn key(
        &self,
        leaf: &[u8],
        chain: &[u8],
        time: u64,
    ) -> Result<PublicKey, SignatureFlaw> {
        let key = self.authorities.vouch(leaf, &between(chain)?, time)?;
        let certificate = parse(leaf).map_err(SignatureFlaw::Certificate)?;
        let issuer = issuer(&certificate)?;
        if issuer != self.issuer {
            return Err(SignatureFlaw::Certificate(format!(
                "has a name for which {issuer:?} vouches, and not {:?}",
                self.issuer
            )));
        }
        is_for_email(&certificate, &self.email)?;
        Ok(key)
    }
}

/// Trust in an authority of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pki {
    pub(crate) roots: Authorities,
    pub(crate) intermediates: Option<Authorities>,
    pub(crate) email: Option<String>,
    pub(crate) hostname: Option<String>,
}

impl Pki {
    /// The key of a certificate for the right person or host now.
    pub(crate) fn key(
        &self,
        leaf: &[u8],
        chain: &[u8],
        now: u64,
    ) -> Result<PublicKey, SignatureFlaw> {
        let mut between = between(chain)?;
        between.extend(self.intermediates.iter().flat_map(|more| more.0.clone()));
        let key = self.roots.vouch(leaf, &between, now)?;
        let certificate = parse(leaf).map_err(SignatureFlaw::Certificate)?;
        if let Some(email) = &self.email {
            is_for_email(&certificate, email)?;
        }
        if let Some(hostname) = &self.hostname {
            let der = CertificateDer::from(leaf);
            let named = ServerName::try_from(hostname.as_str())
                .ok()
                .zip(EndEntityCert::try_from(&der).ok())
                .is_some_and(|(name, leaf)| leaf.verify_is_valid_for_subject_name(&name).is_ok());
            if !named {
                let why = format!("is not for the host {hostname:?}");
                return Err(SignatureFlaw::Certificate(why));
            }
        }
        Ok(key)
    }
}

/// The only certificate of a PEM text.
pub(crate) fn leaf(pem: &[u8]) -> Result<Vec<u8>, SignatureFlaw> {
    let mut all = certificates(pem).map_err(SignatureFlaw::Certificate)?;
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(SignatureFlaw::Certificate("is not exactly one".into())),
    }
}

fn between(chain: &[u8]) -> Result<Vec<Vec<u8>>, SignatureFlaw> {
    certificates(chain)
        .map_err(|why| SignatureFlaw::Certificate(format!("has a chain of which {why}")))
}

fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if pem.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for block in pem_blocks(pem)? {
        if block.label != "CERTIFICATE" {
            return Err(format!(
                "has a {} where only certificates may be",
                block.label
            ));
        }
        all.push(block.contents);
    }
    Ok(all)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("is followed by something".into()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

fn issuer(certificate: &X509Certificate<'_>) -> Result<String, SignatureFlaw> {
    let flawed = |why: &str| SignatureFlaw::Certificate(why.to_owned());
    let mut issuers = Vec::new();
    for extension in certificate.extensions() {
        match extension.oid.to_id_string().as_str() {
            ISSUER => issuers.push(String::from_utf8(extension.value.to_vec()).ok()),
            ISSUER_V2 => {
                let text = Utf8String::from_der(extension.value).ok();
                let whole = text.filter(|(rest, _)| rest.is_empty());
                issuers.push(whole.map(|(_, text)| text.string()));
            }
            _ => {}
        }
    }
    issuers.dedup();
    match issuers.as_slice() {
        [] => Err(flawed("does not say who vouches for its name")),
        [Some(only)] => Ok(only.clone()),
        [None] => Err(flawed("does not say readably who vouches for its name")),
        _ => Err(flawed(
            "says of different parties that they vouch for its name",
        )),
    }
}

fn is_for_email(certificate: &X509Certificate<'_>, email: &str) -> Result<(), SignatureFlaw> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let emails: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::RFC822Name(email) => Some(*email),
            _ => None,
        })
        .collect();
    if emails.contains(&email) {
        return Ok(());
    }
    Err(SignatureFlaw::Certificate(format!(
        "is for {}, and not for {email:?}",
        match emails.is_empty() {
            true => "no e-mail address".to_owned(),
            false => format!("{emails:?}"),
        }
    )))
}
