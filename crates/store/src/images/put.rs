//! Recording an image whose blobs and layers are in the store.
//!
//! Must never record one that is incomplete, or whose documents do not have their digests.

use std::collections::HashSet;

use image::{AnyManifest, Descriptor, Digest, ImageConfig, Manifest, MediaType, Reference};
use rusqlite::{Connection, params};

use super::{ImageRecord, names, signatures};
use crate::Store;
use crate::blob::blob_size;
use crate::db::{Durability, signed};
use crate::error::{Error, ImageFlaw, NameFlaw, Result};
use crate::layer::ready_layer;
use crate::lease::{Lease, hold_blob, hold_layer};

/// The most layers that overlayfs puts on each other.
pub const MOST_LAYERS: usize = 500;

/// What stands for the config of an artifact.
pub(crate) const NO_CONFIG: &[u8] = b"{}";

/// A document and its descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Type, digest and size.
    pub descriptor: Descriptor,
    /// The bytes that have this digest.
    pub bytes: Vec<u8>,
}

impl Document {
    /// Describes `bytes`, which are new here; fetched documents keep the descriptor they were asked by.
    pub fn new(media_type: MediaType, bytes: Vec<u8>) -> Document {
        Document {
            descriptor: Descriptor::of(media_type, &bytes),
            bytes,
        }
    }
}

/// An image to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// The image manifest.
    pub manifest: Document,
    /// The config that the manifest names.
    pub config: Document,
    /// The index that the manifest was chosen from.
    pub index: Option<Document>,
    /// Indexes between that one and the manifest, outermost first.
    pub inner: Vec<Document>,
    /// References with a tag, or with the digest of the manifest or the index. A name that another
    /// image has moves to this one.
    pub names: Vec<String>,
    /// What came with the manifest, in any form that whoever [asks for it](Store::signed_manifests) reads.
    pub signatures: Vec<Vec<u8>>,
}

impl NewImage {
    fn documents(&self) -> impl Iterator<Item = &Document> {
        [&self.config, &self.manifest]
            .into_iter()
            .chain(self.indexes())
    }

    /// All of them, outermost first: each lists the next, and the last the manifest.
    fn indexes(&self) -> impl Iterator<Item = &Document> {
        self.index.iter().chain(&self.inner)
    }
}

impl Store {
    /// Records an image; its layers must have been added or held under `lease`, blob and unpacked.
    ///
    /// Soon after it returns, the image is listed in `index.json` and survives a power cut (see
    /// [`Store::settle`]). Recording the same again only adds names. Errors with [`Error::MissingBlob`], [`Error::MissingLayer`],
    /// [`Error::DigestMismatch`], [`Error::Mismatch`], [`Error::Document`] or [`Error::NameFlaw`].
    pub fn put_image(&self, lease: &Lease, new: NewImage) -> Result<ImageRecord> {
        let checked = Checked::new(&new)?;
        for Document { descriptor, bytes } in new.documents() {
            self.add_blob(lease, descriptor, bytes.as_slice())?;
        }
        let record = self.db().write(Durability::Ordered, |tx| {
            checked.record(tx)?;
            let found = super::records(tx, "WHERE i.id = ?1", &[&checked.id])?;
            found
                .into_iter()
                .next()
                .ok_or_else(|| Error::ImageNotFound {
                    id: checked.id.to_owned(),
                })
        })?;
        lease.tell_omissions(new.names.first().unwrap_or(&record.id));
        self.write_index_soon()?;
        self.settle_soon()?;
        Ok(record)
    }

    /// Holds all that an image is made of under a lease, so that its removal elsewhere takes none
    /// of it; `false` when it is gone already.
    pub fn hold_image(&self, lease: &Lease, record: &ImageRecord) -> Result<bool> {
        if record.read_only {
            // Nobody removes it.
            return Ok(self.elsewhere(&record.id)?.is_some());
        }
        if self.layout().is_read_only() {
            return Ok(self.find(&record.id)?.is_some());
        }
        self.db().write(Durability::Ordered, |tx| {
            hold_all(tx, lease.id(), &record.id)
        })
    }
}

/// A [`NewImage`] that was validated, and what the validation found out.
pub(crate) struct Checked<'a> {
    new: &'a NewImage,
    id: &'a str,
    manifest_digest: String,
    manifest: Manifest,
    config: ImageConfig,
    names: Vec<Reference>,
    artifact: bool,
}

impl<'a> Checked<'a> {
    /// The digests of the layers' content, lowest first; an artifact has none.
    pub(crate) fn diff_ids(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }

    /// Is it an artifact?
    pub(crate) fn is_artifact(&self) -> bool {
        self.artifact
    }

    pub(crate) fn new(new: &'a NewImage) -> Result<Checked<'a>> {
        let digest = &new.manifest.descriptor.digest;
        let mismatch = |flaw| {
            Err(Error::Mismatch {
                manifest: digest.clone(),
                flaw,
            })
        };
        for document in new.documents() {
            check_digest(document)?;
        }
        let AnyManifest::Manifest(manifest) = parse(&new.manifest)? else {
            return mismatch(ImageFlaw::Index);
        };
        let config_digest = &new.config.descriptor.digest;
        if manifest.config.digest != *config_digest {
            let (named, given) = (manifest.config.digest, config_digest.clone());
            return mismatch(ImageFlaw::Config { named, given });
        }
        if manifest.artifact_kind().is_some() {
            return Self::artifact(new, manifest);
        }
        let config = ImageConfig::parse(&new.config.bytes).map_err(|source| Error::Document {
            digest: config_digest.clone(),
            source: Box::new(source),
        })?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return mismatch(ImageFlaw::Layers { layers, diff_ids });
        }
        let distinct: HashSet<&Digest> = config.rootfs.diff_ids.iter().collect();
        if distinct.len() > MOST_LAYERS {
            let layers = distinct.len();
            return mismatch(ImageFlaw::TooManyLayers { layers });
        }
        check_indexes(new)?;
        Ok(Checked {
            new,
            id: config_digest.hex(),
            manifest_digest: digest.to_string(),
            names: check_names(new)?,
            manifest,
            config,
            artifact: false,
        })
    }

    /// What an artifact has as its config is its own.
    fn artifact(new: &'a NewImage, manifest: Manifest) -> Result<Checked<'a>> {
        check_indexes(new)?;
        let digest = &new.manifest.descriptor.digest;
        Ok(Checked {
            new,
            id: digest.hex(),
            manifest_digest: digest.to_string(),
            names: check_names(new)?,
            manifest,
            config: ImageConfig::default(),
            artifact: true,
        })
    }

    /// Records the image; its blobs and layers must be there.
    pub(crate) fn record(&self, tx: &Connection) -> Result<()> {
        let layers = self.layers(tx)?;
        self.insert(tx, &layers)?;
        for (position, (layer, _)) in (0i64..).zip(&layers) {
            tx.execute(
                "INSERT OR IGNORE INTO image_layers(image, position, layer) VALUES(?1, ?2, ?3)",
                params![self.id, position, layer],
            )
            .map_err(Error::db("record the layers of an image"))?;
        }
        self.insert_manifest(tx)?;
        signatures::keep(tx, &self.manifest_digest, &self.new.signatures)?;
        for name in &self.names {
            names::name_image(tx, name, self.id, &self.manifest_digest)?;
        }
        Ok(())
    }

    /// The layers' ids and sizes, lowest first; all must be there.
    fn layers(&self, tx: &Connection) -> Result<Vec<(i64, u64)>> {
        for layer in &self.manifest.layers {
            if blob_size(tx, &layer.digest.to_string())?.is_none() {
                let manifest = self.new.manifest.descriptor.digest.clone();
                return Err(Error::MissingBlob {
                    manifest,
                    blob: layer.digest.clone(),
                });
            }
        }
        let find = |diff_id: &Digest| {
            ready_layer(tx, diff_id)?.ok_or_else(|| Error::MissingLayer {
                manifest: self.new.manifest.descriptor.digest.clone(),
                diff_id: diff_id.clone(),
            })
        };
        self.config.rootfs.diff_ids.iter().map(find).collect()
    }

    fn insert(&self, tx: &Connection, layers: &[(i64, u64)]) -> Result<()> {
        const INSERT: &str = "
            INSERT INTO images(id, manifest, size, created, config) VALUES(?1, ?2, ?3, unixepoch(?4), ?5)
            ON CONFLICT(id) DO UPDATE SET manifest = excluded.manifest";
        let unpacked = layers
            .iter()
            .fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes));
        let (size, config) = match self.artifact {
            true => (self.manifest.content_size(), NO_CONFIG),
            false => {
                let config = self.new.config.bytes.as_slice();
                (unpacked.saturating_add(config.len() as u64), config)
            }
        };
        tx.execute(
            INSERT,
            params![
                self.id,
                self.manifest_digest,
                signed(size),
                self.config.created,
                config
            ],
        )
        .map_err(Error::db("record an image"))?;
        let user = &self.config.config.user;
        if !user.is_empty() {
            tx.execute(
                "INSERT OR IGNORE INTO users(image, user) VALUES(?1, ?2)",
                [self.id, user],
            )
            .map_err(Error::db("record an image's user"))?;
        }
        Ok(())
    }

    fn insert_manifest(&self, tx: &Connection) -> Result<()> {
        let descriptor = &self.new.manifest.descriptor;
        tx.execute(
            "INSERT OR IGNORE INTO manifests(digest, image, media_type, size) VALUES(?1, ?2, ?3, ?4)",
            params![
                self.manifest_digest,
                self.id,
                descriptor.media_type.as_str(),
                signed(descriptor.size)
            ],
        )
        .map_err(Error::db("record a manifest"))?;
        let layers = self.manifest.layers.iter().map(|layer| &layer.digest);
        let index = self.new.indexes().map(|index| &index.descriptor.digest);
        let documents = [&descriptor.digest, &self.manifest.config.digest];
        for blob in layers.chain(index).chain(documents) {
            tx.execute(
                "INSERT OR IGNORE INTO manifest_blobs(manifest, blob) VALUES(?1, ?2)",
                params![self.manifest_digest, blob.to_string()],
            )
            .map_err(Error::db("record the blobs of a manifest"))?;
        }
        Ok(())
    }
}

/// Each index lists the next, and the last the manifest.
fn check_indexes(new: &NewImage) -> Result<()> {
    let below = new.indexes().skip(1).chain([&new.manifest]);
    for (document, next) in new.indexes().zip(below) {
        let next = &next.descriptor.digest;
        let listed = matches!(parse(document)?, AnyManifest::Index(index)
            if index.manifests.iter().any(|entry| entry.digest == *next));
        if !listed {
            return Err(Error::Mismatch {
                manifest: new.manifest.descriptor.digest.clone(),
                flaw: ImageFlaw::NotInIndex {
                    index: document.descriptor.digest.clone(),
                },
            });
        }
    }
    Ok(())
}

fn check_digest(document: &Document) -> Result<()> {
    let Document { descriptor, bytes } = document;
    if descriptor.size != bytes.len() as u64 {
        return Err(Error::SizeMismatch {
            digest: descriptor.digest.clone(),
            expected: descriptor.size,
            actual: bytes.len() as u64,
        });
    }
    let actual = Digest::of_with(descriptor.digest.algorithm(), bytes);
    if actual != descriptor.digest {
        return Err(Error::DigestMismatch {
            expected: descriptor.digest.clone(),
            actual,
        });
    }
    Ok(())
}

fn parse(document: &Document) -> Result<AnyManifest> {
    let media_type = document.descriptor.media_type.as_str();
    AnyManifest::parse(Some(media_type), &document.bytes).map_err(|source| Error::Document {
        digest: document.descriptor.digest.clone(),
        source: Box::new(source),
    })
}

fn check_names(new: &NewImage) -> Result<Vec<Reference>> {
    let known = |digest: &Digest| {
        *digest == new.manifest.descriptor.digest
            || new
                .index
                .as_ref()
                .is_some_and(|index| *digest == index.descriptor.digest)
    };
    let check = |name: &String| {
        let reference = Reference::parse(name).map_err(|source| Error::Name {
            source: Box::new(source),
        })?;
        let flaw = match (reference.tag(), reference.digest()) {
            (Some(_), None) => return Ok(reference),
            (None, Some(digest)) if known(digest) => return Ok(reference),
            (None, Some(_)) => NameFlaw::OtherDigest,
            (Some(_), Some(_)) => NameFlaw::Both,
            (None, None) => NameFlaw::Bare,
        };
        Err(Error::NameFlaw {
            name: name.clone(),
            flaw,
        })
    };
    let mut names = new.names.iter().map(check).collect::<Result<Vec<_>>>()?;
    // The image answers to the index's digest too in every repository it was named in.
    if let Some(index) = &new.index {
        let digest = &index.descriptor.digest;
        let by_index: Vec<_> = names
            .iter()
            .map(|name| name.without_tag().with_digest(digest.clone()))
            .collect();
        names.extend(by_index);
    }
    Ok(names)
}

/// Puts all that an image is made of under a lease; `false` when it is gone already.
pub(crate) fn hold_all(tx: &Connection, lease: i64, image: &str) -> Result<bool> {
    const BLOBS: &str = "
        SELECT DISTINCT blob FROM manifest_blobs JOIN manifests ON manifest = digest WHERE image = ?1";
    const LAYERS: &str = "SELECT DISTINCT layer FROM image_layers WHERE image = ?1";
    let read = || {
        let mut blobs = tx.prepare_cached(BLOBS)?;
        let blobs = blobs.query_map([image], |row| row.get(0))?;
        let blobs = blobs.collect::<rusqlite::Result<Vec<String>>>()?;
        let mut layers = tx.prepare_cached(LAYERS)?;
        let layers = layers.query_map([image], |row| row.get(0))?;
        Ok((blobs, layers.collect::<rusqlite::Result<Vec<i64>>>()?))
    };
    let (blobs, layers) = read().map_err(Error::db("hold an image"))?;
    for blob in &blobs {
        hold_blob(tx, lease, blob)?;
    }
    for layer in layers {
        hold_layer(tx, lease, layer)?;
    }
    Ok(!blobs.is_empty())
}
