//! Where an image comes from: one interface over the transports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use distribution::{Client, Credentials};
use image::{AnyManifest, Descriptor, Digest, ImageConfig, Manifest, Platform, Reference};
use store::Store;
use trust::{Demands, Policy, Signature};

use crate::chunks::{self, Chunks};
use crate::containers_storage::StorageSource;
use crate::convert::Format;
use crate::copy::choose;
use crate::dir::DirSource;
use crate::docker_archive::ArchiveSource;
use crate::document::{Document, MAX_CONFIG};
use crate::error::{Error, Result};
use crate::layout::LayoutSource;
use crate::list::ListSource;
use crate::name::Location;
use crate::peers::Peers;
use crate::registry::RegistrySource;
use crate::stored::StoredSource;

/// What opening a place needs besides its name.
#[derive(Debug, Clone)]
pub struct Access {
    /// For registries.
    pub client: Client,
    /// Who to be there.
    pub credentials: Credentials,
    /// For `floe:`; without it such places are refused.
    pub store: Option<Store>,
    /// Who is asked for layers before a registry.
    pub peers: Option<Arc<Peers>>,
    /// The directory that layouts (`oci:` and `oci-archive:`) keep their blobs in, instead of their own `blobs`.
    pub shared_blobs: Option<PathBuf>,
}

impl Access {
    pub(crate) fn store(&self, location: &Location) -> Result<&Store> {
        self.store
            .as_ref()
            .ok_or_else(|| Error::place(location, "floe's store is not open"))
    }
}

/// An image to be read.
#[derive(Debug)]
pub struct Source {
    location: Location,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Registry(Box<RegistrySource>),
    Layout(LayoutSource),
    DockerArchive(ArchiveSource),
    Dir(DirSource),
    Storage(StorageSource),
    Store(StoredSource),
    List(ListSource),
}

impl Source {
    /// Opens a place. A registry is not asked yet; archives are read through.
    pub async fn open(location: &Location, access: &Access) -> Result<Source> {
        let place = location.to_string();
        let kind = match location {
            Location::Registry(reference) => Kind::Registry(Box::new(RegistrySource::new(
                access.client.clone(),
                reference.clone(),
                access.credentials.clone(),
                access.peers.clone(),
            ))),
            Location::Layout(dir, name) => {
                let shared = access.shared_blobs.as_deref();
                Kind::Layout(LayoutSource::open(dir, name.as_deref(), shared, &place)?)
            }
            Location::LayoutArchive(file, name) => {
                let shared = access.shared_blobs.as_deref();
                Kind::Layout(LayoutSource::open_archive(
                    file,
                    name.as_deref(),
                    shared,
                    &place,
                )?)
            }
            Location::DockerArchive(file, entry) => {
                Kind::DockerArchive(ArchiveSource::open(file, entry)?)
            }
            Location::Dir(dir) => Kind::Dir(DirSource::open(dir)),
            Location::Storage(place) => Kind::Storage(StorageSource::open(place).await?),
            Location::Store(name) => {
                Kind::Store(StoredSource::open(access.store(location)?, name).await?)
            }
        };
        Ok(Source {
            location: location.clone(),
            kind,
        })
    }

    /// An index that was made here, with the places of what it points at.
    pub(crate) fn list(name: &str, list: ListSource) -> Source {
        Source {
            location: Location::Store(name.to_owned()),
            kind: Kind::List(list),
        }
    }

    /// The place.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The manifest or index of the place, or one that its index points at, checked by its digest.
    pub async fn manifest(&self, digest: Option<&Digest>) -> Result<Document> {
        match &self.kind {
            Kind::Registry(source) => source.manifest(digest).await,
            Kind::Layout(source) => source.manifest(digest),
            Kind::DockerArchive(source) => Ok(source.manifest()),
            Kind::Dir(source) => source.manifest(digest),
            Kind::Storage(source) => source.manifest(digest).await,
            Kind::Store(source) => source.manifest(digest),
            Kind::List(source) => Box::pin(source.manifest(digest)).await,
        }
    }

    /// What an entry of an index points at, which has the size that the index says.
    pub(crate) async fn entry(&self, entry: &Descriptor) -> Result<Document> {
        let document = self.manifest(Some(&entry.digest)).await?;
        let actual = document.bytes.len() as u64;
        if actual == entry.size {
            return Ok(document);
        }
        let reason = image::ManifestFlaw::Size {
            digest: entry.digest.clone(),
            expected: entry.size,
            actual,
        };
        Err(image::Error::Manifest { reason }.into())
    }

    /// The manifest of an image for a platform, of which `top` is the manifest or index.
    ///
    /// # Errors
    /// An index without such an image, one that is nested too deep or says another size, or what cannot be read.
    pub async fn image(&self, top: &Document, platform: &Platform) -> Result<Manifest> {
        match top.parse()? {
            AnyManifest::Manifest(manifest) => Ok(manifest),
            AnyManifest::Index(index) => {
                let (_, manifest, _) = choose(self, top.clone(), index, platform).await?;
                Ok(manifest)
            }
        }
    }

    /// Errors when the policy lets nothing in from here, however it may be signed.
    pub fn check(&self, policy: &Policy) -> Result<()> {
        self.demands(policy).map(|_| ())
    }

    /// What a policy demands of images of this place; `None` of floe's store, where they were let in.
    pub(crate) fn demands(&self, policy: &Policy) -> Result<Option<Demands>> {
        // Scopes are absolute paths; one that cannot be made so has only the default.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let transport = self.location.transport();
        let demands = match (&self.location, &self.kind) {
            // Only the store knows the image's scopes.
            (_, Kind::Storage(source)) => source.demands(policy),
            (Location::Storage(_) | Location::Store(_), _) if policy.is_only_signed() => {
                let why = "whether its images are signed is known of other places only";
                return Err(Error::place(&self.location, why));
            }
            (Location::Storage(_) | Location::Store(_), _) => return Ok(None),
            (Location::Registry(reference), _) => policy.demands(reference),
            (Location::Layout(path, name) | Location::LayoutArchive(path, name), _) => {
                policy.demands_at(transport, &absolute(path), name.as_deref())
            }
            (Location::DockerArchive(path, _) | Location::Dir(path), _) => {
                policy.demands_at(transport, &absolute(path), None)
            }
        };
        Ok(Some(demands?))
    }

    /// The signatures of a manifest or index of the place, unverified: of its `top` one or of one
    /// that the top one points at.
    pub(crate) async fn signatures(
        &self,
        document: &Document,
        top: bool,
    ) -> Result<Vec<Signature>> {
        match &self.kind {
            Kind::Registry(source) => source.signatures(&document.digest).await,
            Kind::Dir(source) => source.signatures((!top).then_some(&document.digest)),
            Kind::Storage(source) => {
                let digest = (!top).then_some(&document.digest);
                source.signatures(digest).await
            }
            Kind::Store(source) => source.signatures(&document.digest),
            Kind::Layout(_) | Kind::DockerArchive(_) | Kind::List(_) => Ok(Vec::new()),
        }
    }

    /// The place that a manifest really comes from, when this is a list of images from elsewhere.
    pub(crate) fn member(&self, digest: &Digest) -> Option<&Source> {
        match &self.kind {
            Kind::List(source) => source.member(digest),
            _ => None,
        }
    }

    /// The layers of a manifest of the place, where they cannot be had as it says.
    pub(crate) async fn layers(
        &self,
        document: &Document,
        manifest: &Manifest,
    ) -> Result<Option<Vec<Descriptor>>> {
        let format = Format::of(&document.media_type);
        match &self.kind {
            Kind::Storage(source) => {
                let diff_ids = self.diff_ids(manifest).await?;
                Ok(Some(source.layers(manifest, format, &diff_ids)?))
            }
            Kind::Store(source)
                if manifest.artifact_kind().is_none() && !source.has_layers(manifest)? =>
            {
                source.layers(manifest, format, &self.diff_ids(manifest).await?)
            }
            Kind::List(source) => Box::pin(source.layers(document, manifest)).await,
            _ => Ok(None),
        }
    }

    async fn diff_ids(&self, manifest: &Manifest) -> Result<Vec<Digest>> {
        let config = self.config(&manifest.config).await?;
        Ok(ImageConfig::parse(&config)?.rootfs.diff_ids)
    }

    /// The bytes of a layer's archive, where it lies here without compression beside what the manifest says.
    pub(crate) fn archive(&self, diff_id: &Digest) -> Result<Option<u64>> {
        match &self.kind {
            Kind::Store(source) => Ok(source.archive(diff_id)?.map(|(_, size)| size)),
            _ => Ok(None),
        }
    }

    /// A blob as it is there, not checked.
    pub(crate) async fn blob(&self, descriptor: &Descriptor) -> Result<Chunks> {
        match &self.kind {
            Kind::Registry(source) => source.blob(descriptor).await,
            Kind::Layout(source) => source.blob(descriptor).await,
            Kind::DockerArchive(source) => source.blob(descriptor).await,
            Kind::Dir(source) => source.blob(descriptor).await,
            Kind::Storage(source) => source.blob(descriptor).await,
            Kind::Store(source) => source.blob(descriptor),
            Kind::List(source) => Box::pin(source.blob(descriptor)).await,
        }
    }

    /// A blob is where it should be.
    pub(crate) fn arrived(&self, digest: &Digest) {
        if let Kind::Registry(source) = &self.kind {
            source.arrived(digest);
        }
    }

    /// A blob did not come as it should: can it come from somebody else?
    pub(crate) fn leave(&self, digest: &Digest, why: &Error) -> bool {
        match &self.kind {
            Kind::Registry(source) => source.leave(digest, why),
            _ => false,
        }
    }

    /// A config, checked. Errors above 8 MiB.
    pub async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > MAX_CONFIG {
            let why = format!(
                "its configuration has {} bytes, more than {MAX_CONFIG}",
                descriptor.size
            );
            return Err(Error::place(&self.location, why));
        }
        let chunks = chunks::verified(self.blob(descriptor).await?, descriptor);
        let bytes = chunks::collect(chunks, MAX_CONFIG).await;
        bytes.map_err(|source| Error::of_blob(&descriptor.digest, source))
    }

    /// The repository that the image was called by, if the place has such names.
    pub fn name(&self) -> Option<String> {
        match &self.kind {
            Kind::Storage(source) => source.name().map(Reference::name),
            _ => self.repository().map(Reference::name),
        }
    }

    /// The repository, when it is one of a registry.
    pub(crate) fn repository(&self) -> Option<&Reference> {
        match &self.kind {
            Kind::Registry(source) => Some(source.reference()),
            _ => None,
        }
    }
}
