//! The one error type of the store: each value says which blob, layer, entry or path, and why.
//!
//! Values are built where the facts are known; nothing here is turned into an exit or gRPC code.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::Digest;

use crate::archive::TarFlaw;
use crate::db::is_busy;
use crate::extract::EntryFlaw;

/// A result of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a store.
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
    /// A statement of the metadata database failed.
    #[error("store database: {op}: {source}")]
    Database {
        /// What was attempted.
        op: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Another process has a lock and does not let go of it.
    #[error(
        "{}: another process has had it locked for more than {seconds} s; a process that is stopped must go on or end first",
        path.display()
    )]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long that was waited for.
        seconds: u64,
    },
    /// The metadata was written by a program that knows more than this one.
    #[error(
        "{}: made by a newer floe (schema {found}), it takes one that knows schema {needs}; this one knows {known}",
        path.display()
    )]
    Schema {
        /// The database.
        path: PathBuf,
        /// The schema found in it.
        found: i64,
        /// The lowest schema that a program must know to work on it.
        needs: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// An additional image store cannot be used.
    #[error("additional image store {}: {why}", path.display())]
    Additional {
        /// Its root.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// An image of an additional store was to be changed.
    #[error("{what}: it is in the additional image store {}, which is never written", path.display())]
    ReadOnly {
        /// The image, by ID or name.
        what: String,
        /// The root of that store.
        path: PathBuf,
    },
    /// The metadata holds a value that cannot be right.
    #[error("store database: image {id} holds an invalid {field}: {source}")]
    Damaged {
        /// The image.
        id: String,
        /// Which value.
        field: &'static str,
        /// Why it is invalid.
        source: Box<image::Error>,
    },
    /// A layer could not be added; nothing of it was kept.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The layer's blob.
        layer: Digest,
        /// Why.
        source: LayerError,
    },
    /// A blob could not be read from its source.
    #[error("blob {digest}: read: {source}")]
    BlobRead {
        /// The blob.
        digest: Digest,
        /// What the source said.
        source: io::Error,
    },
    /// Content does not have the digest it should have.
    #[error("blob {expected}: digest mismatch: the content's digest is {actual}")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Content does not have the size its descriptor states.
    #[error("blob {digest}: size mismatch: {expected} bytes stated, {actual} or more found")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The descriptor's size in bytes.
        expected: u64,
        /// The bytes seen; reading ends at the first one too many.
        actual: u64,
    },
    /// A blob or file is larger than the caller is ready to hold in memory.
    #[error("{what}: {size} bytes are more than the limit of {max}")]
    TooLarge {
        /// The blob or the path inside the image.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The caller's limit in bytes.
        max: u64,
    },
    /// A manifest or config cannot be read.
    #[error("{digest}: {source}")]
    Document {
        /// The document.
        digest: Digest,
        /// Why.
        source: Box<image::Error>,
    },
    /// Manifest and config do not belong together.
    #[error("manifest {manifest}: {flaw}")]
    Mismatch {
        /// The manifest.
        manifest: Digest,
        /// What does not fit.
        flaw: ImageFlaw,
    },
    /// An image was to be recorded whose blob is not in the store.
    #[error("manifest {manifest}: its blob {blob} is not in the store")]
    MissingBlob {
        /// The manifest.
        manifest: Digest,
        /// The blob.
        blob: Digest,
    },
    /// An image was to be recorded whose layer is not unpacked.
    #[error("manifest {manifest}: its layer {diff_id} is not unpacked")]
    MissingLayer {
        /// The manifest.
        manifest: Digest,
        /// The layer's uncompressed digest.
        diff_id: Digest,
    },
    /// No image has this ID.
    #[error("image {id}: not known to the store")]
    ImageNotFound {
        /// The ID, as given.
        id: String,
    },
    /// A short ID fits more than one image.
    #[error("image {query}: ambiguous, it fits {}", matches.join(" and "))]
    Ambiguous {
        /// The short ID.
        query: String,
        /// The full IDs of the first few that fit.
        matches: Vec<String>,
    },
    /// A name is no reference.
    #[error("{source}")]
    Name {
        /// Why; it quotes the name.
        source: Box<image::Error>,
    },
    /// A name for an image has neither tag nor digest, or the digest of something else.
    #[error("image name {name}: {flaw}")]
    NameFlaw {
        /// The name.
        name: String,
        /// What is wrong with it.
        flaw: NameFlaw,
    },
    /// A container ID that cannot be a directory name.
    #[error(
        "container ID {id:?}: only A-Z a-z 0-9 _ . - may be used, at most 200, not beginning with . or -"
    )]
    ContainerId {
        /// The ID, clipped.
        id: String,
    },
    /// The container has a writable layer already.
    #[error("container {id}: its writable layer exists already")]
    ContainerExists {
        /// The container.
        id: String,
    },
    /// The archive of a layer was asked for, and no blob of it is kept.
    #[error(
        "layer {diff_id}: its compressed blob is not kept any more, so that its archive cannot be had: pull the image again"
    )]
    LayerBlobGone {
        /// The layer.
        diff_id: Digest,
    },
    /// A container stands on a layer that is nowhere to be found.
    #[error(
        "container {container}: layer {diff_id} that it stands on is neither in the store nor in an additional one"
    )]
    LayerLost {
        /// The container.
        container: String,
        /// The layer.
        diff_id: String,
    },
    /// What a container has written cannot be an archive.
    #[error("container {container}: {path:?}: {flaw}")]
    Diff {
        /// The container.
        container: String,
        /// The file, clipped.
        path: String,
        /// Why not.
        #[source]
        flaw: crate::diff::DiffFlaw,
    },
    /// Whoever was to take the archive of what a container has written does not.
    #[error("container {container}: write the archive of what it has written: {source}")]
    DiffSink {
        /// The container.
        container: String,
        /// What the other end said.
        source: io::Error,
    },
    /// What another container has written cannot become what this one has.
    #[error("container {container}: read the archive of what another has written: {source}")]
    DiffSource {
        /// The container.
        container: String,
        /// What is wrong with the archive, or what could not be made of it.
        source: LayerError,
    },
    /// A layer or root file system cannot be had in this form, or not on this kernel.
    #[error("{what}: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why there is none.
        why: String,
    },
    /// The files of an artifact cannot be had.
    #[error("artifact {digest}: {why}")]
    Artifact {
        /// The digest of its manifest.
        digest: Digest,
        /// Why not.
        why: String,
    },
    /// A path inside an image runs through too many symbolic links.
    #[error("{path} in image {image}: too many symbolic links")]
    Loop {
        /// The path.
        path: String,
        /// The image's ID.
        image: String,
    },
    /// A path inside an image is a directory or a special file.
    #[error("{path} in image {image}: not a regular file")]
    NotAFile {
        /// The path.
        path: String,
        /// The image's ID.
        image: String,
    },
}

impl Error {
    /// Whether the cause is a full file system or an exhausted quota.
    pub fn is_no_space(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return full(io);
            }
            if let Some(rusqlite::Error::SqliteFailure(e, _)) = error.downcast_ref() {
                return e.code == rusqlite::ErrorCode::DiskFull
                    // No room for the memory that SQLite's processes share.
                    || e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
            }
            cause = error.source();
        }
        false
    }

    /// Whether another process has kept a lock for too long; a later try may succeed.
    pub fn is_busy(&self) -> bool {
        matches!(self, Error::Busy { .. })
    }

    /// Says of SQLite's "busy" what it means.
    pub(crate) fn or_busy(self, path: &Path, wait: Duration) -> Error {
        match self {
            Error::Database { source, .. } if is_busy(&source) => Error::Busy {
                path: path.to_owned(),
                seconds: wait.as_secs(),
            },
            other => other,
        }
    }

    pub(crate) fn io(
        op: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { op, path, source }
    }

    pub(crate) fn sys(
        op: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(rustix::io::Errno) -> Error {
        let path = path.into();
        move |errno| Error::Io {
            op,
            path,
            source: errno.into(),
        }
    }

    pub(crate) fn db(op: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
        move |source| Error::Database { op, source }
    }
}

fn full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Why a layer was refused or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The uncompressed bytes are not what the config names.
    #[error("diff_id mismatch: the config says {expected}, the unpacked content is {actual}")]
    DiffId {
        /// From the image config.
        expected: Digest,
        /// Computed.
        actual: Digest,
    },
    /// The compressed stream is damaged or cut off.
    #[error("decompress: {0}")]
    Decompress(#[source] io::Error),
    /// The media type or the first bytes name a format that floe does not unpack.
    #[error("{0} is not a layer format that can be unpacked")]
    Format(String),
    /// The archive itself is malformed.
    #[error("tar archive, byte {offset}: {flaw}")]
    Tar {
        /// Where in the uncompressed archive.
        offset: u64,
        /// What is wrong.
        flaw: TarFlaw,
    },
    /// One entry is refused or cannot be made.
    #[error("entry {entry:?}: {flaw}")]
    Entry {
        /// The entry's name as written in the archive, clipped.
        entry: String,
        /// What is wrong.
        #[source]
        flaw: EntryFlaw,
    },
    /// The layer is larger than the store's limits allow (a bomb, or a limit to be raised).
    #[error("it exceeds the limit of {max} {what}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// Writing the blob or the layer failed.
    #[error("{op}: {source}")]
    Write {
        /// What was attempted.
        op: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// How a manifest and its config can fail to belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageFlaw {
    /// The config given is not the one that the manifest names.
    #[error("it names config {named}, but {given} was given")]
    Config {
        /// In the manifest.
        named: Digest,
        /// Given.
        given: Digest,
    },
    /// The config lists another number of layers.
    #[error("it has {layers} layers, its config has {diff_ids}")]
    Layers {
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// There are more layers than can be put on each other.
    #[error(
        "it has {layers} layers: overlayfs takes {} at most",
        crate::MOST_LAYERS
    )]
    TooManyLayers {
        /// Distinct ones.
        layers: usize,
    },
    /// The document is an index.
    #[error("it is an index, not an image manifest")]
    Index,
    /// The index does not list the manifest.
    #[error("the index {index} does not list it")]
    NotInIndex {
        /// The index.
        index: Digest,
    },
}

/// What is wrong with a name for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameFlaw {
    /// Neither tag nor digest.
    #[error("it needs a tag or a digest")]
    Bare,
    /// Both.
    #[error("it may have a tag or a digest, not both")]
    Both,
    /// The digest is neither the manifest's nor the index's.
    #[error("its digest is that of another image")]
    OtherDigest,
    /// A tag was expected.
    #[error("it needs a tag")]
    NoTag,
}
