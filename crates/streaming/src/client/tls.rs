//! TLS of a stream's client.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::{Error, Tls};

/// What makes a connection a TLS one.
///
/// # Errors
/// Files that cannot be read, or hold no certificates and keys.
pub(super) fn connector(tls: &Tls) -> Result<TlsConnector, Error> {
    let provider = Arc::new(ring::default_provider());
    let flawed = |error: rustls::Error| Error::Tls(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(flawed)?;
    let builder = match (&tls.authority, &tls.identity) {
        (Some(authority), _) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(authority)? {
                roots.add(certificate).map_err(flawed)?;
            }
            builder.with_root_certificates(roots)
        }
        (None, Some(_)) => {
            let why = "a certificate without an authority: give --tls-ca too";
            return Err(Error::Tls(why.to_owned()));
        }
        (None, None) => builder
            .dangerous()
            // The runtime named the address over its own socket.
            .with_custom_certificate_verifier(Arc::new(::tls::Unchecked(provider))),
    };
    let config = match &tls.identity {
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| Error::Tls(format!("{}: {error}", key.display())))?;
            builder.with_client_auth_cert(chain, key).map_err(flawed)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name that the server must have.
///
/// # Errors
/// One that is no host's.
pub(super) fn name(tls: &Tls) -> Result<ServerName<'static>, Error> {
    let name = tls.server_name.clone();
    ServerName::try_from(name)
        .map_err(|error| Error::Tls(format!("{:?}: {error}", tls.server_name)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let flawed = |error| Error::Tls(format!("{}: {error}", path.display()));
    let all = CertificateDer::pem_file_iter(path).map_err(flawed)?;
    all.collect::<Result<_, _>>().map_err(flawed)
}
