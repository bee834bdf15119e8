//! The Distribution client (OCI distribution-spec v1.1, Docker Registry HTTP API V2).
//!
//! A [`Client`] is made once from a [`ClientConfig`] and cloned freely; it keeps connections, tokens
//! and what it learned about each registry. A pull asks for the [`manifest`](Client::manifest), which
//! tries the mirrors and then the registry, and then for each [`blob`](Client::blob) at the source
//! that answered. A push sends blobs first and the manifest last.
//!
//! Must never hand out bytes whose size and digest were not checked, and never wait or retry
//! without bound.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::{AuthFiles, Credentials};
use crate::error::{At, Attempt, Error, Result};
use crate::registries::{Registries, RegistriesPaths, Source};

mod answer;
mod blob;
mod challenge;
mod dns;
mod endpoint;
mod exchange;
mod file;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod locations;
mod offer;
mod patience;
mod proxy;
mod pull;
mod push;
mod referrers;
mod retry;
mod signatures;
mod tags;
mod tls;
mod tls_details;
mod token;
mod transport;
mod upload;
mod warning;

pub use blob::BlobStream;
pub use offer::{Offer, Opened};
pub use proxy::Proxies;
pub use pull::Fetched;
pub use push::BlobBody;
pub use retry::Retry;
pub use tls_details::TlsDetails;
pub use upload::BlobContent;
pub(crate) use warning::warn_of;
pub use warning::{Warnings, show_warnings};

use endpoint::Scheme;
use exchange::Repo;
use image::Reference;
use locations::Locations;
use token::Logins;
use transport::Transport;
use trust::RegistriesD;

/// Everything that a [`Client`] depends on.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Where images really come from.
    pub registries: Registries,
    /// Where logins are stored.
    pub auth: AuthFiles,
    /// Where signatures are.
    pub registries_d: RegistriesD,
    /// Directories with certificates by `host[:port]`; the first that has the host counts.
    pub certs_dirs: Vec<PathBuf>,
    /// A directory with the certificates of all registries that are asked, in place of these.
    pub cert_dir: Option<PathBuf>,
    /// Bundles of CA certificates; the first that exists counts.
    pub ca_bundles: Vec<PathBuf>,
    /// Directories with files of CA certificates, which all count. Without these and a bundle Mozilla's do.
    pub ca_dirs: Vec<PathBuf>,
    /// What of TLS may be used.
    pub tls: TlsDetails,
    /// The hosts file.
    pub hosts_file: PathBuf,
    /// The name servers.
    pub resolv_conf: PathBuf,
    /// Through whom registries are reached.
    pub proxies: Proxies,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// How long the head of an answer may take; of one to a request for a blob, as long as `stall_timeout`.
    /// What was waited for in vain is tried once more.
    pub answer_timeout: Duration,
    /// In this time 64 KiB of a body must come, or all that is left of it; a document must be whole in
    /// twice of it. There is no limit to a whole blob.
    pub stall_timeout: Duration,
    /// How often to try again.
    pub retry: Retry,
    /// The `User-Agent`.
    pub user_agent: String,
    /// The directory in which is remembered where blobs were seen, for mounts; without it only the
    /// client itself remembers.
    pub locations: Option<PathBuf>,
    /// Who is told when a registry warns.
    pub warnings: Warnings,
}

impl Default for ClientConfig {
    /// The system's certificates and name servers, and the environment's proxies; no registries.conf
    /// and no stored logins.
    fn default() -> ClientConfig {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
        let (ca_bundles, ca_dirs) = authorities(|name| std::env::var_os(name));
        ClientConfig {
            registries: Registries::default(),
            auth: AuthFiles::default(),
            registries_d: RegistriesD::default(),
            certs_dirs: paths(&["/etc/containers/certs.d", "/etc/docker/certs.d"]),
            cert_dir: None,
            ca_bundles,
            ca_dirs,
            tls: TlsDetails::default(),
            hosts_file: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            proxies: Proxies::from_env(|name| std::env::var_os(name)),
            connect_timeout: Duration::from_secs(15),
            answer_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            retry: Retry::default(),
            user_agent: concat!("floe/", env!("CARGO_PKG_VERSION")).to_owned(),
            locations: None,
            warnings: Warnings::default(),
        }
    }
}

impl ClientConfig {
    /// What the system's files and the environment say. `var` looks up a variable, as
    /// `std::env::var_os` does. Errors when registries.conf cannot be used.
    pub fn from_env(var: impl Fn(&str) -> Option<OsString>) -> Result<ClientConfig> {
        let (ca_bundles, ca_dirs) = authorities(&var);
        let mut config = ClientConfig {
            ca_bundles,
            ca_dirs,
            registries: Registries::load(&RegistriesPaths::from_env(&var))?,
            auth: AuthFiles::from_env(&var),
            registries_d: RegistriesD::load(&RegistriesD::default_dirs(&var))?,
            proxies: Proxies::from_env(&var),
            ..ClientConfig::default()
        };
        if let Some(home) = var("HOME").filter(|home| !home.is_empty()) {
            config
                .certs_dirs
                .insert(0, Path::new(&home).join(".config/containers/certs.d"));
        }
        Ok(config)
    }
}

/// The bundles and directories of CA certificates: the system's, or as Go's programs have it what
/// `SSL_CERT_FILE` names, with the system's directories, and what `SSL_CERT_DIR` names between colons.
fn authorities(var: impl Fn(&str) -> Option<OsString>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let given = |name: &str| var(name).filter(|value| !value.is_empty());
    let (file, dirs) = (given("SSL_CERT_FILE"), given("SSL_CERT_DIR"));
    let system: &[&str] = &["/etc/ssl/certs", "/etc/pki/tls/certs"];
    let dirs = match (&file, dirs) {
        (_, Some(dirs)) => std::env::split_paths(&dirs).collect(),
        (Some(_), None) => system.iter().map(PathBuf::from).collect(),
        (None, None) => Vec::new(),
    };
    let bundles: &[&str] = &[
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let bundles = match file {
        Some(file) => vec![file.into()],
        None => bundles.iter().map(PathBuf::from).collect(),
    };
    (bundles, dirs)
}

/// Talks to registries. Clones share connections and logins.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    transport: Transport,
    logins: Logins,
    /// What insecure registries turned out to speak.
    schemes: Mutex<HashMap<String, Scheme>>,
    /// Registries that turned out to be on this machine: they may lead to others on it.
    near: Mutex<HashSet<String>>,
    /// Mirrors that were waited for in vain, and until when they are passed over.
    slow: Mutex<HashMap<String, Instant>>,
    /// Where blobs were seen.
    locations: Locations,
    /// What registries have warned of.
    warned: warning::Shown,
}

/// How long a mirror that was waited for in vain is passed over.
const PASSED_OVER: Duration = Duration::from_secs(30);

/// What tokens are asked for.
const PULL: &str = "pull";
const PUSH: &str = "pull,push";
const ALL: &str = "*";

impl Client {
    /// A client. Nothing is read or connected yet.
    pub fn new(mut config: ClientConfig) -> Client {
        let order = config.registries.credential_helpers();
        config.auth = config.auth.in_order(order);
        let transport = Transport::new(&config);
        Client {
            inner: Arc::new(Inner {
                transport,
                locations: Locations::new(config.locations.clone()),
                logins: Logins::default(),
                schemes: Mutex::default(),
                near: Mutex::default(),
                slow: Mutex::default(),
                warned: warning::Shown::default(),
                config,
            }),
        }
    }

    /// The addresses of a host, as a connection would find them.
    ///
    /// # Errors
    /// Why there are none, in words.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        self.inner.transport.addresses(host).await
    }

    /// What the client was made from.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Inner {
    fn scheme(&self, domain: &str) -> Option<Scheme> {
        self.schemes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(domain)
            .copied()
    }

    fn remember_scheme(&self, domain: &str, scheme: Scheme) {
        self.schemes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(domain.to_owned(), scheme);
    }

    fn is_near(&self, domain: &str) -> bool {
        let near = self.near.lock().unwrap_or_else(PoisonError::into_inner);
        near.contains(domain)
    }

    fn remember_near(&self, domain: &str) {
        let mut near = self.near.lock().unwrap_or_else(PoisonError::into_inner);
        near.insert(domain.to_owned());
    }

    /// Who to be at one of several sources to pull from. A mirror that somebody was just waiting for in
    /// vain is an error at once.
    async fn turn(&self, source: &Source, given: &Credentials) -> Result<Repo> {
        let until = {
            let slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
            slow.get(source.reference.domain()).copied()
        };
        if source.mirror && until.is_some_and(|until| until > Instant::now()) {
            let at = At {
                subject: format!("manifest {}", source.reference).into(),
                endpoint: source.reference.domain().into(),
            };
            return Err(Error::Unreachable {
                at,
                cause: "it did not answer in time a moment ago".to_owned(),
                timed_out: false,
            });
        }
        self.repo(source, given, PULL).await
    }

    /// Remembers a mirror that was waited for in vain.
    fn note_slow(&self, source: &Source, error: &Error) {
        if source.mirror && error.is_timeout() {
            let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
            let until = Instant::now() + PASSED_OVER;
            slow.insert(source.reference.domain().to_owned(), until);
        }
    }

    /// Who to be at a source. Credentials that were given are the registry's own: a mirror gets
    /// only what is stored for it.
    async fn repo(
        &self,
        source: &Source,
        given: &Credentials,
        actions: &'static str,
    ) -> Result<Repo> {
        let stored = *given == Credentials::Stored || source.mirror;
        let credentials = match stored {
            true if *given == Credentials::Anonymous => Credentials::Anonymous,
            true => self.stored(&source.reference).await?,
            false => given.clone(),
        };
        Ok(Repo {
            source: source.clone(),
            credentials,
            actions,
            from: None,
        })
    }

    /// A credential helper may take its time: it runs where it is in nobody's way.
    async fn stored(&self, reference: &Reference) -> Result<Credentials> {
        if let Some(credentials) = self.config.auth.lookup_now(reference)? {
            return Ok(credentials);
        }
        let (auth, reference) = (self.config.auth.clone(), reference.clone());
        let asked = tokio::task::spawn_blocking(move || auth.lookup(&reference)).await;
        asked.map_err(|error| Error::Setup {
            cause: format!("ask a credential helper: {error}"),
        })?
    }

    async fn push_repo(&self, reference: &Reference, given: &Credentials) -> Result<Repo> {
        let source = self.config.registries.push_target(reference)?;
        self.repo(&source, given, PUSH).await
    }
}

/// The sources of an image that failed so far.
struct Trail {
    reference: String,
    attempts: Vec<Attempt>,
}

impl Trail {
    fn new(reference: &Reference) -> Trail {
        Trail {
            reference: reference.to_string(),
            attempts: Vec::new(),
        }
    }

    fn failed(&mut self, inner: &Inner, source: Source, error: Error) {
        inner.note_slow(&source, &error);
        if source.mirror {
            tracing::info!(
                "mirror {} is passed over: {error}",
                source.reference.domain()
            );
        }
        self.attempts.push(Attempt { source, error });
    }

    /// The only error as it is, or all of them.
    fn into_error(mut self) -> Error {
        match (self.attempts.pop(), self.attempts.is_empty()) {
            (Some(only), true) => only.error,
            (last, _) => {
                self.attempts.extend(last);
                Error::AllSourcesFailed {
                    reference: self.reference,
                    attempts: self.attempts,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Descriptor;

    /// The engine pulls layers in spawned tasks.
    #[test]
    fn what_the_client_does_can_be_spawned() {
        fn spawnable<T: Send>(_: &T) {}
        let client = Client::new(ClientConfig::default());
        let reference = Reference::parse("a.example/x").expect("is a reference");
        let nobody = Credentials::Anonymous;
        let descriptor = Descriptor::of("a/b".into(), b"");
        let source = Source::direct(reference.clone());
        spawnable(&client);
        spawnable(&client.manifest(&reference, &nobody));
        spawnable(&client.blob(&source, &descriptor, &nobody));
        spawnable(&client.tags(&reference, &nobody));
        let body = BlobBody::Bytes(bytes::Bytes::new());
        spawnable(&client.push_blob(&reference, &descriptor, body, &nobody));
    }
}
