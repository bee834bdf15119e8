//! Copying an image from a place to another: config and layers first, then the manifest, and the
//! name last.
//!
//! The bytes of a manifest are kept whenever nothing in it must change. Must never name an image at
//! the target before all of it is there, and never pass on a byte that was not checked.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use distribution::BlobStep;
use futures_util::stream;
use futures_util::{FutureExt, StreamExt};
use image::{
    AnyManifest, Compression, Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Platform,
};
use trust::Policy;

use crate::chunks::{self, Chunks};
use crate::convert::{self, Format};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::sign::{Signatures, Signing};
use crate::source::Source;
use crate::target::{Target, Use};

/// As many blobs move at the same time, unless it is said otherwise.
const PARALLEL: NonZeroUsize = NonZeroUsize::new(6).unwrap();
/// An index may point at an index, but real ones do so once at most.
const MAX_NESTING: usize = 2;

/// Which images of an index to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instances {
    /// The one for a platform.
    One(Platform),
    /// All of them, and the index.
    All,
    /// The index alone; what it points at should be there already.
    IndexOnly,
}

/// How to copy.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which images of an index.
    pub instances: Instances,
    /// The family of manifest types to write; as it is when `None`.
    pub format: Option<Format>,
    /// How layers are to be compressed; `None`: as they are, but plain ones with gzip where they
    /// go to a registry or layout.
    pub compression: Option<Compression>,
    /// The level for it; the format's own when `None`.
    pub level: Option<i32>,
    /// Compress layers again that are compressed in another way. Decompressing does so by itself.
    pub force_compression: bool,
    /// Fail rather than change a digest.
    pub preserve_digests: bool,
    /// What images must meet; without it, or from floe's store, they are not checked.
    pub policy: Option<Policy>,
    /// What becomes of signatures.
    pub signing: Signing,
    /// How many layers move at the same time.
    pub parallel: NonZeroUsize,
    /// Whether plain layers go to a layout as they are.
    pub plain_in_layouts: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            instances: Instances::One(Platform::host()),
            format: None,
            compression: None,
            level: None,
            force_compression: false,
            preserve_digests: false,
            policy: None,
            signing: Signing::default(),
            parallel: PARALLEL,
            plain_in_layouts: false,
        }
    }
}

/// What happens, for whoever watches.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A step of a layer or config.
    Blob(&'a Descriptor, BlobStep),
    /// One image of an index begins: which one, from 1, and of how many.
    Instance(&'a Digest, usize, usize),
    /// The manifest of an image is read: its blobs come now.
    Image(&'a Manifest),
    /// The manifest is written.
    Manifest,
}

/// Told about every [`Event`], from several tasks.
pub type Watch = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// Copies an image and returns the document that the target's name now means.
///
/// On an error the target may hold blobs that nothing names, but no name is changed.
pub async fn copy(
    source: &Source,
    target: Target,
    options: &Options,
    watch: &Watch,
) -> Result<Document> {
    let signatures = Signatures::new(source, &target, &options.signing, options.policy.as_ref())?;
    let copy = Copy {
        source,
        target: &target,
        options,
        watch,
        signatures,
        done: Mutex::default(),
    };
    let top = source.manifest(None).await?;
    let mut chosen_from = Vec::new();
    let (top, manifest) = match (top.parse()?, &options.instances) {
        (AnyManifest::Manifest(manifest), _) => {
            let (top, manifest) = copy.image(top, manifest, Place::Top).await?;
            (top, Some(manifest))
        }
        (AnyManifest::Index(index), Instances::One(platform)) => {
            let (document, manifest, indexes) = choose(source, top, index, platform).await?;
            let (written, manifest) = copy.image(document, manifest, Place::Chosen).await?;
            chosen_from = indexes;
            (written, Some(manifest))
        }
        (AnyManifest::Index(index), which) => {
            if !target.takes_index() {
                return Err(Error::place(
                    target.location(),
                    "it cannot hold the images of an index: copy one of them",
                ));
            }
            let whole = *which == Instances::All;
            (Box::pin(copy.index(top, index, whole, 0)).await?, None)
        }
    };
    watch(Event::Manifest);
    target.commit(&top, manifest.as_ref(), &chosen_from).await?;
    Ok(top)
}

/// The image of an index for a platform, and the indexes that lead to it, outermost first.
pub(crate) async fn choose(
    source: &Source,
    top: Document,
    index: Index,
    platform: &Platform,
) -> Result<(Document, Manifest, Vec<Document>)> {
    let mut chosen = index.choose(platform)?.clone();
    let mut indexes = vec![top];
    for _ in 0..=MAX_NESTING {
        let document = source.entry(&chosen).await?;
        match document.parse()? {
            AnyManifest::Manifest(manifest) => return Ok((document, manifest, indexes)),
            AnyManifest::Index(index) => {
                chosen = index.choose(platform)?.clone();
                indexes.push(document);
            }
        }
    }
    Err(nested(MAX_NESTING))
}

fn nested(depth: usize) -> Error {
    let reason = image::ManifestFlaw::Nesting(depth);
    image::Error::Manifest { reason }.into()
}

mod recoded;

struct Copy<'a> {
    source: &'a Source,
    target: &'a Target,
    options: &'a Options,
    watch: &'a Watch,
    signatures: Signatures<'a>,
    /// What became of the entries of indexes.
    done: Mutex<HashMap<Digest, Descriptor>>,
}

/// What a manifest is at the source and becomes at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The image itself.
    Top,
    /// The only image of an index that is taken.
    Chosen,
    /// One image of an index, which is taken as well.
    Within,
}

/// What becomes of a layer.
enum Plan {
    Keep,
    Recode(Compression),
}

impl Copy<'_> {
    /// The family to write: what the target must have, or what was asked for, or what it is. Docker's
    /// family has no layers of zstd: with them an image becomes OCI's, or an error where it must not.
    fn format(&self, media_type: &MediaType) -> Result<Format> {
        let zstd = self.options.compression == Some(Compression::Zstd)
            && self.options.instances != Instances::IndexOnly;
        let format = match (self.target.format(), self.options.format) {
            (Some(only), Some(wanted)) if only != wanted => {
                return Err(Error::place(
                    self.target.location(),
                    "this transport cannot hold the format that is asked for",
                ));
            }
            (Some(format), _) | (None, Some(format)) => format,
            (None, None) if zstd => Format::Oci,
            (None, None) => Format::of(media_type),
        };
        match zstd && format == Format::Docker {
            true => Err(Error::place(
                self.target.location(),
                "Docker's manifests (v2s2) have no layers of zstd: ask for gzip, or for --format oci",
            )),
            false => Ok(format),
        }
    }

    async fn index(
        &self,
        top: Document,
        mut index: Index,
        whole: bool,
        depth: usize,
    ) -> Result<Document> {
        if depth > MAX_NESTING {
            return Err(nested(MAX_NESTING));
        }
        let is_top = depth == 0;
        let kept = self.signatures.admit(&top, is_top).await?;
        let format = self.format(&top.media_type)?;
        let mut changed = format != Format::of(&top.media_type);
        let count = index.manifests.len();
        for (number, entry) in index.manifests.iter_mut().enumerate().filter(|_| whole) {
            let copied = match self.known(&entry.digest) {
                Some(copied) => copied,
                None => {
                    (self.watch)(Event::Instance(&entry.digest, number + 1, count));
                    self.entry(entry, depth).await?
                }
            };
            changed |= copied.digest != entry.digest;
            entry.digest = copied.digest;
            entry.size = copied.size;
            entry.media_type = copied.media_type;
        }
        let written = match changed {
            false => top,
            true => {
                self.may_change("its index must change with its images", !kept.is_empty())?;
                let index = convert::index(index, &top.media_type, format);
                let any = AnyManifest::Index(index.clone());
                Document::of(convert::media_type(&any, format), &index)?
            }
        };
        self.signatures.put(&written, is_top, kept).await?;
        Ok(written)
    }

    /// Copies what an entry of an index points at, once: an index, and one within it, may name the same
    /// image as often as they like.
    async fn entry(&self, entry: &Descriptor, depth: usize) -> Result<Descriptor> {
        let document = self.source.entry(entry).await?;
        let copied = match document.parse()? {
            AnyManifest::Manifest(manifest) => {
                self.image(document, manifest, Place::Within).await?.0
            }
            AnyManifest::Index(inner) => {
                Box::pin(self.index(document, inner, true, depth + 1)).await?
            }
        };
        self.target.put_manifest(&copied).await?;
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.insert(entry.digest.clone(), copied.descriptor());
        Ok(copied.descriptor())
    }

    /// What has become of an entry that was copied before.
    fn known(&self, digest: &Digest) -> Option<Descriptor> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.get(digest).cloned()
    }

    fn may_change(&self, why: &str, signed: bool) -> Result<()> {
        if self.options.preserve_digests {
            return Err(Error::Digests(why.to_owned()));
        }
        match signed {
            true => Err(Error::Signed(why.to_owned())),
            false => Ok(()),
        }
    }

    /// Moves an image that the policy lets in, and puts its signatures; returns the manifest to be
    /// written, and the same read.
    async fn image(
        &self,
        document: Document,
        manifest: Manifest,
        place: Place,
    ) -> Result<(Document, Manifest)> {
        let kept = self
            .signatures
            .admit(&document, place == Place::Top)
            .await?;
        let signed = !kept.is_empty();
        let (written, manifest) = self.moved(document, manifest, signed).await?;
        let is_top = place != Place::Within;
        self.signatures.put(&written, is_top, kept).await?;
        Ok((written, manifest))
    }

    /// Moves config and layers; the manifest of a `signed` image must not change.
    async fn moved(
        &self,
        document: Document,
        manifest: Manifest,
        signed: bool,
    ) -> Result<(Document, Manifest)> {
        let format = self.format(&document.media_type)?;
        let (plain, manifest) = match self.source.layers(&document, &manifest).await? {
            Some(layers) if layers != manifest.layers => (true, Manifest { layers, ..manifest }),
            _ => (false, manifest),
        };
        if plain {
            self.may_change("the source has its layers without compression only", signed)?;
        }
        let config = self.config(&manifest).await?;
        let diff_ids = match &config {
            Some(config) => ImageConfig::parse(config)?.rootfs.diff_ids,
            None => Vec::new(),
        };
        self.target.check(&manifest, &diff_ids)?;
        self.target.begin(&manifest);
        (self.watch)(Event::Image(&manifest));
        let diff_ids = Some(diff_ids).filter(|ids| ids.len() == manifest.layers.len());
        let plans: Vec<Plan> = manifest
            .layers
            .iter()
            .map(|layer| self.plan(layer, format, signed))
            .collect();
        let kept = plans.iter().all(|plan| matches!(plan, Plan::Keep));
        let same = kept && !plain && format == Format::of(&document.media_type);
        if !kept {
            self.may_change("its layers must be compressed in another way", signed)?;
        } else if !same {
            self.may_change("its manifest must be converted", signed)?;
        }
        match config {
            Some(config) => self.put_config(&manifest.config, config).await?,
            None => {
                let kept = self.blob(&manifest.config, Use::Config, &Plan::Keep);
                kept.await.map(drop)?;
            }
        }
        let diff_id = |number: usize| diff_ids.as_ref().and_then(|ids| ids.get(number));
        let mut jobs = Vec::new();
        for (number, (layer, plan)) in manifest.layers.iter().zip(&plans).enumerate() {
            let layer_use = Use::Layer(diff_id(number));
            let job = async move {
                let recoded = self.blob(layer, layer_use, plan).await?;
                Ok::<_, Error>((number, recoded))
            };
            jobs.push(job.boxed());
        }
        let mut moved = stream::iter(jobs).buffer_unordered(self.options.parallel.get());
        let mut edited = manifest.clone();
        while let Some(done) = moved.next().await {
            let (number, recoded) = done?;
            if let Some(recoded) = recoded {
                edited.layers[number] = recoded;
            }
        }
        drop(moved);
        if same {
            return Ok((document, manifest));
        }
        let edited = convert::manifest(edited, &document.media_type, format)?;
        let any = AnyManifest::Manifest(edited.clone());
        let document = Document::of(convert::media_type(&any, format), &edited)?;
        Ok((document, edited))
    }

    /// The config, checked, of what is an image; it says the digests of the layers' content.
    async fn config(&self, manifest: &Manifest) -> Result<Option<Bytes>> {
        let is_image = match (self.target.unpacks(), &manifest.config.media_type) {
            // What an artifact has as its config may be anything.
            (true, _) => manifest.artifact_kind().is_none(),
            (false, MediaType::OciConfig | MediaType::DockerConfig) => true,
            (false, _) => false,
        };
        match is_image {
            true => Ok(Some(self.source.config(&manifest.config).await?.into())),
            false => Ok(None),
        }
    }

    /// Puts a config that was read already.
    async fn put_config(&self, descriptor: &Descriptor, config: Bytes) -> Result<()> {
        let tell = |step| (self.watch)(Event::Blob(descriptor, step));
        let from = self.source.repository();
        if self.target.has_blob(descriptor, Use::Config, from).await? {
            tell(BlobStep::There);
            return Ok(());
        }
        tell(BlobStep::Begun);
        let open = || {
            let chunks = chunks::from_bytes(config.clone());
            async move { Ok(chunks) }.boxed()
        };
        self.target.put_blob(descriptor, Use::Config, &open).await?;
        tell(BlobStep::Done);
        Ok(())
    }

    fn plan(&self, layer: &Descriptor, format: Format, signed: bool) -> Plan {
        let Some(now) = layer.media_type.compression() else {
            return Plan::Keep;
        };
        let compressible = match format {
            // Docker's family knows no zstd: such a layer becomes what it knows.
            Format::Docker if now == Compression::Zstd && !self.options.preserve_digests => {
                Some(Compression::Gzip)
            }
            // Nobody asked for this, so that it must not cost the signatures.
            _ if signed => None,
            _ if now == Compression::None
                && self.target.compresses(self.options.plain_in_layouts) =>
            {
                Some(Compression::Gzip)
            }
            _ => None,
        };
        let asked = self.options.compression.filter(|_| {
            now == Compression::None
                || self.options.force_compression
                || self.options.compression == Some(Compression::None)
        });
        match self
            .target
            .required_compression()
            .or(asked)
            .or(compressible)
        {
            Some(wanted) if wanted != now => Plan::Recode(wanted),
            _ => Plan::Keep,
        }
    }

    /// Moves one blob; the new descriptor when it is not what it was.
    async fn blob(
        &self,
        descriptor: &Descriptor,
        for_what: Use<'_>,
        plan: &Plan,
    ) -> Result<Option<Descriptor>> {
        let tell = |step| (self.watch)(Event::Blob(descriptor, step));
        match plan {
            Plan::Keep => {
                let from = self.source.repository();
                if self.target.has_blob(descriptor, for_what, from).await? {
                    tell(BlobStep::There);
                    return Ok(None);
                }
                tell(BlobStep::Begun);
                let open = || {
                    let open = async {
                        let chunks = self.watched(descriptor).await?;
                        // What hashes by itself is not made to wait for it twice.
                        Ok(match self.target.verifies(for_what) {
                            true => chunks,
                            false => chunks::verified(chunks, descriptor),
                        })
                    };
                    open.boxed()
                };
                // A peer that failed, or sent something else, is no reason to fail.
                while let Err(error) = self.target.put_blob(descriptor, for_what, &open).await {
                    // A disk of ours that is full is no peer's fault, and would be full again.
                    let ours = matches!(&error, Error::Store(own) if own.is_no_space());
                    if ours || !self.source.leave(&descriptor.digest, &error) {
                        return Err(error);
                    }
                }
                self.source.arrived(&descriptor.digest);
                tell(BlobStep::Done);
                Ok(None)
            }
            Plan::Recode(to) => {
                tell(BlobStep::Begun);
                let recoded = self.recoded(descriptor, for_what, *to).await?;
                tell(BlobStep::Done);
                Ok(Some(recoded))
            }
        }
    }

    /// A blob from its beginning, of which whoever watches sees each byte.
    async fn watched(&self, descriptor: &Descriptor) -> Result<Chunks> {
        let (watch, watched) = (Arc::clone(self.watch), descriptor.clone());
        let mut at = 0;
        let chunks = self.source.blob(descriptor).await?.inspect(move |chunk| {
            at += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            watch(Event::Blob(&watched, BlobStep::At(at)));
        });
        Ok(chunks.boxed())
    }
}
