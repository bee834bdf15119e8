//! `containers-storage:`: an image in a store of podman, buildah or CRI-O (containers-transports(5)),
//! read only.
//!
//! Such a store keeps the manifest as it came and layers as files: their tars are put together again
//! without compression, so that a copy has another manifest. Must never write to the store, follow a
//! link out of it, or hold its locks while a target is slow.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use image::{Compression, Descriptor, Digest, Manifest, Reference};
use serde::Deserialize;
use trust::signature::{MAX_SIGNATURE, MAX_SIGNATURES};
use trust::{Demands, Policy, Signature, SignatureFlaw};

use crate::chunks::{self, Chunks};
use crate::convert::Format;
use crate::document::{Document, MAX_CONFIG, MAX_MANIFEST};
use crate::error::{Error, Result};
use crate::temporary;

mod conf;
mod find;
mod lock;
mod place;
mod records;
mod tar_split;
mod tree;

pub use place::StoragePlace;

use conf::Setting;
use find::{Found, manifest_key};
use records::{Driver, Layer, Root};

/// An image in such a store.
#[derive(Debug)]
pub(crate) struct StorageSource(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// As it was written.
    place: String,
    driver: Driver,
    graphroot: PathBuf,
    roots: Vec<Root>,
    found: Found,
    /// From the first to the top, each with the number of its root.
    layers: Vec<(usize, Layer)>,
}

impl StorageSource {
    pub(crate) async fn open(place: &StoragePlace) -> Result<StorageSource> {
        let place = place.clone();
        let open = tokio::task::spawn_blocking(move || Inner::open(&place));
        Ok(StorageSource(Arc::new(open.await??)))
    }

    /// How the image was called, if by a name.
    pub(crate) fn name(&self) -> Option<&Reference> {
        self.0.found.name.as_ref()
    }

    pub(crate) async fn manifest(&self, digest: Option<&Digest>) -> Result<Document> {
        let digest = digest.cloned();
        self.blocking(move |inner| inner.manifest(digest.as_ref()))
            .await
    }

    /// The layers as they come from here: plain, where the manifest may say otherwise. `diff_ids` are
    /// those of the config.
    pub(crate) fn layers(
        &self,
        manifest: &Manifest,
        format: Format,
        diff_ids: &[Digest],
    ) -> Result<Vec<Descriptor>> {
        let inner = &self.0;
        let (count, kept) = (manifest.layers.len(), inner.layers.len());
        if diff_ids.len() != count || count != kept {
            let promised = diff_ids.len();
            let why =
                format!("{count} layers, {promised} diff_ids, and {kept} layers in the store");
            return Err(Error::place(&inner.place, why));
        }
        let parts = manifest.layers.iter().zip(diff_ids).zip(&inner.layers);
        let layers = parts.map(|((layer, diff_id), (_, kept))| {
            let flawed = |why| Error::place(&inner.place, format!("layer {}: {why}", kept.id));
            let (digest, size) = kept.content().map_err(flawed)?;
            if digest != *diff_id {
                return Err(flawed(format!(
                    "it has {digest}, and the config says {diff_id}"
                )));
            }
            let media_type = format.layer(Compression::None);
            let media_type = media_type.unwrap_or_else(|| layer.media_type.clone());
            match layer.digest == digest && layer.media_type == media_type {
                true => Ok(layer.clone()),
                false => Ok(Descriptor::new(media_type, digest, size)),
            }
        });
        layers.collect()
    }

    pub(crate) async fn blob(&self, descriptor: &Descriptor) -> Result<Chunks> {
        let digest = descriptor.digest.clone();
        match self.blocking(move |inner| inner.blob(&digest)).await? {
            Blob::Data(bytes) => Ok(chunks::from_bytes(bytes)),
            Blob::Layer(file, size) => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                chunks::from_file(Path::new(&path), 0, size).await
            }
        }
    }

    /// The signatures that came with the manifest, or with one that it points at.
    pub(crate) async fn signatures(&self, digest: Option<&Digest>) -> Result<Vec<Signature>> {
        let digest = digest.cloned();
        self.blocking(move |inner| inner.signatures(digest.as_ref()))
            .await
    }

    /// Runs what may wait for the store's locks on a thread for it.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || call(&inner)).await?
    }

    /// What a policy demands, by the scopes that containers-policy.json(5) has for such places.
    pub(crate) fn demands(&self, policy: &Policy) -> trust::Result<Demands> {
        let inner = &self.0;
        let root = inner.graphroot.display();
        let store = format!("[{}@{root}]", inner.driver.name());
        let mut names = vec![format!("@{}", inner.found.image.id)];
        if let Some(name) = self.name() {
            names[0].insert_str(0, &name.to_string());
            names.push(name.to_string());
            names.push(name.without_digest().to_string());
            let whole = name.name();
            let above =
                std::iter::successors(Some(whole.as_str()), |name| Some(name.rsplit_once('/')?.0));
            names.extend(above.map(str::to_owned));
        }
        names.push(String::new());
        let scopes = names.into_iter().map(|name| format!("{store}{name}"));
        let scopes = scopes.chain([format!("[{root}]"), String::new()]);
        let place = inner.place.clone();
        policy.demands_in("containers-storage", place, scopes, self.name())
    }
}

enum Blob {
    Data(Bytes),
    /// A plain tar in a file without a name, and its size.
    Layer(std::fs::File, u64),
}

impl Inner {
    fn open(place: &StoragePlace) -> Result<Inner> {
        let shown = format!("containers-storage:{place}");
        let setting = Setting::of(place.store.as_ref())?;
        let driver = driver(&setting, &shown)?;
        let own = setting.imagestore.iter().chain([&setting.graphroot]);
        let roots: Vec<Root> = own
            .chain(&setting.additional)
            .map(|path| Root::open(path, driver))
            .collect::<Result<_>>()?;
        let found = find::find(&roots, &place.image, &shown)?;
        let layers = chain(&roots, &found.image.top_layer, &shown)?;
        Ok(Inner {
            place: shown,
            driver,
            graphroot: setting.graphroot,
            roots,
            found,
            layers,
        })
    }

    fn data(&self, key: &str, max: u64) -> Result<Option<Vec<u8>>> {
        self.roots[self.found.root].data(&self.found.image, key, max)
    }

    fn manifest(&self, digest: Option<&Digest>) -> Result<Document> {
        let named = self.found.name.as_ref().and_then(Reference::digest);
        let digest = digest.or(named);
        let mut bytes = match digest {
            Some(digest) => self.data(&manifest_key(digest), MAX_MANIFEST)?,
            None => None,
        };
        if bytes.is_none() && digest == named {
            bytes = self.data("manifest", MAX_MANIFEST)?;
        }
        let lost = || Error::place(&self.place, "the store has no such manifest of it");
        let document = Document::untyped(bytes.ok_or_else(lost)?)?;
        match digest {
            Some(digest) => Document::checked(document.media_type, digest, document.bytes.to_vec()),
            None => Ok(document),
        }
    }

    fn signatures(&self, digest: Option<&Digest>) -> Result<Vec<Signature>> {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "kebab-case", default)]
        struct Sizes {
            signature_sizes: Vec<u64>,
            signatures_sizes: HashMap<String, Vec<u64>>,
        }
        let sizes: Sizes = match self.found.image.metadata.as_str() {
            "" => Sizes::default(),
            text => serde_json::from_str(text).map_err(Error::json(&self.place))?,
        };
        let (key, sizes) = match digest {
            None => ("signatures".to_owned(), Some(sizes.signature_sizes)),
            Some(digest) => (
                format!("signature-{}", digest.hex()),
                sizes.signatures_sizes.get(&digest.to_string()).cloned(),
            ),
        };
        let sizes = sizes.unwrap_or_default();
        let flawed = |flaw| trust::Error::Signature {
            subject: self.place.clone(),
            flaw,
        };
        if sizes.len() > MAX_SIGNATURES {
            return Err(flawed(SignatureFlaw::TooMany(MAX_SIGNATURES)).into());
        }
        if sizes.iter().any(|size| *size > MAX_SIGNATURE) {
            return Err(flawed(SignatureFlaw::TooLarge(MAX_SIGNATURE)).into());
        }
        let all: u64 = sizes.iter().sum();
        let bytes = match all {
            0 => None,
            all => self.data(&key, all)?,
        };
        let bytes = bytes.unwrap_or_default();
        if bytes.len() as u64 != all {
            let why = format!(
                "{} bytes of signatures, and {all} should be there",
                bytes.len()
            );
            return Err(Error::place(&self.place, why));
        }
        let mut rest = &bytes[..];
        let one = |size: u64| {
            let (one, left) = rest.split_at(usize::try_from(size).unwrap_or(0));
            rest = left;
            Ok(Signature::from_file(one).map_err(flawed)?)
        };
        sizes.into_iter().map(one).collect()
    }

    /// A layer is put together in a file first, as the store is locked meanwhile.
    fn blob(&self, digest: &Digest) -> Result<Blob> {
        let layer = self.layers.iter().find_map(|(root, layer)| {
            let content = layer.content().ok()?;
            (content.0 == *digest).then_some((*root, layer, content.1))
        });
        let Some((root, layer, size)) = layer else {
            let bytes = self.data(&digest.to_string(), MAX_CONFIG)?;
            let lost =
                || Error::place(&self.place, format!("the store has no blob {digest} of it"));
            return Ok(Blob::Data(bytes.ok_or_else(lost)?.into()));
        };
        let (pieces, files, _lock) = self.roots[root].parts(layer)?;
        let mut out = BufWriter::with_capacity(128 << 10, temporary::nameless()?);
        let written = tar_split::assemble(pieces, files.as_fd(), size, &mut out);
        let written = written.and_then(|()| out.flush());
        written.map_err(|source| Error::Blob {
            digest: digest.clone(),
            source,
        })?;
        let (file, _) = out.into_parts();
        Ok(Blob::Layer(file, size))
    }
}

/// The driver that was named, or the only one that made the store.
fn driver(setting: &Setting, place: &str) -> Result<Driver> {
    let unknown = |name: &str| {
        let why = format!("the storage driver {name:?} is not supported: overlay and vfs are");
        Error::place(place, why)
    };
    if let Some(name) = &setting.driver {
        return Driver::parse(name).map_err(unknown);
    }
    let images = setting.imagestore.as_ref().unwrap_or(&setting.graphroot);
    match records::drivers(images)?.as_slice() {
        [] => Err(Error::place(place, "there is no store of images")),
        [only] => Driver::parse(only).map_err(unknown),
        several => {
            let several = several.join(", ");
            let why = format!("the store has several drivers ({several}): write [DRIVER@…]");
            Err(Error::place(place, why))
        }
    }
}

/// The layers below and with `top`, from the first on.
fn chain(roots: &[Root], top: &str, place: &str) -> Result<Vec<(usize, Layer)>> {
    let mut all = HashMap::new();
    for (number, root) in roots.iter().enumerate() {
        for layer in root.layers()? {
            all.entry(layer.id.clone()).or_insert((number, layer));
        }
    }
    let mut chain = Vec::new();
    let mut next = top.to_owned();
    while !next.is_empty() {
        // Taken out, so that no layer stands on itself.
        let lost = || Error::place(place, format!("layer {next} is not in the store"));
        let (root, layer) = all.remove(&next).ok_or_else(lost)?;
        next.clone_from(&layer.parent);
        chain.push((root, layer));
    }
    chain.reverse();
    Ok(chain)
}
