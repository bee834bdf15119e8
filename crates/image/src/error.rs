//! The one error type of this crate: what was asked, of whom, and why it failed.
//!
//! Never holds a credential: messages are logged and shown to users.

use std::io;
use std::path::PathBuf;

use crate::auth::AuthFlaw;
use crate::digest::{Digest, DigestFlaw};
use crate::platform::Platform;
use crate::policy::PolicyFlaw;
use crate::reference::ReferenceFlaw;
use crate::registries::{RegistriesFlaw, ShortNameFlaw};

/// Result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be named, read, fetched, checked or sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a digest (`sha256:` and 64 lower-case hexadecimal digits, or sha512 and 128).
    #[error("invalid digest {input:?}: {flaw}")]
    Digest {
        /// The text as given.
        input: String,
        /// What is wrong with it.
        flaw: DigestFlaw,
    },
    /// The text is not an image reference.
    #[error("invalid image name {input:?}: {flaw}")]
    Reference {
        /// The text as given.
        input: String,
        /// What is wrong with it.
        flaw: ReferenceFlaw,
    },
    /// A manifest, index or image config is not the JSON that its specification asks for.
    #[error("invalid {document}: {source}")]
    Json {
        /// Which document, in words (`image config`, `image index` …).
        document: &'static str,
        /// What the parser met, with line and column.
        source: serde_json::Error,
    },
    /// A manifest is well-formed JSON and yet cannot be used.
    #[error("invalid manifest: {reason}")]
    Manifest {
        /// Which rule it breaks.
        reason: ManifestFlaw,
    },
    /// An index has no image for the wanted platform.
    #[error("no image for platform {wanted} (there is: {})", list(available))]
    PlatformMissing {
        /// The platform looked for.
        wanted: Platform,
        /// The platforms that the index has.
        available: Vec<Platform>,
    },
    /// A configuration file or directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A registries.conf is not TOML, or has a value of the wrong type.
    #[error("invalid {}: {source}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What the parser met, with the line.
        source: Box<toml::de::Error>,
    },
    /// A registries.conf is well-formed TOML and yet cannot be used.
    #[error("invalid {}: {flaw}", path.display())]
    Registries {
        /// The file.
        path: PathBuf,
        /// Which rule it breaks.
        flaw: RegistriesFlaw,
    },
    /// registries.conf forbids the registry.
    #[error("{reference}: registry {prefix} is blocked by registries.conf")]
    Blocked {
        /// The image asked for.
        reference: String,
        /// The prefix of the blocking entry.
        prefix: String,
    },
    /// registries.conf rewrites the reference to something that is none.
    #[error("{reference}: registries.conf rewrites it to {rewritten:?}, which is invalid: {flaw}")]
    Rewrite {
        /// The image asked for.
        reference: String,
        /// What it became.
        rewritten: String,
        /// What is wrong with that.
        flaw: ReferenceFlaw,
    },
    /// A name without registry stands for no image, or for too many.
    #[error("short name {name:?}: {flaw}")]
    ShortName {
        /// The name as given.
        name: String,
        /// Why it has no meaning here.
        flaw: ShortNameFlaw,
    },
    /// An auth.json cannot be used.
    #[error("invalid {}: {flaw}", path.display())]
    Auth {
        /// The file.
        path: PathBuf,
        /// What is wrong; never shows a secret.
        flaw: AuthFlaw,
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
    /// The policy asks for a signature, which this program cannot check yet: so the image is refused.
    #[error(
        "{reference}: the signature policy {} (scope {scope}) asks for {requirement}, and checking \
         signatures is not built yet: the image is refused", path.display()
    )]
    SignatureUnsupported {
        /// The image asked for.
        reference: String,
        /// The policy file.
        path: PathBuf,
        /// The scope that applies.
        scope: String,
        /// The type of the requirement, as `signedBy`.
        requirement: &'static str,
    },
    /// The bytes are not what their digest promises.
    #[error("{subject}: digest mismatch: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was checked, in words.
        subject: String,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
}

/// Why a well-formed JSON document is not a usable manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestFlaw {
    /// Docker image manifest version 2, schema 1: obsolete, unsafe to verify, and not supported.
    #[error(
        "Docker schema 1 is obsolete and not supported; push the image again with a current tool"
    )]
    SchemaOne,
    /// `schemaVersion` is not 2.
    #[error("schemaVersion is {0}, and only 2 is known")]
    SchemaVersion(i64),
    /// The media type is none of the manifest types.
    #[error("media type {0:?} is not an image manifest or index")]
    MediaType(String),
    /// The document says one media type and the registry another.
    #[error("the registry calls it {declared:?}, the document itself {embedded:?}")]
    MediaTypeConflict {
        /// The `Content-Type`.
        declared: String,
        /// The `mediaType` field.
        embedded: String,
    },
    /// Fields of an image manifest and of an index in one document (CVE-2021-41190).
    #[error("it has the fields of both an image manifest and an index")]
    Ambiguous,
    /// Neither `config` and `layers` nor `manifests` is there.
    #[error("it has neither config and layers nor manifests")]
    Shapeless,
    /// Indexes point at indexes, deeper than any real image does.
    #[error("indexes are nested more than {0} deep")]
    Nesting(usize),
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none".to_owned();
    }
    platforms
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
