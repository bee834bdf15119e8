//! Why an image is not trusted, or who is trusted cannot be found out.
//!
//! Never holds a secret: messages are logged and shown to users.

use std::io;
use std::path::PathBuf;

use crate::policy::PolicyFlaw;
use crate::signature::SignatureFlaw;

/// Result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image is not trusted, or who is trusted cannot be found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration file or directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A policy.json cannot be used; so nothing may be pulled.
    #[error("invalid signature policy {}: {flaw}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: PolicyFlaw,
    },
    /// The policy rejects the image.
    #[error("{reference}: rejected by the signature policy {} (scope {scope})", path.display())]
    PolicyRejected {
        /// The image asked for.
        reference: String,
        /// The policy file.
        path: PathBuf,
        /// The scope that applies.
        scope: String,
    },
    /// Only signed images may be used, and the policy asks for no signature of this one.
    #[error(
        "{reference}: a signature is required, and the signature policy {} (scope {scope}) accepts the \
         image without one", path.display()
    )]
    SignatureNotDemanded {
        /// The image asked for.
        reference: String,
        /// The policy file.
        path: PathBuf,
        /// The scope that applies.
        scope: String,
    },
    /// The policy asks for a signature of a kind that this program cannot check: so the image is refused.
    #[error(
        "{reference}: the signature policy {} (scope {scope}) asks for {requirement}, which is not \
         supported: the image is refused", path.display()
    )]
    SignatureUnsupported {
        /// The image asked for.
        reference: String,
        /// The policy file.
        path: PathBuf,
        /// The scope that applies.
        scope: String,
        /// The requirement, in policy.json's words.
        requirement: String,
    },
    /// The image has no signature that meets a requirement of the policy.
    #[error(
        "{reference}: the signature policy {} (scope {scope}) asks for {requirement}: {}",
        path.display(), each(flaws)
    )]
    SignatureRefused {
        /// The image asked for.
        reference: String,
        /// The policy file.
        path: PathBuf,
        /// The scope that applies.
        scope: String,
        /// The requirement, with its key.
        requirement: String,
        /// What is wrong with each signature.
        flaws: Vec<SignatureFlaw>,
    },
    /// A signature cannot be read, made or kept.
    #[error("signature of {subject}: {flaw}")]
    Signature {
        /// Of what, or from where.
        subject: String,
        /// What is wrong.
        flaw: SignatureFlaw,
    },
    /// A file of registries.d cannot be used.
    #[error("invalid {}: {why}", path.display())]
    RegistriesD {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Where signatures should be, they cannot be looked for or kept.
    #[error("{reference}: its signatures have no usable place: {why}")]
    SignaturePlace {
        /// The image.
        reference: String,
        /// Why not.
        why: String,
    },
}

impl Error {
    /// Whether the image itself was looked at and refused: a file that cannot be read is no refusal.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Error::PolicyRejected { .. }
                | Error::SignatureNotDemanded { .. }
                | Error::SignatureUnsupported { .. }
                | Error::SignatureRefused { .. }
                | Error::Signature { .. }
        )
    }
}

/// What is wrong with each signature; a hostile registry may have many.
fn each(flaws: &[SignatureFlaw]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = flaws.iter().take(SHOWN).map(ToString::to_string).collect();
    match flaws.len().saturating_sub(SHOWN) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}
