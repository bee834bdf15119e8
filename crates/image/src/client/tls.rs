//! TLS: whom to believe (the system's CAs, certs.d), who to be (client certificates), and "insecure".
//!
//! containers-certs.d(5). Cryptography is ring's. Must never skip the check of a certificate unless
//! the registry is configured as insecure.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Result};

/// What certs.d has for one registry.
#[derive(Debug)]
pub(super) struct HostCerts {
    dir: PathBuf,
    files: Vec<PathBuf>,
    /// Changes when a file does.
    pub(super) stamp: u64,
}

impl HostCerts {
    /// The first directory `DIR/HOST[:PORT]` that exists; the others are not looked at.
    pub(super) fn find(dirs: &[PathBuf], hosts: &[String]) -> Result<Option<HostCerts>> {
        for dir in dirs
            .iter()
            .flat_map(|dir| hosts.iter().map(move |host| dir.join(host)))
        {
            if !dir.is_dir() {
                continue;
            }
            let failed = |source| Error::Read {
                path: dir.clone(),
                source,
            };
            let mut files = Vec::new();
            let mut stamp = DefaultHasher::new();
            for entry in fs::read_dir(&dir).map_err(failed)? {
                files.push(entry.map_err(failed)?.path());
            }
            files.sort();
            for file in &files {
                let meta = fs::metadata(file).map_err(failed)?;
                (file, meta.len(), meta.modified().ok()).hash(&mut stamp);
            }
            return Ok(Some(HostCerts {
                dir,
                files,
                stamp: stamp.finish(),
            }));
        }
        Ok(None)
    }

    fn with_extension(&self, extension: &str) -> impl Iterator<Item = &PathBuf> {
        self.files
            .iter()
            .filter(move |file| file.extension().is_some_and(|e| e == extension))
    }

    /// The one client certificate with its key, if there is one.
    fn identity(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
        for key in self.with_extension("key") {
            let cert = key.with_extension("cert");
            if !self.files.contains(&cert) {
                return Err(broken(
                    key,
                    "the client certificate of the same name, .cert, is missing",
                ));
            }
        }
        let mut certs = self.with_extension("cert");
        let Some(cert) = certs.next() else {
            return Ok(None);
        };
        if let Some(second) = certs.next() {
            return Err(broken(
                second,
                "only one client certificate can be used for a registry",
            ));
        }
        let key = cert.with_extension("key");
        if !self.files.contains(&key) {
            return Err(broken(cert, "the key of the same name, .key, is missing"));
        }
        let key_bytes = fs::read(&key).map_err(|source| Error::Read {
            path: key.clone(),
            source,
        })?;
        let key = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|error| broken(&key, error))?;
        Ok(Some((certificates(cert)?, key)))
    }
}

fn broken(path: &Path, cause: impl ToString) -> Error {
    Error::Certificate {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let list = list.map_err(|error| broken(path, error))?;
    if list.is_empty() {
        return Err(broken(path, "there is no PEM certificate in it"));
    }
    Ok(list)
}

/// The CAs of the system: the first bundle that exists. A machine without any (a bare container)
/// gets Mozilla's, as built in.
pub(super) fn system_roots(bundles: &[PathBuf]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match bundles.iter().find(|bundle| bundle.is_file()) {
        Some(bundle) => {
            let (_, skipped) = roots.add_parsable_certificates(certificates(bundle)?);
            if skipped > 0 {
                tracing::debug!(
                    "{}: {skipped} certificates are not usable",
                    bundle.display()
                );
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    Ok(roots)
}

/// The TLS configuration for one registry. `roots` are not looked at when it is insecure.
pub(super) fn config(
    roots: &RootCertStore,
    host: Option<&HostCerts>,
    insecure: bool,
) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Setup {
            cause: error.to_string(),
        })?;
    let builder = if insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
    } else {
        let mut roots = roots.clone();
        for file in host.iter().flat_map(|host| host.with_extension("crt")) {
            for certificate in certificates(file)? {
                roots
                    .add(certificate)
                    .map_err(|error| broken(file, error))?;
            }
        }
        builder.with_root_certificates(roots)
    };
    let mut config = match host.map(HostCerts::identity).transpose()?.flatten() {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            let dir = host.map(|host| host.dir.clone()).unwrap_or_default();
            broken(&dir, error)
        })?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Believes every certificate, as `insecure = true` asks. The handshake's signature is still
/// checked: the peer must have the key of the certificate that it shows.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
