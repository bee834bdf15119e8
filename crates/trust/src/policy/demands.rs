//! What a policy demands of one image, and whether the image's signatures meet it.
//!
//! Must never let through an image for which one requirement has no signature that meets it alone.

use std::fs;
use std::path::PathBuf;

use image::Reference;

use super::requirement::{KeySource, Requirement, SignedBy, Signers, SigstoreSigned};
use crate::error::{Error, Result};
use crate::signature::certificate::{Authorities, Fulcio, Pki};
use crate::signature::openpgp::Keyring;
use crate::signature::payload::Claim;
use crate::signature::sigstore::{self, Trust};
use crate::signature::{Attachment, PublicKey, SIMPLE_SIGNING, Signature, SignatureFlaw};
use crate::signature::{signer, simple};

/// What a policy demands of an image. Nothing of the image may be used before
/// [`verify`](Demands::verify) has said yes.
#[derive(Debug, Clone)]
#[must_use]
pub struct Demands {
    /// The image, for messages.
    pub(super) image: String,
    /// Its name, where it is one of a registry.
    pub(super) reference: Option<Reference>,
    pub(super) path: PathBuf,
    pub(super) scope: String,
    pub(super) list: Vec<Requirement>,
}

impl Demands {
    /// The same, unless the policy refuses the image whatever its signatures are.
    pub(super) fn possible(self) -> Result<Demands> {
        let unsupported = |requirement: String| Error::SignatureUnsupported {
            reference: self.image.clone(),
            path: self.path.clone(),
            scope: self.scope.clone(),
            requirement,
        };
        for requirement in &self.list {
            match requirement {
                Requirement::Reject => {
                    return Err(Error::PolicyRejected {
                        reference: self.image.clone(),
                        path: self.path.clone(),
                        scope: self.scope.clone(),
                    });
                }
                Requirement::SignedBaseLayer => {
                    return Err(unsupported("signedBaseLayer".to_owned()));
                }
                Requirement::SignedBy(signed) if signed.key_type != "GPGKeys" => {
                    return Err(unsupported(format!("signedBy with {}", signed.key_type)));
                }
                _ => {}
            }
        }
        Ok(self)
    }

    /// Whether the image's signatures matter.
    pub fn want_signatures(&self) -> bool {
        let signed = |requirement: &Requirement| {
            matches!(
                requirement,
                Requirement::SignedBy(_) | Requirement::SigstoreSigned(_)
            )
        };
        self.list.iter().any(signed)
    }

    /// Whether the image with this manifest may be used: each requirement must be met by one of its
    /// signatures. Errors with [`Error::SignatureRefused`], which says what is wrong with each.
    pub fn verify(&self, manifest: &[u8], signatures: &[Signature]) -> Result<()> {
        let now = signer::now();
        for requirement in &self.list {
            let met = match requirement {
                Requirement::InsecureAcceptAnything => Ok(()),
                Requirement::SignedBy(signed) => {
                    let keys = signed.keys.iter();
                    keyring(keys).and_then(|ring| {
                        self.any(simple_ones(signatures), |message| {
                            self.simple(signed, &ring, message, manifest, now)
                        })
                    })
                }
                Requirement::SigstoreSigned(signed) => trusted(signed).and_then(|(trust, logs)| {
                    self.any(sigstore_ones(signatures), |attachment| {
                        let claim = sigstore::verify(attachment, &trust, &logs, now)?;
                        signed
                            .identity
                            .check(self.reference.as_ref(), &claim.reference)?;
                        is_for(&claim, manifest)
                    })
                }),
                // Refused before; an image must not slip through if it was not.
                Requirement::Reject | Requirement::SignedBaseLayer => {
                    Err(vec![SignatureFlaw::Missing])
                }
            };
            met.map_err(|flaws| Error::SignatureRefused {
                reference: self.image.clone(),
                path: self.path.clone(),
                scope: self.scope.clone(),
                requirement: requirement.to_string(),
                flaws,
            })?;
        }
        Ok(())
    }

    /// Whether one of the signatures is good; what is wrong with each if none is.
    fn any<'s, T: 's>(
        &self,
        signatures: impl Iterator<Item = &'s T>,
        check: impl Fn(&T) -> Result<(), SignatureFlaw>,
    ) -> Result<(), Vec<SignatureFlaw>> {
        let mut flaws = Vec::new();
        for signature in signatures {
            match check(signature) {
                Ok(()) => return Ok(()),
                Err(flaw) => flaws.push(flaw),
            }
        }
        if flaws.is_empty() {
            flaws.push(SignatureFlaw::Missing);
        }
        Err(flaws)
    }

    fn simple(
        &self,
        signed: &SignedBy,
        ring: &Keyring,
        message: &[u8],
        manifest: &[u8],
        now: u64,
    ) -> Result<(), SignatureFlaw> {
        let (claim, _) = simple::verify_simple(ring, message, now)?;
        signed
            .identity
            .check(self.reference.as_ref(), &claim.reference)?;
        is_for(&claim, manifest)
    }
}

fn simple_ones(signatures: &[Signature]) -> impl Iterator<Item = &Vec<u8>> {
    signatures.iter().filter_map(|signature| match signature {
        Signature::Simple(message) => Some(message),
        Signature::Sigstore(_) => None,
    })
}

/// cosign attaches other things too, which say nothing about names.
fn sigstore_ones(signatures: &[Signature]) -> impl Iterator<Item = &Attachment> {
    signatures.iter().filter_map(|signature| match signature {
        Signature::Sigstore(attachment) if attachment.media_type == SIMPLE_SIGNING => {
            Some(attachment)
        }
        _ => None,
    })
}

fn is_for(claim: &Claim, manifest: &[u8]) -> Result<(), SignatureFlaw> {
    let mut verifier = claim.digest.verifier();
    verifier.update(manifest);
    match verifier.finish("manifest") {
        Ok(_) => Ok(()),
        Err(_) => Err(SignatureFlaw::OtherDigest(claim.digest.clone())),
    }
}

fn bytes(source: &KeySource) -> Result<Vec<u8>, SignatureFlaw> {
    match source {
        KeySource::Data(_, bytes) => Ok(bytes.clone()),
        KeySource::File(path) => fs::read(path)
            .map_err(|error| SignatureFlaw::BadKey(format!("{}: {error}", path.display()))),
    }
}

/// A key's flaw, with the place where the key is.
fn at(source: &KeySource) -> impl Fn(SignatureFlaw) -> SignatureFlaw {
    move |flaw| match flaw {
        SignatureFlaw::BadKey(why) if !why.starts_with(&source.to_string()) => {
            SignatureFlaw::BadKey(format!("{source}: {why}"))
        }
        other => other,
    }
}

fn load<T>(
    source: &KeySource,
    parse: impl Fn(&[u8]) -> Result<T, SignatureFlaw>,
) -> Result<T, Vec<SignatureFlaw>> {
    bytes(source)
        .and_then(|bytes| parse(&bytes))
        .map_err(|flaw| vec![at(source)(flaw)])
}

fn keyring<'s>(
    sources: impl Iterator<Item = &'s KeySource>,
) -> Result<Keyring, Vec<SignatureFlaw>> {
    let mut ring = Keyring::default();
    for source in sources {
        let read = bytes(source).and_then(|bytes| ring.add(&bytes));
        read.map_err(|flaw| vec![at(source)(flaw)])?;
    }
    Ok(ring)
}

fn trusted(signed: &SigstoreSigned) -> Result<(Trust, Vec<PublicKey>), Vec<SignatureFlaw>> {
    let keys = |sources: &[KeySource]| -> Result<Vec<PublicKey>, Vec<SignatureFlaw>> {
        let keys = sources
            .iter()
            .map(|source| load(source, PublicKey::from_pem));
        keys.collect()
    };
    let authorities = |source: &KeySource| load(source, Authorities::from_pem);
    let trust = match &signed.signers {
        Signers::Keys(sources) => Trust::Keys(keys(sources)?),
        Signers::Fulcio {
            authorities: source,
            issuer,
            email,
        } => Trust::Fulcio(Fulcio {
            authorities: authorities(source)?,
            issuer: issuer.clone(),
            email: email.clone(),
        }),
        Signers::Pki {
            roots,
            intermediates,
            email,
            hostname,
        } => Trust::Pki(Pki {
            roots: authorities(roots)?,
            intermediates: intermediates.as_ref().map(authorities).transpose()?,
            email: email.clone(),
            hostname: hostname.clone(),
        }),
    };
    Ok((trust, keys(&signed.logs)?))
}
