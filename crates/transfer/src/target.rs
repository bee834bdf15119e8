//! Where an image goes: one interface over the transports.
//!
//! Nothing at the place names the image before [`Target::commit`].

use image::{Compression, Descriptor, Digest, Manifest, Reference};
use store::Store;
use trust::Signature;

use crate::chunks::Open;
use crate::convert::Format;
use crate::dir::DirTarget;
use crate::docker_archive::{ArchiveTarget, ArchiveWriter};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::layout::LayoutTarget;
use crate::name::{ArchiveEntry, Location};
use crate::registry::RegistryTarget;
use crate::source::Access;
use crate::stored::{self, StoredTarget};

/// A place that gets an image.
#[derive(Debug)]
pub struct Target {
    location: Location,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Registry(RegistryTarget),
    Layout(LayoutTarget),
    DockerArchive(ArchiveTarget),
    Dir(DirTarget),
    Store(StoredTarget),
}

/// Why a place without room for signatures is no target of an image that has some.
pub(crate) const NO_SIGNATURES: &str =
    "it cannot hold the image's signatures: give --remove-signatures to leave them behind";

/// What a blob is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use<'a> {
    Config,
    /// With the digest of its content, where the config says so.
    Layer(Option<&'a Digest>),
}

impl Target {
    /// Opens a place for writing; directories are made.
    pub async fn open(location: &Location, access: &Access) -> Result<Target> {
        let kind = match location {
            Location::Registry(reference) => Kind::Registry(RegistryTarget::new(
                access.client.clone(),
                reference.clone(),
                access.credentials.clone(),
            )),
            Location::Layout(dir, name) => {
                let shared = access.shared_blobs.as_deref();
                Kind::Layout(LayoutTarget::open(dir, name.as_deref(), shared)?)
            }
            Location::LayoutArchive(file, name) => {
                let shared = access.shared_blobs.as_deref();
                Kind::Layout(LayoutTarget::open_archive(file, name.as_deref(), shared)?)
            }
            Location::DockerArchive(file, entry) => {
                let names = match entry {
                    ArchiveEntry::Only => Vec::new(),
                    ArchiveEntry::Named(name) => vec![name.to_string()],
                    ArchiveEntry::At(_) => {
                        return Err(Error::place(
                            location,
                            "an archive to be made has no places",
                        ));
                    }
                };
                Kind::DockerArchive(ArchiveTarget::open(file, names)?)
            }
            Location::Dir(dir) => Kind::Dir(DirTarget::open(dir)?),
            Location::Storage(_) => {
                let why = "floe reads such stores and does not write to them: copy to another \
                           place, such as oci-archive:FILE, and from there with skopeo";
                return Err(Error::place(location, why));
            }
            Location::Store(name) => {
                Kind::Store(StoredTarget::open(access.store(location)?, name).await?)
            }
        };
        Ok(Target {
            location: location.clone(),
            kind,
        })
    }

    /// A place among others in an archive of `docker save`, under these names. The archive is there
    /// when its writer is finished.
    pub fn in_archive(writer: &ArchiveWriter, names: Vec<String>) -> Target {
        Target {
            location: Location::DockerArchive(writer.path().to_owned(), ArchiveEntry::Only),
            kind: Kind::DockerArchive(ArchiveTarget::among(writer, names)),
        }
    }

    /// The store, as whoever pulls `reference` wants it: named by what was asked for, and by the digest of what
    /// that name meant.
    ///
    /// Errors when the store cannot be written.
    pub async fn of_pull(store: &Store, reference: &Reference) -> Result<Target> {
        Ok(Target {
            location: Location::Store(reference.to_string()),
            kind: Kind::Store(StoredTarget::of_pull(store, reference).await?),
        })
    }

    /// Has the layers that the store gets unpacked, whatever form it gives others. Means nothing to other places.
    pub fn unpack_layers(&self) {
        if let Kind::Store(target) = &self.kind {
            target.unpack_layers();
        }
    }

    /// Learns which image comes.
    pub(crate) fn begin(&self, manifest: &Manifest) {
        if store::names_unpacked(&manifest.annotations) {
            self.unpack_layers();
        }
    }

    /// The place.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The only format that it can hold, if there is but one.
    pub(crate) fn format(&self) -> Option<Format> {
        match self.kind {
            Kind::Layout(_) => Some(Format::Oci),
            Kind::DockerArchive(_) => Some(Format::Docker),
            Kind::Registry(_) | Kind::Dir(_) | Kind::Store(_) => None,
        }
    }

    /// The compression that all layers must have, if there is but one.
    pub(crate) fn required_compression(&self) -> Option<Compression> {
        matches!(self.kind, Kind::DockerArchive(_)).then_some(Compression::None)
    }

    /// Whether plain layers are compressed on the way, as they will be kept or sent on; a layout may be told
    /// to take them as they are.
    pub(crate) fn compresses(&self, plain_in_layouts: bool) -> bool {
        match self.kind {
            Kind::Registry(_) => true,
            Kind::Layout(_) => !plain_in_layouts,
            Kind::DockerArchive(_) | Kind::Dir(_) | Kind::Store(_) => false,
        }
    }

    /// Whether layers are unpacked there: it holds images of containers and nothing else.
    pub(crate) fn unpacks(&self) -> bool {
        matches!(self.kind, Kind::Store(_))
    }

    /// Whether the place itself checks size and digest of such a blob.
    pub(crate) fn verifies(&self, for_what: Use<'_>) -> bool {
        self.unpacks() && matches!(for_what, Use::Layer(_))
    }

    /// Errors when the place cannot hold such an image: before the first byte of a layer is fetched.
    pub(crate) fn check(&self, manifest: &Manifest, diff_ids: &[Digest]) -> Result<()> {
        match self.kind {
            Kind::Store(_) => stored::check(&self.location, manifest, diff_ids),
            _ => Ok(()),
        }
    }

    /// Whether it can hold an index with several images.
    pub(crate) fn takes_index(&self) -> bool {
        !matches!(self.kind, Kind::DockerArchive(_) | Kind::Store(_))
    }

    /// The name under which an image is signed that goes there; `None` where it gets no such name.
    pub(crate) fn identity(&self) -> Option<&Reference> {
        match &self.kind {
            Kind::Registry(target) => Some(target.reference()),
            Kind::Store(target) => target.name(),
            _ => None,
        }
    }

    /// Whether it can hold signatures.
    pub(crate) fn takes_signatures(&self) -> bool {
        matches!(self.kind, Kind::Registry(_) | Kind::Dir(_) | Kind::Store(_))
    }

    /// Takes the signatures of a manifest or index: of the `top` one or of one that it points at.
    pub(crate) async fn put_signatures(
        &self,
        document: &Document,
        top: bool,
        signatures: &[Signature],
    ) -> Result<()> {
        match &self.kind {
            _ if signatures.is_empty() => Ok(()),
            Kind::Registry(target) => target.put_signatures(&document.digest, signatures).await,
            Kind::Dir(target) => {
                target.put_signatures((!top).then_some(&document.digest), signatures)
            }
            Kind::Store(target) => target.put_signatures(signatures),
            Kind::Layout(_) | Kind::DockerArchive(_) => {
                Err(Error::place(&self.location, NO_SIGNATURES))
            }
        }
    }

    /// Whether the blob is there already, or could be had without sending it.
    pub(crate) async fn has_blob(
        &self,
        descriptor: &Descriptor,
        for_what: Use<'_>,
        from: Option<&Reference>,
    ) -> Result<bool> {
        let digest = &descriptor.digest;
        match (&self.kind, for_what) {
            (Kind::Registry(target), _) => target.has_blob(digest, from).await,
            (Kind::Layout(target), _) => Ok(target.has_blob(digest)),
            (Kind::DockerArchive(target), _) => Ok(target.has_blob(digest)),
            (Kind::Dir(target), _) => Ok(target.has_blob(digest)),
            (Kind::Store(target), Use::Layer(Some(diff_id))) => {
                target.has_layer(digest, diff_id).await
            }
            (Kind::Store(target), Use::Layer(None)) => target.has_file(digest).await,
            (Kind::Store(_), Use::Config) => Ok(false),
        }
    }

    /// Takes a blob. What `open` gives fails at the end unless it is what the descriptor says.
    pub(crate) async fn put_blob(
        &self,
        descriptor: &Descriptor,
        for_what: Use<'_>,
        open: &Open<'_>,
    ) -> Result<()> {
        if let Kind::Registry(target) = &self.kind {
            return target.put_blob(descriptor, open).await;
        }
        let chunks = open().await?;
        match (&self.kind, for_what) {
            (Kind::Registry(_), _) => Ok(()),
            (Kind::Layout(target), _) => target.put_blob(descriptor, chunks).await,
            (Kind::DockerArchive(target), _) => target.put_blob(descriptor, chunks).await,
            (Kind::Dir(target), _) => target.put_blob(descriptor, chunks).await,
            (Kind::Store(target), Use::Config) => target.put_config(chunks).await,
            (Kind::Store(target), Use::Layer(Some(diff_id))) => {
                target.put_layer(descriptor, diff_id, chunks).await
            }
            (Kind::Store(target), Use::Layer(None)) => target.put_file(descriptor, chunks).await,
        }
    }

    /// Takes a manifest that an index points at.
    pub(crate) async fn put_manifest(&self, document: &Document) -> Result<()> {
        match &self.kind {
            Kind::Registry(target) => target.put_manifest(document).await,
            Kind::Layout(target) => target.put_manifest(document),
            Kind::Dir(target) => target.put_manifest(document),
            Kind::DockerArchive(_) | Kind::Store(_) => Ok(()),
        }
    }

    /// Names the image: `top` is its manifest (then also given read) or index. floe's store also keeps
    /// the indexes that a manifest was `chosen_from`, outermost first.
    pub(crate) async fn commit(
        self,
        top: &Document,
        manifest: Option<&Manifest>,
        chosen_from: &[Document],
    ) -> Result<()> {
        let single =
            || manifest.ok_or_else(|| Error::place(&self.location, "it cannot hold an index"));
        match self.kind {
            Kind::Registry(target) => target.commit(top).await,
            Kind::Layout(target) => {
                target.put_manifest(top)?;
                target.commit(top)
            }
            Kind::Dir(target) => target.commit(top),
            Kind::DockerArchive(target) => target.commit(single()?),
            Kind::Store(target) => target.commit(top, single()?, chosen_from).await,
        }
    }
}
