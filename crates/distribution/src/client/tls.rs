//! TLS: whom to believe (the system's CAs, certs.d), who to be (client certificates), and "insecure".
//!
//! containers-certs.d(5). Cryptography is ring's. Must never skip the check of a certificate unless
//! the registry is configured as insecure.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::tls_details::TlsDetails;
use crate::error::{Error, Result};

/// The most of a file in a directory of CAs, and of such files.
const LARGEST: u64 = 4 << 20;
const MOST_FILES: usize = 10_000;

/// What certs.d has for one registry.
#[derive(Debug)]
pub(super) struct HostCerts {
    dir: PathBuf,
    files: Vec<PathBuf>,
    /// Changes when a file does.
    pub(super) stamp: u64,
}

impl HostCerts {
    /// The first directory `DIR/HOST[:PORT]` that exists and may be read; the others are not looked at.
    /// With an `only` directory it is that one alone, `HOST[:PORT]` below it or itself.
    pub(super) fn find(
        dirs: &[PathBuf],
        only: Option<&PathBuf>,
        hosts: &[String],
    ) -> Result<Option<HostCerts>> {
        let below = |dir: &PathBuf| -> Vec<PathBuf> {
            let places = hosts.iter().map(|host| dir.join(host));
            places.filter(|place| place.is_dir()).collect()
        };
        if let Some(only) = only {
            let dir = below(only).into_iter().next();
            return HostCerts::read(dir.unwrap_or_else(|| only.clone())).map(Some);
        }
        for dir in dirs.iter().flat_map(below) {
            match HostCerts::read(dir) {
                // Other users' certificates are no reason to stop.
                Err(Error::Read { path, source })
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    tracing::debug!("{}: {source}", path.display());
                }
                found => return found.map(Some),
            }
        }
        Ok(None)
    }

    fn read(dir: PathBuf) -> Result<HostCerts> {
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
        Ok(HostCerts {
            dir,
            files,
            stamp: stamp.finish(),
        })
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

/// The CAs of the system: the first bundle that exists, and what is in these directories, where other
/// files lie as well. A machine without any (a bare container) gets Mozilla's, as built in.
pub(super) fn system_roots(bundles: &[PathBuf], dirs: &[PathBuf]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let bundle = bundles.iter().find(|bundle| bundle.is_file());
    if let Some(bundle) = bundle {
        let (_, skipped) = roots.add_parsable_certificates(certificates(bundle)?);
        if skipped > 0 {
            tracing::debug!(
                "{}: {skipped} certificates are not usable",
                bundle.display()
            );
        }
    }
    for dir in dirs {
        let files = fs::read_dir(dir).into_iter().flatten().flatten();
        let files = files.map(|entry| entry.path()).filter(|path| {
            fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST)
        });
        for file in files.take(MOST_FILES) {
            if let Ok(found) = certificates(&file) {
                roots.add_parsable_certificates(found);
            }
        }
    }
    if bundle.is_none() && dirs.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(roots)
}

/// The TLS configuration for one registry. `roots` are not looked at when it is insecure.
pub(super) fn config(
    details: &TlsDetails,
    roots: &RootCertStore,
    host: Option<&HostCerts>,
    insecure: bool,
) -> Result<ClientConfig> {
    let provider = Arc::new(details.provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(details.allowed())
        .map_err(|error| Error::Setup {
            cause: error.to_string(),
        })?;
    let builder = if insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(::tls::Unchecked(provider)))
    } else {
        let mut roots = roots.clone();
        let mut own = Vec::new();
        for file in host.iter().flat_map(|host| host.with_extension("crt")) {
            for certificate in certificates(file)? {
                roots
                    .add(certificate.clone())
                    .map_err(|error| broken(file, error))?;
                own.push(certificate);
            }
        }
        match own.is_empty() {
            true => builder.with_root_certificates(roots),
            false => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(OwnToo::new(roots, provider, own)?)),
        }
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

/// Checks certificates as ever, and also believes those that stand in certs.d themselves: a registry's
/// own certificate need not be one of a CA, nor may it be one for webpki.
#[derive(Debug)]
struct OwnToo {
    usual: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl OwnToo {
    fn new(
        roots: RootCertStore,
        provider: Arc<CryptoProvider>,
        own: Vec<CertificateDer<'static>>,
    ) -> Result<OwnToo> {
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let usual = usual.build().map_err(|error| Error::Setup {
            cause: error.to_string(),
        })?;
        Ok(OwnToo { usual, own })
    }

    /// What still counts for a certificate that is believed: its time, its use and its name.
    fn check(
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let refused = |error| Err(rustls::Error::InvalidCertificate(error));
        let Ok((_, read)) = X509Certificate::from_der(certificate) else {
            return refused(CertificateError::BadEncoding);
        };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < read.validity().not_before.timestamp() {
            return refused(CertificateError::NotValidYet);
        }
        if now > read.validity().not_after.timestamp() {
            return refused(CertificateError::Expired);
        }
        let for_servers = match read.extended_key_usage() {
            Ok(usage) => usage.is_none_or(|usage| usage.value.server_auth || usage.value.any),
            Err(_) => false,
        };
        if !for_servers {
            return refused(CertificateError::InvalidPurpose);
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
    }
}

impl ServerCertVerifier for OwnToo {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usual = self.usual.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match usual {
            Err(_) if self.own.contains(end_entity) => {
                OwnToo::check(end_entity, server_name, now)?;
                Ok(ServerCertVerified::assertion())
            }
            usual => usual,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
