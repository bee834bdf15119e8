//! TLS of the server: its certificate, and optionally the CA that clients' certificates must be from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::error::{Error, Result};

/// Files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificate and those between it and the CA, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// CAs that must have signed each client's certificate, PEM.
    pub client_ca: Option<PathBuf>,
}

impl TlsOptions {
    pub(crate) fn config(&self) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = certificates("TLS certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| setting("TLS key", &self.key, &e))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| setting("TLS certificate", &self.certificate, &e))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in self::certificates("TLS client CA", path)? {
                    roots
                        .add(root)
                        .map_err(|e| setting("TLS client CA", path, &e))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = verifier
                    .build()
                    .map_err(|e| setting("TLS client CA", path, &e))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|e| setting("TLS certificate", &self.certificate, &e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect())
        .map_err(|e| setting(what, path, &e))
}

fn setting(what: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Setting {
        what,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
