//! The one error type of the registry: what was asked for, on which repository, and why not.
//!
//! Values are built where the facts are known. They become status codes and the specification's
//! error codes in `http/problem.rs`, nowhere else.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::Digest;

/// A result of the registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was attempted, as `rename`.
        op: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A directory that holds something else.
    #[error("{} is not empty and not a floe registry", .0.display())]
    NotRegistry(PathBuf),
    /// A directory written by a program that knows more than this one.
    #[error("{}: made by a newer floe (version {found}; this program knows {known})", path.display())]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version known here.
        known: u64,
    },
    /// A file of the registry holds what it never writes.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The node's store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file that the server was told to use cannot be used.
    #[error("{what} {}: {reason}", path.display())]
    Setting {
        /// What the file is for, as `TLS certificate`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// Options that do not go together.
    #[error("{0}")]
    Options(&'static str),
    /// An address that cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread for blocking work has failed.
    #[error("blocking work: {0}")]
    Task(#[from] tokio::task::JoinError),

    /// A repository name that breaks the grammar.
    #[error("invalid repository name: {0}")]
    NameInvalid(Box<image::Error>),
    /// No such repository.
    #[error("repository {0} is not known here")]
    NameUnknown(String),
    /// A tag or digest that breaks the grammar.
    #[error("invalid tag: {0}")]
    TagInvalid(Box<image::Error>),
    /// A digest that breaks the grammar, or of an algorithm that is not supported.
    #[error("invalid digest: {0}")]
    DigestInvalid(Box<image::Error>),
    /// The content of an upload has another digest.
    #[error("the content has the digest {actual}, not {expected}")]
    DigestMismatch {
        /// What the client said.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The repository has no such blob.
    #[error("blob {digest} is not in repository {name}")]
    BlobUnknown {
        /// The repository.
        name: String,
        /// The blob.
        digest: Digest,
    },
    /// The repository has no such manifest.
    #[error("manifest {target} is not in repository {name}")]
    ManifestUnknown {
        /// The repository.
        name: String,
        /// The tag or digest.
        target: String,
    },
    /// The manifest is there, but the client does not want its type.
    #[error(
        "manifest {target} of repository {name} is of type {media_type}, which the request does not accept"
    )]
    NotAcceptable {
        /// The repository.
        name: String,
        /// The tag or digest.
        target: String,
        /// The manifest's type.
        media_type: String,
    },
    /// What was pushed cannot be a manifest.
    #[error("invalid manifest: {0}")]
    ManifestInvalid(String),
    /// A manifest was pushed before what it refers to.
    #[error("the manifest refers to content that is not in repository {name}")]
    ManifestBlobUnknown {
        /// The repository.
        name: String,
        /// What is missing.
        missing: Vec<Digest>,
    },
    /// A manifest above the limit.
    #[error("the manifest is larger than the limit of {max} bytes")]
    ManifestTooLarge {
        /// The limit.
        max: u64,
    },
    /// A blob above the limit.
    #[error("the blob is larger than the limit of {max} bytes")]
    BlobTooLarge {
        /// The limit.
        max: u64,
    },
    /// No such upload in this repository.
    #[error("upload {id} is not known in repository {name}")]
    UploadUnknown {
        /// The repository.
        name: String,
        /// The upload as the client wrote it.
        id: String,
    },
    /// A chunk that does not begin where the upload ends.
    #[error("the upload has {offset} bytes: the next chunk must begin there")]
    OutOfOrder {
        /// Where to go on.
        location: String,
        /// The bytes that the upload has.
        offset: u64,
    },
    /// An upload request that makes no sense.
    #[error("invalid upload: {0}")]
    UploadInvalid(&'static str),
    /// The body is not as long as the request said.
    #[error("the body has {actual} bytes, not the {expected} that were announced")]
    SizeInvalid {
        /// The length that was announced.
        expected: u64,
        /// The length of what came.
        actual: u64,
    },
    /// Another request holds the upload.
    #[error("another request is writing to this upload")]
    UploadBusy,
    /// Too many uploads are open.
    #[error("{max} uploads are open{}: no more at once", if *.of_one { " by this client" } else { "" })]
    TooManyUploads {
        /// The limit.
        max: usize,
        /// Whether it is that of one client.
        of_one: bool,
    },
    /// It is on its way, or too many take something now.
    #[error("not yet: ask again")]
    Later,
    /// Large manifests of others take all the memory that there is for them.
    #[error("too many large manifests are being pushed: try again")]
    TooManyManifests,
    /// The body did not come in time.
    #[error("nothing came for {0:?}")]
    Slow(Duration),
    /// The body broke off.
    #[error("the body broke off: {0}")]
    Body(hyper::Error),
    /// A query that cannot be understood.
    #[error("invalid query: {0}")]
    Query(&'static str),
    /// A range outside the content.
    #[error("the range is outside the content of {size} bytes")]
    Range {
        /// The content's size.
        size: u64,
    },
    /// The request does not say who asks, or not credibly.
    #[error("authentication required{}", reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default())]
    Unauthorized {
        /// The `WWW-Authenticate` header.
        challenge: String,
        /// What is wrong with what was sent.
        reason: Option<String>,
    },
    /// The registry serves, but changes nothing.
    #[error("this registry is read-only")]
    ReadOnly,
    /// No such endpoint, or not with this method.
    #[error("there is no such endpoint")]
    NoEndpoint,
    /// The endpoint has no such method.
    #[error("method {0} is not supported here")]
    Method(String),
}

impl Error {
    /// For `map_err`: an I/O error with what was attempted.
    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { op, path, source }
    }

    /// The same, for rustix's errors.
    pub(crate) fn sys(
        op: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(rustix::io::Errno) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io {
            op,
            path,
            source: source.into(),
        }
    }
}
