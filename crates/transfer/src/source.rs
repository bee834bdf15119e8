//! Where an image comes from: one interface over the transports.

use image::{Client, Credentials, Descriptor, Digest, Reference};
use store::Store;

use crate::chunks::{self, Chunks};
use crate::dir::DirSource;
use crate::docker_archive::ArchiveSource;
use crate::document::{Document, MAX_CONFIG};
use crate::error::{Error, Result};
use crate::layout::LayoutSource;
use crate::name::Location;
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
    Registry(RegistrySource),
    Layout(LayoutSource),
    DockerArchive(ArchiveSource),
    Dir(DirSource),
    Store(StoredSource),
}

impl Source {
    /// Opens a place. A registry is not asked yet; archives are read through.
    pub async fn open(location: &Location, access: &Access) -> Result<Source> {
        let place = location.to_string();
        let kind = match location {
            Location::Registry(reference) => Kind::Registry(RegistrySource::new(
                access.client.clone(),
                reference.clone(),
                access.credentials.clone(),
            )),
            Location::Layout(dir, name) => {
                Kind::Layout(LayoutSource::open(dir, name.as_deref(), &place)?)
            }
            Location::LayoutArchive(file, name) => {
                Kind::Layout(LayoutSource::open_archive(file, name.as_deref(), &place)?)
            }
            Location::DockerArchive(file, entry) => {
                Kind::DockerArchive(ArchiveSource::open(file, entry)?)
            }
            Location::Dir(dir) => Kind::Dir(DirSource::open(dir)),
            Location::Store(name) => {
                Kind::Store(StoredSource::open(access.store(location)?, name).await?)
            }
        };
        Ok(Source {
            location: location.clone(),
            kind,
        })
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
            Kind::Store(source) => source.manifest(digest),
        }
    }

    /// A blob as it is there, not checked.
    pub(crate) async fn blob(&self, descriptor: &Descriptor) -> Result<Chunks> {
        match &self.kind {
            Kind::Registry(source) => source.blob(descriptor).await,
            Kind::Layout(source) => source.blob(descriptor).await,
            Kind::DockerArchive(source) => source.blob(descriptor).await,
            Kind::Dir(source) => source.blob(descriptor).await,
            Kind::Store(source) => source.blob(descriptor),
        }
    }

    /// A config, checked. Errors above 8 MiB.
    pub async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let chunks = chunks::verified(self.blob(descriptor).await?, descriptor);
        let bytes = chunks::collect(chunks, MAX_CONFIG).await;
        bytes.map_err(|source| Error::Blob {
            digest: descriptor.digest.clone(),
            source,
        })
    }

    /// The repository, when it is one of a registry.
    pub(crate) fn repository(&self) -> Option<&Reference> {
        match &self.kind {
            Kind::Registry(source) => Some(source.reference()),
            _ => None,
        }
    }
}
