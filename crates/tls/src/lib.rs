//! TLS of what floe serves (the registry, CRI's streams): a certificate, which may be renewed while it is
//! served, and optionally the CA that clients' certificates must be from. Of what floe is a client of, only
//! [`Unchecked`] is here, which several clients need.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")
)]

mod rules;
mod unchecked;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

pub use rules::Rules;
pub use unchecked::Unchecked;

/// What is wrong with one of the files.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {reason}", path.display())]
pub struct Error {
    /// What the file is for.
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why it cannot be used.
    pub reason: String,
}

type Result<T> = std::result::Result<T, Error>;

/// Files of TLS, and what is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificate and those between it and the CA, PEM; read again when it changes.
    pub certificate: PathBuf,
    /// Its private key, PEM; likewise.
    pub key: PathBuf,
    /// CAs that must have signed each client's certificate, PEM.
    pub client_ca: Option<PathBuf>,
    /// What clients have to speak.
    pub rules: Rules,
}

impl TlsOptions {
    /// What serves with these files, to clients that speak one of the `protocols` (ALPN).
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be, or a key of another certificate.
    pub fn config(&self, protocols: &[&str]) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(self.rules.provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.rules.versions(&provider))
            .map_err(|e| setting("TLS certificate", &self.certificate, &e))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in certificates("TLS client CA", path)? {
                    let added = roots.add(root);
                    added.map_err(|e| setting("TLS client CA", path, &e))?;
                }
                let roots = Arc::new(roots);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let verifier = verifier.build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|e| setting("TLS client CA", path, &e))?,
                )
            }
        };
        let identity = Identity::open(self.clone(), provider)?;
        let mut config = builder.with_cert_resolver(Arc::new(identity));
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Ok(Arc::new(config))
    }

    /// When the files were last changed.
    fn changed(&self) -> [Option<SystemTime>; 2] {
        let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
        [modified(&self.certificate), modified(&self.key)]
    }

    /// The certificate with its key; they must belong together.
    fn load(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>> {
        let chain = certificates("TLS certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key);
        let key = key.map_err(|e| setting("TLS key", &self.key, &e))?;
        CertifiedKey::from_der(chain, key, provider)
            .map(Arc::new)
            .map_err(|e| setting("TLS certificate", &self.certificate, &e))
    }
}

/// What the server shows of itself: the newest certificate that could be read with its key.
#[derive(Debug)]
struct Identity {
    options: TlsOptions,
    provider: Arc<CryptoProvider>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    seen: [Option<SystemTime>; 2],
    key: Arc<CertifiedKey>,
}

impl Identity {
    fn open(options: TlsOptions, provider: Arc<CryptoProvider>) -> Result<Identity> {
        let seen = options.changed();
        let key = options.load(&provider)?;
        Ok(Identity {
            options,
            provider,
            current: Mutex::new(Current { seen, key }),
        })
    }
}

impl ResolvesServerCert for Identity {
    /// Looks at the files first. One that is being replaced does no harm: it is tried again when it
    /// has changed once more.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.options.changed();
        if changed != current.seen {
            current.seen = changed;
            match self.options.load(&self.provider) {
                Ok(key) => {
                    tracing::info!(certificate = %self.options.certificate.display(), "TLS certificate renewed");
                    current.key = key;
                }
                Err(error) => tracing::warn!("the TLS certificate stays as it was: {error}"),
            }
        }
        Some(Arc::clone(&current.key))
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect())
        .map_err(|e| setting(what, path, &e))
}

fn setting(what: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error {
        what,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
