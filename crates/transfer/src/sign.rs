//! Trust in what is copied: signatures are checked before anything is read, carried along, and made.
//!
//! Must never sign a digest other than that of the manifest that was written, nor let signatures go
//! with a manifest that they are not for.

use image::{Digest, Reference};
use trust::signature::Signer;
use trust::{Demands, Policy, Signature};

use crate::document::Document;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::target::{NO_SIGNATURES, Target};

/// What becomes of signatures.
#[derive(Debug, Clone, Default)]
pub struct Signing {
    /// Leave behind those that there are.
    pub remove: bool,
    /// Take along only what a policy wants to see: others are not asked for.
    pub only_wanted: bool,
    /// Who signs what is written.
    pub signers: Vec<Signer>,
    /// The name that is signed, instead of the target's.
    pub identity: Option<Reference>,
}

/// The signatures of one copy.
pub(crate) struct Signatures<'a> {
    source: &'a Source,
    target: &'a Target,
    signing: &'a Signing,
    policy: Option<&'a Policy>,
}

impl<'a> Signatures<'a> {
    /// Errors when the policy lets nothing from the source in, and when signing cannot succeed.
    pub(crate) fn new(
        source: &'a Source,
        target: &'a Target,
        signing: &'a Signing,
        policy: Option<&'a Policy>,
    ) -> Result<Signatures<'a>> {
        if let Some(policy) = policy {
            source.check(policy)?;
        }
        let signatures = Signatures {
            source,
            target,
            signing,
            policy,
        };
        if !signing.signers.is_empty() {
            signatures.identity()?;
            if !target.takes_signatures() {
                return Err(Error::place(
                    target.location(),
                    "it cannot hold signatures, so that the image cannot be signed there",
                ));
            }
        }
        Ok(signatures)
    }

    /// Holds a manifest or index against the policy, and returns the signatures that go with it.
    pub(crate) async fn admit(&self, document: &Document, top: bool) -> Result<Vec<Signature>> {
        // An image of a list is held against what is demanded where it comes from.
        let (source, top) = match self.source.member(&document.digest) {
            Some(member) => {
                let its_top = member.manifest(None).await;
                (
                    member,
                    its_top.is_ok_and(|top| top.digest == document.digest),
                )
            }
            None => (self.source, top),
        };
        let demands = self.policy.map(|policy| source.demands(policy));
        let demands = demands.transpose()?.flatten();
        let wanted = demands.as_ref().is_some_and(Demands::want_signatures);
        let mut found = Vec::new();
        if wanted || !(self.signing.remove || self.signing.only_wanted) {
            found = source.signatures(document, top).await?;
        }
        if let Some(demands) = &demands {
            demands.verify(&document.bytes, &found)?;
        }
        if self.signing.remove {
            found.clear();
        }
        if !found.is_empty() && !self.target.takes_signatures() {
            return Err(Error::place(self.target.location(), NO_SIGNATURES));
        }
        Ok(found)
    }

    /// Puts the signatures that came along, and new ones, beside what was written.
    pub(crate) async fn put(
        &self,
        document: &Document,
        top: bool,
        mut signatures: Vec<Signature>,
    ) -> Result<()> {
        for signer in &self.signing.signers {
            let identity = self.identity()?.clone();
            let new = make(signer.clone(), document.digest.clone(), identity).await?;
            signatures.push(new);
        }
        self.target.put_signatures(document, top, &signatures).await
    }

    fn identity(&self) -> Result<&Reference> {
        let identity = self.signing.identity.as_ref().or(self.target.identity());
        let full = identity.filter(|name| name.tag().is_some() || name.digest().is_some());
        full.ok_or_else(|| {
            Error::place(
                self.target.location(),
                "the image gets no full name there that could be signed: give --sign-identity",
            )
        })
    }
}

/// A program, or a person at it, may take its time.
async fn make(signer: Signer, digest: Digest, identity: Reference) -> Result<Signature> {
    let subject = identity.to_string();
    let made = tokio::task::spawn_blocking(move || signer.sign(&digest, &identity)).await?;
    made.map_err(|flaw| trust::Error::Signature { subject, flaw }.into())
}
