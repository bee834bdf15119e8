//! `floe:`: an image in floe's own store.
//!
//! The store holds images for one platform; what it is made of is held by a lease while it moves.

use std::collections::HashSet;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::try_unfold;
use image::{AnyManifest, Compression, Descriptor, Digest, Manifest, Reference};
use store::{ImageRecord, Lease, MOST_LAYERS, NewImage, Store};
use tokio::io::AsyncReadExt;
use trust::Signature;

use crate::chunks::{self, Chunks};
use crate::convert::Format;
use crate::document::{Document, MAX_CONFIG, MAX_MANIFEST};
use crate::error::{Error, Result};
use crate::name::Location;

/// An image in the store.
#[derive(Debug)]
pub(crate) struct StoredSource {
    store: Store,
    record: ImageRecord,
    _lease: Lease,
}

impl StoredSource {
    pub(crate) async fn open(store: &Store, name: &str) -> Result<StoredSource> {
        let (store, name) = (store.clone(), name.to_owned());
        blocking(move || {
            let gone = || Error::missing(format!("floe:{name}"), "there is no such image");
            let lease = store.lease()?;
            let record = store.find(&name)?.ok_or_else(gone)?;
            if !store.hold_image(&lease, &record)? {
                return Err(gone());
            }
            Ok(StoredSource {
                store,
                record,
                _lease: lease,
            })
        })
        .await
    }

    pub(crate) fn manifest(&self, digest: Option<&Digest>) -> Result<Document> {
        let digest = digest.unwrap_or(&self.record.manifest_digest);
        let bytes = self.store.read_blob(digest, MAX_MANIFEST)?;
        let bytes = bytes.ok_or_else(|| self.lost(digest))?;
        let untyped = Document::untyped(bytes)?;
        Document::checked(untyped.media_type, digest, untyped.bytes.to_vec())
    }

    /// What came with the manifest when it was stored.
    pub(crate) fn signatures(&self, manifest: &Digest) -> Result<Vec<Signature>> {
        let manifests = self.store.signed_manifests(&self.record)?;
        let signed = manifests.into_iter().find(|kept| kept.digest == *manifest);
        let files = signed.map_or_else(Vec::new, |signed| signed.signatures);
        let read = files.iter().map(|file| Signature::from_file(file));
        read.collect::<Result<_, _>>().map_err(|flaw| {
            let subject = format!("floe:{}", self.record.id);
            trust::Error::Signature { subject, flaw }.into()
        })
    }

    /// The layers of a manifest, where blobs of them are not kept: of each such layer the archive, if that is.
    /// `None` where all is there, or nothing else can be had. `diff_ids` are those of the config.
    pub(crate) fn layers(
        &self,
        manifest: &Manifest,
        format: Format,
        diff_ids: &[Digest],
    ) -> Result<Option<Vec<Descriptor>>> {
        let mut layers = manifest.layers.clone();
        for (layer, diff_id) in layers.iter_mut().zip(diff_ids) {
            if self.store.open_blob(&layer.digest)?.is_some() {
                continue;
            }
            if let Some((_, size)) = self.archive(diff_id)?
                && layer.digest != *diff_id
                && let Some(media_type) = format.layer(Compression::None)
            {
                *layer = Descriptor::new(media_type, diff_id.clone(), size);
            }
        }
        Ok(Some(layers).filter(|layers| *layers != manifest.layers))
    }

    /// Whether all blobs of its layers are kept.
    pub(crate) fn has_layers(&self, manifest: &Manifest) -> Result<bool> {
        for layer in &manifest.layers {
            if self.store.open_blob(&layer.digest)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The archive of a layer, where it lies as one, and its bytes.
    pub(crate) fn archive(&self, diff_id: &Digest) -> Result<Option<(File, u64)>> {
        match self.store.layer(diff_id)? {
            Some(layer) => Ok(layer.archive()?),
            None => Ok(None),
        }
    }

    /// A blob, or the archive of a layer, which is the blob of one that is not compressed.
    pub(crate) fn blob(&self, descriptor: &Descriptor) -> Result<Chunks> {
        let digest = &descriptor.digest;
        let kept = self.store.open_blob(digest)?;
        let found = match kept {
            Some(found) => Some(found),
            None => self.archive(digest)?,
        };
        let (file, _) = found.ok_or_else(|| self.lost(digest))?;
        let file = tokio::fs::File::from_std(file);
        Ok(try_unfold(file, |mut file| async move {
            let mut chunk = BytesMut::with_capacity(128 << 10);
            let length = file.read_buf(&mut chunk).await?;
            Ok((length > 0).then(|| (chunk.freeze(), file)))
        })
        .boxed())
    }

    fn lost(&self, digest: &Digest) -> Error {
        let why = match self.store.is_blob_dropped(digest) {
            Ok(true) => format!(
                "the compressed blob {digest} of a layer was not kept (keep_blobs): set crio.image.keep_blobs to \"always\" and pull the image again"
            ),
            Ok(false) => format!("blob {digest} is not in the store"),
            Err(error) => return error.into(),
        };
        Error::place(format!("floe:{}", self.record.id), why)
    }
}

/// The store, which gets an image.
#[derive(Debug)]
pub(crate) struct StoredTarget {
    store: Store,
    lease: Arc<Lease>,
    name: Option<Reference>,
    /// It is named by the digest that the name meant as well, as by a pull.
    by_digest: bool,
    config: Mutex<Vec<u8>>,
    /// In the form of files.
    signatures: Mutex<Vec<Vec<u8>>>,
}

impl StoredTarget {
    /// An empty name: the image gets none.
    pub(crate) async fn open(store: &Store, name: &str) -> Result<StoredTarget> {
        let name = match name {
            "" => None,
            name => Some(Reference::parse(name)?.or_latest()),
        };
        StoredTarget::named(store, name, false).await
    }

    /// As a pull of `reference` names it.
    pub(crate) async fn of_pull(store: &Store, reference: &Reference) -> Result<StoredTarget> {
        StoredTarget::named(store, Some(reference.clone()), true).await
    }

    async fn named(
        store: &Store,
        name: Option<Reference>,
        by_digest: bool,
    ) -> Result<StoredTarget> {
        let store = store.clone();
        blocking(move || {
            Ok(StoredTarget {
                lease: Arc::new(store.lease()?),
                store,
                name,
                by_digest,
                config: Mutex::default(),
                signatures: Mutex::default(),
            })
        })
        .await
    }

    /// The name that the image gets, if any.
    pub(crate) fn name(&self) -> Option<&Reference> {
        self.name.as_ref()
    }

    /// Has the layers unpacked, whatever form others get.
    pub(crate) fn unpack_layers(&self) {
        self.lease.unpack_layers();
    }

    /// Keeps signatures for the manifest that is committed.
    pub(crate) fn put_signatures(&self, signatures: &[Signature]) -> Result<()> {
        let files = signatures.iter().map(Signature::to_file);
        let files = files.collect::<Result<_, _>>().map_err(|flaw| {
            let subject = "an image of floe's store".to_owned();
            trust::Error::Signature { subject, flaw }
        })?;
        *lock(&self.signatures) = files;
        Ok(())
    }

    pub(crate) async fn has_layer(&self, digest: &Digest, diff_id: &Digest) -> Result<bool> {
        let (store, lease) = (self.store.clone(), Arc::clone(&self.lease));
        let (digest, diff_id) = (digest.clone(), diff_id.clone());
        blocking(move || {
            Ok(store.hold_layer(&lease, &diff_id)? && store.hold_blob(&lease, &digest)?)
        })
        .await
    }

    pub(crate) async fn put_config(&self, chunks: Chunks) -> Result<()> {
        let bytes = chunks::collect(chunks, MAX_CONFIG).await;
        let bytes = bytes.map_err(Error::io("read", "the image's config"))?;
        *lock(&self.config) = bytes;
        Ok(())
    }

    /// The store checks size, digest and content itself, on a thread that reads the layer as it arrives: no
    /// layer is ever whole in memory. Nothing more is fetched once this is dropped.
    pub(crate) async fn put_layer(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        chunks: Chunks,
    ) -> Result<()> {
        let (store, lease) = (self.store.clone(), Arc::clone(&self.lease));
        let (adding, diff_id) = (layer.clone(), diff_id.clone());
        let add = move |reader| store.add_layer(&lease, &adding, &diff_id, reader);
        streamed(&layer.digest, chunks, add).await
    }

    pub(crate) async fn has_file(&self, digest: &Digest) -> Result<bool> {
        let (store, lease) = (self.store.clone(), Arc::clone(&self.lease));
        let digest = digest.clone();
        blocking(move || Ok(store.hold_file(&lease, &digest)?)).await
    }

    /// A blob as it is, such as a file of an artifact. The store checks it, as a layer.
    pub(crate) async fn put_file(&self, blob: &Descriptor, chunks: Chunks) -> Result<()> {
        let (store, lease) = (self.store.clone(), Arc::clone(&self.lease));
        let adding = blob.clone();
        let add = move |reader| store.add_blob(&lease, &adding, reader);
        streamed(&blob.digest, chunks, add).await
    }

    /// The names that the image gets, where `meant` is the digest that its name stood for.
    fn names(&self, meant: &Digest) -> Vec<String> {
        let Some(name) = &self.name else {
            return Vec::new();
        };
        let mut names = Vec::new();
        if !self.by_digest || name.tag().is_some() && name.digest().is_none() {
            names.push(name.to_string());
        }
        if self.by_digest {
            let by_digest = name.without_tag().with_digest(meant.clone());
            names.push(by_digest.to_string());
        }
        names
    }

    /// Keeps the indexes that the manifest was chosen from as well, as a pull does: containers may be
    /// pinned to their digest.
    pub(crate) async fn commit(
        self,
        top: &Document,
        manifest: &Manifest,
        chosen_from: &[Document],
    ) -> Result<()> {
        let indexes = match chosen_from.last() {
            Some(last) if lists(last, &top.digest)? => chosen_from,
            _ => &[],
        };
        let meant = indexes.first().map_or(&top.digest, |index| &index.digest);
        let names = self.names(meant);
        let stored = |document: &Document| store::Document {
            descriptor: document.descriptor(),
            bytes: document.bytes.to_vec(),
        };
        let new = NewImage {
            manifest: stored(top),
            config: store::Document {
                descriptor: manifest.config.clone(),
                bytes: self
                    .config
                    .into_inner()
                    .unwrap_or_else(PoisonError::into_inner),
            },
            index: indexes.first().map(stored),
            inner: indexes.iter().skip(1).map(stored).collect(),
            names,
            signatures: std::mem::take(&mut *lock(&self.signatures)),
        };
        let (store, lease) = (self.store, self.lease);
        blocking(move || Ok(store.put_image(&lease, new).map(drop)?)).await
    }
}

/// Has `add` read a blob as it arrives, on a thread for it.
async fn streamed(
    digest: &Digest,
    mut chunks: Chunks,
    add: impl FnOnce(chunks::Fed) -> store::Result<()> + Send + 'static,
) -> Result<()> {
    let (sender, reader) = chunks::pipe();
    let added = tokio::task::spawn_blocking(move || add(reader));
    let mut failure = None;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            let told = std::io::Error::other(error.to_string());
            failure = Some(error);
            told
        });
        // The store has all that it wants, or has given up: its own error says why.
        if sender.send(chunk).await.is_err() || failure.is_some() {
            break;
        }
    }
    drop(sender);
    let added = added.await?;
    match failure {
        Some(error) => Err(Error::of_blob(digest, error)),
        None => Ok(added?),
    }
}

/// Errors when the store cannot hold such an image.
pub(crate) fn check(location: &Location, manifest: &Manifest, diff_ids: &[Digest]) -> Result<()> {
    let refuse = |why: String| Err(Error::place(location, why));
    if manifest.artifact_kind().is_some() {
        return Ok(());
    }
    let layers = manifest.layers.len();
    if layers != diff_ids.len() {
        return refuse(format!("{layers} layers but {} diff_ids", diff_ids.len()));
    }
    let distinct = diff_ids.iter().collect::<HashSet<_>>().len();
    if distinct > MOST_LAYERS {
        return refuse(format!(
            "{distinct} layers, and overlayfs takes {MOST_LAYERS} at most"
        ));
    }
    Ok(())
}

/// Whether an index points at a manifest: not where that was changed on its way.
fn lists(index: &Document, manifest: &Digest) -> Result<bool> {
    match index.parse()? {
        AnyManifest::Index(index) => Ok(index
            .manifests
            .iter()
            .any(|entry| entry.digest == *manifest)),
        AnyManifest::Manifest(_) => Ok(false),
    }
}

/// Runs what may wait for the disk on a thread for it.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(call).await?
}

/// Every state of these values is a good one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
