//! PullImage: reference to stored image. Downloads are async; unpacking runs on blocking
//! threads that read each layer as it arrives, through a channel of a few chunks, so that no
//! layer is ever whole in memory. Everything lands under a lease and becomes an image in one
//! transaction at the end; a pull that fails leaves nothing that collection would keep.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ::trust::{Demands, RegistriesD};
use bytes::Bytes;
use distribution::{
    AuthFiles, BlobStep, BlobWatch, Client, ClientConfig, Credentials, Fetched, ImageManifest,
    Registries, RegistriesPaths, Source,
};
use futures_util::StreamExt;
use image::{Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, Reference};
use store::{Document, Lease, MOST_LAYERS, NewImage, Store};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc};

use super::PullRequest;
use super::trust::{self, Policies};
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Layers of one pull that are fetched at the same time.
const PARALLEL_LAYERS: usize = 6;
/// Chunks that may wait between download and unpacking of one layer.
const CHUNKS_IN_FLIGHT: usize = 32;
/// Largest image configuration that is accepted, in bytes.
const MAX_CONFIG: u64 = 8 * 1024 * 1024;

/// What pulling needs besides the store: made once, shared by all pulls of a process.
#[derive(Debug)]
pub(crate) struct Fetcher {
    client: Client,
    registries: Registries,
    policies: Policies,
    /// One pull of a reference at a time: the second finds what the first has stored.
    busy: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

impl Fetcher {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let settings = client_config(config)?;
        Ok(Self {
            registries: settings.registries.clone(),
            client: Client::new(settings),
            policies: Policies::load(config)?,
            busy: Mutex::default(),
        })
    }

    /// The full references that a name may mean, best first; none if it is not a name.
    pub(crate) fn candidates(&self, name: &str) -> Vec<Reference> {
        let candidates = self.registries.candidates(name).unwrap_or_default();
        candidates.into_iter().map(Reference::or_latest).collect()
    }

    /// Which images are trusted.
    pub(super) fn policies(&self) -> &Policies {
        &self.policies
    }

    fn turn(&self, reference: &str) -> Arc<AsyncMutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(busy.entry(reference.to_owned()).or_default())
    }
}

/// How to talk to registries: the files that the configuration names.
///
/// # Errors
/// A registries.conf that cannot be used.
pub fn client_config(config: &Config) -> Result<ClientConfig> {
    let settings = &config.image;
    let registries = Registries::load(&registries_paths(settings)).map_err(failed)?;
    let auth = match settings.global_auth_file.as_os_str() {
        empty if empty.is_empty() => AuthFiles::from_env(|name| std::env::var_os(name)),
        _ => AuthFiles::only(settings.global_auth_file.clone()),
    };
    Ok(ClientConfig {
        registries,
        auth,
        registries_d: registries_d(config)?,
        certs_dirs: vec![settings.certs_dir.clone()],
        locations: Some(config.root_table.runroot.join("blobs")),
        ..ClientConfig::default()
    })
}

/// Where registries.conf is: as the configuration says, or else where everybody looks.
fn registries_paths(settings: &crate::config::Image) -> RegistriesPaths {
    let mut paths = RegistriesPaths::from_env(|name| std::env::var_os(name));
    if !settings.registries_conf.as_os_str().is_empty() {
        paths.file.clone_from(&settings.registries_conf);
        paths.file_required = false;
    }
    if !settings.registries_conf_dir.as_os_str().is_empty() {
        paths.dropin_dirs = vec![settings.registries_conf_dir.clone()];
    }
    paths
}

/// Where signatures are: the directory that the configuration names, or the usual ones.
fn registries_d(config: &Config) -> Result<RegistriesD> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let dirs = match config.image.registries_d_dir.as_os_str() {
        empty if empty.is_empty() => RegistriesD::default_dirs(var),
        dir => vec![dir.into()],
    };
    let found = RegistriesD::load(&dirs).map_err(failed)?;
    if rustix::process::geteuid().is_root() {
        return Ok(found);
    }
    let home = || var("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let data = var("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    Ok(match data {
        Some(data) => found.with_built_in(&data.join("containers/sigstore")),
        None => found,
    })
}

pub(super) fn failed(error: impl std::fmt::Display) -> Error {
    Error::Config {
        origin: "crio.image".into(),
        reason: error.to_string(),
    }
}

impl Engine {
    /// Fetches an image into the store and returns its id. Runs to its end on the runtime it is
    /// awaited on; spawn it if the caller may leave.
    ///
    /// # Errors
    /// A reference that is none, an image that no source has, a registry that fails or lies, a
    /// policy that refuses, a layer that cannot be trusted; the store is as it was then.
    pub async fn pull_image(&self, request: PullRequest) -> Result<String> {
        let fetcher = self.images_fetcher();
        let candidates = fetcher
            .registries
            .candidates(&request.image)
            .map_err(|e| Error::invalid("image", e.to_string()))?;
        let mut failures = Vec::new();
        for reference in candidates.into_iter().map(Reference::or_latest) {
            match self.pull_reference(&reference, &request).await {
                Ok(id) => return Ok(id),
                Err(error) => {
                    let is_last_word = is_last_word(&error);
                    failures.push(error);
                    if is_last_word {
                        break;
                    }
                }
            }
        }
        Err(match (failures.pop(), failures.is_empty()) {
            (Some(only), true) => only,
            (Some(last), false) => {
                failures.push(last);
                Error::PullShort {
                    name: request.image,
                    failures,
                }
            }
            (None, _) => Error::invalid(
                "image",
                format!(
                    "{:?} names no registry and none is configured for short names",
                    request.image
                ),
            ),
        })
    }

    async fn pull_reference(&self, reference: &Reference, request: &PullRequest) -> Result<String> {
        let fetcher = self.images_fetcher();
        let demands = fetcher.policies.demands(&request.namespace, reference)?;
        let turn = fetcher.turn(&reference.to_string());
        let _turn = turn.lock().await;
        let credentials = request.credentials.clone();
        Pull {
            engine: self.clone(),
            reference: reference.clone(),
            credentials: credentials.unwrap_or(Credentials::Stored),
            demands,
            watch: request.watch.clone(),
        }
        .run()
        .await
    }
}

/// Whether another registry that a short name may mean would be of no use, or be asked against the policy.
fn is_last_word(error: &Error) -> bool {
    let of_a_registry = matches!(error, Error::Pull { .. } | Error::Invalid { .. });
    let of_a_layer = matches!(error, Error::Store(error) if !error.is_no_space());
    error.is_policy() || !(of_a_registry || of_a_layer)
}

struct Pull {
    engine: Engine,
    reference: Reference,
    credentials: Credentials,
    demands: Demands,
    watch: BlobWatch,
}

impl Pull {
    async fn run(self) -> Result<String> {
        let pull = Arc::new(self);
        let chosen = pull
            .client()
            .image(&pull.reference, &Platform::host(), &pull.credentials)
            .await
            .map_err(|e| pull.error(e))?;
        if let Some(kind) = artifact(&chosen.manifest) {
            let reason = format!(
                "{}: it is no container image but an artifact of type {kind:?}: floe copy can move it, nothing can run it",
                pull.reference
            );
            return Err(Error::invalid("image", reason));
        }
        // Before anything of the image is used: the manifest leads to all the rest by digest.
        let signatures = pull
            .client()
            .admit(&pull.demands, &chosen, &pull.credentials)
            .await
            .map_err(|e| pull.error(e))?;
        let signatures =
            trust::to_files(&pull.reference, &signatures).map_err(|e| pull.error(e))?;
        let lease = Arc::new(blocking(pull.engine.store().clone(), Store::lease).await?);
        let config = pull.config(&chosen).await?;
        pull.layers(&chosen, &config, &lease).await?;
        let document = |fetched: &Fetched| Document {
            descriptor: fetched.descriptor(),
            bytes: fetched.bytes.to_vec(),
        };
        let new = NewImage {
            manifest: document(&chosen.fetched),
            config: Document {
                descriptor: chosen.manifest.config.clone(),
                bytes: config.to_vec(),
            },
            index: chosen.index.as_ref().map(document),
            inner: chosen.inner.iter().map(document).collect(),
            names: pull.names(&chosen),
            signatures,
        };
        let record = blocking(pull.engine.store().clone(), move |store| {
            store.put_image(&lease, new)
        })
        .await?;
        Ok(record.id)
    }

    fn error(&self, source: impl Into<distribution::Error>) -> Error {
        trust::refused(&self.reference, source)
    }

    fn client(&self) -> &Client {
        &self.engine.images_fetcher().client
    }

    async fn config(&self, chosen: &ImageManifest) -> Result<Bytes> {
        let descriptor = &chosen.manifest.config;
        if descriptor.size > MAX_CONFIG {
            return Err(Error::invalid(
                "image",
                format!(
                    "{}: its configuration has {} bytes, more than {MAX_CONFIG}",
                    self.reference, descriptor.size
                ),
            ));
        }
        self.watch.tell(descriptor, BlobStep::Begun);
        let mut stream = self
            .client()
            .blob(&chosen.fetched.source, descriptor, &self.credentials)
            .await
            .map_err(|e| self.error(e))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(|e| self.error(e))?);
        }
        self.watch.tell(descriptor, BlobStep::Done);
        Ok(bytes.into())
    }

    /// All layers that the store lacks, some at a time.
    async fn layers(
        self: &Arc<Self>,
        chosen: &ImageManifest,
        config: &[u8],
        lease: &Arc<Lease>,
    ) -> Result<()> {
        let parsed = ImageConfig::parse(config).map_err(|e| self.error(e))?;
        let diff_ids = parsed.rootfs.diff_ids;
        if diff_ids.len() != chosen.manifest.layers.len() {
            return Err(Error::invalid(
                "image",
                format!(
                    "{}: {} layers but {} diff_ids",
                    self.reference,
                    chosen.manifest.layers.len(),
                    diff_ids.len()
                ),
            ));
        }
        let distinct = diff_ids
            .iter()
            .collect::<std::collections::HashSet<_>>()
            .len();
        if distinct > MOST_LAYERS {
            let reason = format!(
                "{}: {distinct} layers, and overlayfs takes {MOST_LAYERS} at most",
                self.reference
            );
            return Err(Error::invalid("image", reason));
        }
        let slots = Arc::new(Semaphore::new(PARALLEL_LAYERS));
        let mut tasks = tokio::task::JoinSet::new();
        for (layer, diff_id) in chosen.manifest.layers.iter().cloned().zip(diff_ids) {
            let (pull, lease, slots) = (Arc::clone(self), Arc::clone(lease), Arc::clone(&slots));
            let source = chosen.fetched.source.clone();
            tasks.spawn(async move {
                let _slot = slots.acquire_owned().await;
                pull.layer(&source, layer, diff_id, lease).await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|e| Error::io("join", "layer task")(std::io::Error::other(e)))??;
        }
        Ok(())
    }

    async fn layer(
        &self,
        source: &Source,
        descriptor: Descriptor,
        diff_id: Digest,
        lease: Arc<Lease>,
    ) -> Result<()> {
        let (held, wanted, blob) = (
            Arc::clone(&lease),
            diff_id.clone(),
            descriptor.digest.clone(),
        );
        let there = move |store: &Store| {
            Ok(store.hold_layer(&held, &wanted)? && store.hold_blob(&held, &blob)?)
        };
        if blocking(self.engine.store().clone(), there).await? {
            self.watch.tell(&descriptor, BlobStep::There);
            return Ok(());
        }
        self.watch.tell(&descriptor, BlobStep::Begun);
        let watched = descriptor.clone();
        let mut stream = self
            .client()
            .blob_unverified(source, &descriptor, &self.credentials)
            .await
            .map_err(|e| self.error(e))?;
        let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let store = self.engine.store().clone();
        let unpack = tokio::task::spawn_blocking(move || {
            store.add_layer(
                &lease,
                &descriptor,
                &diff_id,
                ChunkReader {
                    receiver,
                    chunk: Bytes::new(),
                },
            )
        });
        let mut download = None;
        let mut received = 0;
        while let Some(chunk) = stream.next().await {
            received += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            self.watch.tell(&watched, BlobStep::At(received));
            let message = chunk.map_err(|e| {
                let text = e.to_string();
                download = Some(e);
                text
            });
            let stop = message.is_err();
            if sender.send(message).await.is_err() || stop {
                break;
            }
        }
        drop(sender);
        let unpacked = unpack
            .await
            .map_err(|e| Error::io("join", "unpack task")(std::io::Error::other(e)))?;
        match download {
            Some(error) => Err(self.error(error)),
            None => {
                unpacked?;
                self.watch.tell(&watched, BlobStep::Done);
                Ok(())
            }
        }
    }

    /// The names that the image gets: the reference as asked for, and by digest.
    fn names(&self, chosen: &ImageManifest) -> Vec<String> {
        let top = chosen.index.as_ref().unwrap_or(&chosen.fetched);
        let by_digest = self.reference.without_tag().with_digest(top.digest.clone());
        let mut names = vec![by_digest.to_string()];
        if self.reference.tag().is_some() && self.reference.digest().is_none() {
            names.insert(0, self.reference.to_string());
        }
        names
    }
}

/// The type of what is an image by its form only (OCI image-spec manifest.md, "Guidelines for Artifact
/// Usage"); `None` for images of containers.
fn artifact(manifest: &Manifest) -> Option<String> {
    const LONGEST: usize = 100;
    // What registries and old tools say when they know nothing better.
    let generic = |kind: &MediaType| {
        matches!(
            kind.as_str(),
            "" | "application/octet-stream" | "application/json" | "text/plain"
        )
    };
    let config = &manifest.config.media_type;
    let is_config = match config {
        MediaType::OciConfig | MediaType::DockerConfig => true,
        other => manifest.media_type == Some(MediaType::DockerManifest) && generic(other),
    };
    // Types of layers are often wrong, but never without a word of tar.
    let is_layer = |kind: &MediaType| {
        kind.compression().is_some() || generic(kind) || kind.as_str().contains("tar")
    };
    let mut layers = manifest.layers.iter().map(|layer| &layer.media_type);
    let kind = match (is_config, layers.find(|kind| !is_layer(kind))) {
        (true, None) => return None,
        (true, Some(layer)) => layer.as_str(),
        (false, _) => manifest.artifact_type.as_deref().unwrap_or(config.as_str()),
    };
    Some(kind.chars().take(LONGEST).collect())
}

/// Runs a store call where it may block.
async fn blocking<T: Send + 'static>(
    store: Store,
    call: impl FnOnce(&Store) -> Result<T, store::Error> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(move || call(&store)).await;
    Ok(done.map_err(|e| Error::io("join", "store task")(std::io::Error::other(e)))??)
}

/// The blocking end of a download.
struct ChunkReader {
    receiver: mpsc::Receiver<Result<Bytes, String>>,
    chunk: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(reason)) => return Err(std::io::Error::other(reason)),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pull that ended like this.
    fn pull(source: distribution::Error) -> Error {
        Error::Pull {
            image: "a.example/x:1".into(),
            source: Box::new(source),
        }
    }

    #[test]
    fn only_what_is_of_a_registry_leads_to_the_next_one_of_a_short_name() {
        let subject = distribution::At {
            subject: "manifest x".into(),
            endpoint: "https://a.example".into(),
        };
        let missing = distribution::Error::NotFound {
            at: subject,
            detail: String::new(),
        };
        assert!(!is_last_word(&pull(missing)));
        assert!(!is_last_word(&Error::invalid("image", "its config is odd")));
        let rejected = ::trust::Error::PolicyRejected {
            reference: "a.example/x:1".into(),
            path: "/etc/containers/policy.json".into(),
            scope: "a.example".into(),
        };
        assert!(is_last_word(&pull(rejected.into())));
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let full = Error::io("write", "/var/lib/floe/blobs")(full);
        assert!(is_last_word(&full));
    }
}
