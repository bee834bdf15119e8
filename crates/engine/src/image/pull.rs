//! PullImage: reference to stored image, as a transfer whose target is the store (crate `transfer`): there are the
//! walk through indexes, the limits, and the unpacking of layers as they arrive. Here is what a node adds: which
//! registries a short name may mean, whose policy holds, and that an image is pulled once at a time.

use std::path::PathBuf;
use std::sync::Arc;

use ::trust::RegistriesD;
use distribution::{AuthFiles, Client, ClientConfig, Credentials, Registries, RegistriesPaths};
use image::{AnyManifest, Platform, Reference};
use transfer::{
    Access, Event, Instances, Location, Options, PeerOptions, Peers, Signing, Source, Target, Watch,
};

use super::PullRequest;
use super::namespaced_auth::NamespacedAuth;
use super::progress::{Asker, PullState, Pulled, Pulls, SAY};
use super::query::is_meant;
use super::trust::{self, Policies};
use crate::config::Config;
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pod::PodSpec;

/// What pulling needs besides the store: made once, shared by all pulls of a process.
#[derive(Debug)]
pub(crate) struct Fetcher {
    client: Client,
    settings: ClientConfig,
    registries: Registries,
    policies: Policies,
    pulls: Arc<Pulls>,
    peers: Option<Arc<Peers>>,
}

impl Fetcher {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let settings = client_config(config)?;
        Ok(Self {
            registries: settings.registries.clone(),
            peers: peers(config, &settings)?.map(Arc::new),
            client: Client::new(settings.clone()),
            settings,
            policies: Policies::load(config)?,
            pulls: Arc::default(),
        })
    }

    /// As [`Fetcher::new`], with all files read again; pulls that are under way are known to it.
    pub(crate) fn again(&self, config: &Config) -> Result<Self> {
        let (pulls, peers) = (Arc::clone(&self.pulls), self.peers.clone());
        Ok(Self {
            pulls,
            peers,
            ..Self::new(config)?
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

    /// Who talks to registries.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// How pulls stand.
    pub(crate) fn pulls(&self) -> &Pulls {
        &self.pulls
    }

    /// One that looks for credentials in these files and no others.
    fn client_with(&self, auth: AuthFiles) -> Client {
        Client::new(ClientConfig {
            auth,
            ..self.settings.clone()
        })
    }
}

/// The node's peers, if it has any or is one.
fn peers(config: &Config, settings: &ClientConfig) -> Result<Option<Peers>> {
    let image = &config.image;
    if image.peers.is_empty() && image.peers_listen.is_empty() {
        return Ok(None);
    }
    let keep = image.keep_blobs().map_err(failed)?;
    let options = PeerOptions {
        places: image.peers.clone(),
        certs: Some(image.peers_certs_dir.clone()).filter(|dir| !dir.as_os_str().is_empty()),
        serves: !image.peers_listen.is_empty() && keep == store::KeepBlobs::Always,
    };
    Ok(Some(Peers::new(options, disk::new_id()?, settings)))
}

/// How to talk to registries: the files that the configuration names.
///
/// # Errors
/// A registries.conf that cannot be used.
pub fn client_config(config: &Config) -> Result<ClientConfig> {
    let settings = &config.image;
    let mut registries = Registries::load(&registries_paths(settings)).map_err(failed)?;
    for host in &settings.insecure_registries {
        registries.allow_insecure(host);
    }
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
    if !settings.short_name_alias_conf.as_os_str().is_empty() {
        paths.alias_cache = Some(settings.short_name_alias_conf.clone());
    }
    paths
}

/// All files and directories of registries.conf and registries.d, whether they are there or not.
pub(crate) fn registries_files(config: &Config) -> Vec<PathBuf> {
    let paths = registries_paths(&config.image);
    let mut all = vec![paths.file];
    all.extend(paths.dropin_dirs);
    all.extend(registries_d_dirs(&config.image));
    all
}

/// Where signatures are: the directory that the configuration names, or the usual ones.
fn registries_d(config: &Config) -> Result<RegistriesD> {
    let found = RegistriesD::load(&registries_d_dirs(&config.image)).map_err(failed)?;
    if rustix::process::geteuid().is_root() {
        return Ok(found);
    }
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let data = variable("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    Ok(match data {
        Some(data) => found.with_built_in(&data.join("containers/sigstore")),
        None => found,
    })
}

fn registries_d_dirs(settings: &crate::config::Image) -> Vec<PathBuf> {
    match settings.registries_d_dir.as_os_str() {
        empty if empty.is_empty() => RegistriesD::default_dirs(variable),
        dir => vec![dir.into()],
    }
}

/// A variable of the environment that is not empty.
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

pub(super) fn failed(error: impl std::fmt::Display) -> Error {
    Error::Config {
        origin: "crio.image".into(),
        reason: error.to_string(),
    }
}

impl Engine {
    /// How the pulls of this process stand, the oldest first.
    #[must_use]
    pub fn pulls(&self) -> Vec<PullState> {
        self.images_fetcher().pulls().running()
    }

    /// The node's peers, if the configuration says that it has any or is one.
    #[must_use]
    pub fn peers(&self) -> Option<Arc<Peers>> {
        self.images_fetcher().peers.clone()
    }

    /// The pulls that a pod has waited for in this process: the last few hundred of all pods are known.
    #[must_use]
    pub fn pulls_of(&self, pod: &PodSpec) -> Vec<Pulled> {
        let asker = Asker {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        };
        self.images_fetcher().pulls().of_pod(&asker)
    }

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

    /// One copy from the registry to the store: the policy decides before anything is fetched, and again on
    /// the manifest before anything that it names.
    async fn pull_reference(&self, reference: &Reference, request: &PullRequest) -> Result<String> {
        let fetcher = self.images_fetcher();
        let policy = fetcher.policies.policy(&request.pod.namespace, reference)?;
        policy
            .demands(reference)
            .map(drop)
            .map_err(|source| trust::refused(reference, source))?;
        let mut place = fetcher
            .pulls
            .join(reference.to_string(), request.pod.clone());
        let turn = place.turn().await;
        let credentials = request.credentials.clone();
        let dir = &self.config().image.namespaced_auth_dir;
        let own = NamespacedAuth::take(dir, &request.pod.namespace, reference)?;
        let access = Access {
            client: match &own {
                Some(own) => fetcher.client_with(own.files()),
                None => fetcher.client.clone(),
            },
            credentials: credentials.unwrap_or(Credentials::Stored),
            store: None,
            peers: fetcher.peers.clone(),
            shared_blobs: None,
        };
        let options = Options {
            instances: Instances::One(Platform::host()),
            preserve_digests: true,
            policy: Some(policy),
            signing: Signing {
                only_wanted: true,
                ..Signing::default()
            },
            ..Options::default()
        };
        let (watch, running) = (request.watch.clone(), place.running());
        let watch: Watch = Arc::new(move |event| match event {
            Event::Image(manifest) => running.plan(manifest),
            Event::Blob(blob, step) => {
                running.step(blob, step);
                watch.tell(blob, step);
            }
            Event::Instance(..) | Event::Manifest => {}
        });
        let pulled = async {
            let location = Location::Registry(reference.clone());
            let source = Source::open(&location, &access).await?;
            let target = Target::of_pull(self.store(), reference).await?;
            let unpacked = &self.config().image.unpacked_images;
            if unpacked
                .iter()
                .any(|pattern| is_meant(pattern, &reference.to_string()))
            {
                target.unpack_layers();
            }
            let written = transfer::copy(&source, target, &options, &watch).await?;
            Ok((written.parse()?, written.digest))
        };
        let pulled = place.told(pulled, SAY).await;
        drop(turn);
        match pulled.map_err(|error| moved(reference, error))? {
            (AnyManifest::Manifest(manifest), digest) => {
                place.succeeded();
                Ok(manifest.id(&digest).to_owned())
            }
            (AnyManifest::Index(_), _) => Err(Error::invalid(
                "image",
                format!("{reference}: it is an index of nothing that runs here"),
            )),
        }
    }
}

/// Why an image did not come, by what it was asked for as.
fn moved(reference: &Reference, error: transfer::Error) -> Error {
    match error {
        transfer::Error::Registry(source) => trust::refused(reference, source),
        transfer::Error::Image(source) => trust::refused(reference, source),
        transfer::Error::Trust(source) => trust::refused(reference, source),
        transfer::Error::Store(source) => Error::Store(source),
        transfer::Error::Task(why) => Error::io("join", "pull")(std::io::Error::other(why)),
        transfer::Error::Place { why, .. } | transfer::Error::Missing { why, .. } => {
            Error::invalid("image", format!("{reference}: {why}"))
        }
        other => Error::invalid("image", format!("{reference}: {other}")),
    }
}

/// Whether another registry that a short name may mean would be of no use, or be asked against the policy.
fn is_last_word(error: &Error) -> bool {
    let of_a_registry = matches!(error, Error::Pull { .. } | Error::Invalid { .. });
    let of_a_layer = matches!(error, Error::Store(error) if !error.is_no_space());
    error.is_policy() || !(of_a_registry || of_a_layer)
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
