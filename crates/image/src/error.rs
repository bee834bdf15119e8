//! Why a name or a document of an image cannot be used.

use crate::digest::{Digest, DigestFlaw};
use crate::platform::Platform;
use crate::reference::ReferenceFlaw;

/// Result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be named, read or checked.
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
        wanted: Box<Platform>,
        /// The platforms that the index has.
        available: Vec<Platform>,
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

impl Error {
    /// For `map_err` on what the parser or writer of a document says; `document` names it in words.
    pub fn json(document: &'static str) -> impl Fn(serde_json::Error) -> Error {
        move |source| Error::Json { document, source }
    }
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
    /// Signatures of schema 1 that do not say what was signed.
    #[error("the signatures of Docker schema 1 do not say what was signed")]
    SchemaOneSignatures,
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
    /// An index states another size than the manifest has.
    #[error("the index says that {digest} has {expected} bytes, and it has {actual}")]
    Size {
        /// The manifest.
        digest: Digest,
        /// The size in the index.
        expected: u64,
        /// The size of the manifest.
        actual: u64,
    },
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
