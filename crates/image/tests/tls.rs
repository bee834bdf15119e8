//! HTTPS: certificates are checked, certs.d adds to what is believed, and "insecure" means it.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use image::{Client, ClientConfig, Credentials, Error};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use support::{Server, config, failure, insecure, only_manifest};
use tokio_rustls::TlsAcceptor;

const NOBODY: &Credentials = &Credentials::Anonymous;

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// A server for `name`, which asks clients for a certificate of `clients` if that is given.
    async fn serve(&self, name: &str, clients: Option<&Ca>) -> Server {
        let (cert, key) = self.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(ca.0.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = builder
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        Server::start_with(only_manifest, Some(TlsAcceptor::from(Arc::new(config)))).await
    }
}

/// Settings whose certs.d has these files for the server.
fn with_certs(server: &Server, dir: &Path, files: &[(&str, &str)]) -> ClientConfig {
    let own = dir.join(server.domain());
    fs::create_dir_all(&own).unwrap();
    for (name, text) in files {
        fs::write(own.join(name), text).unwrap();
    }
    let mut settings = config("");
    settings.certs_dirs = vec![dir.to_owned()];
    settings
}

async fn pull(settings: ClientConfig, server: &Server) -> Result<(), Error> {
    Client::new(settings)
        .manifest(&server.reference("x"), NOBODY)
        .await
        .map(|_| ())
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_unless_the_registry_is_insecure() {
    let ca = Ca::new();
    let server = ca.serve("127.0.0.1", None).await;
    let error = failure(pull(config(""), &server).await);
    assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().contains("invalid peer certificate"),
        "{error}"
    );
    assert!(server.log().is_empty());
    pull(config(&insecure(&server)), &server).await.unwrap();
}

#[tokio::test]
async fn certs_d_adds_a_ca_for_one_registry() {
    let ca = Ca::new();
    let dir = tempfile::tempdir().unwrap();
    let server = ca.serve("127.0.0.1", None).await;
    let files = [("ca.crt", ca.0.pem())];
    let settings = with_certs(&server, dir.path(), &[(files[0].0, files[0].1.as_str())]);
    pull(settings.clone(), &server).await.unwrap();
    let other = ca.serve("127.0.0.1", None).await;
    let error = failure(pull(settings.clone(), &other).await);
    assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    let wrong_name = ca.serve("registry.example", None).await;
    let settings = with_certs(
        &wrong_name,
        dir.path(),
        &[(files[0].0, files[0].1.as_str())],
    );
    let error = failure(pull(settings, &wrong_name).await);
    assert!(error.to_string().contains("not valid for"), "{error}");
}

#[tokio::test]
async fn the_systems_bundle_is_believed() {
    let ca = Ca::new();
    let dir = tempfile::tempdir().unwrap();
    let server = ca.serve("127.0.0.1", None).await;
    let bundle = dir.path().join("bundle.pem");
    fs::write(&bundle, format!("# a comment\n{}", ca.0.pem())).unwrap();
    let mut settings = config("");
    settings.ca_bundles = vec![dir.path().join("missing.pem"), bundle];
    pull(settings, &server).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let dir = tempfile::tempdir().unwrap();
    let server = ca.serve("127.0.0.1", Some(&clients)).await;
    let authority = ca.0.pem();
    let settings = with_certs(&server, dir.path(), &[("ca.crt", &authority)]);
    assert!(pull(settings.clone(), &server).await.is_err());
    let client = Client::new(settings.clone());
    assert!(
        client
            .manifest(&server.reference("x"), NOBODY)
            .await
            .is_err()
    );

    let (cert, key) = clients.issue("node-1");
    let (cert, key) = (cert.pem(), key.serialize_pem());
    with_certs(
        &server,
        dir.path(),
        &[("client.cert", &cert), ("client.key", &key)],
    );
    pull(settings, &server).await.unwrap();
    // A client that lives on sees the new files too.
    client
        .manifest(&server.reference("x"), NOBODY)
        .await
        .unwrap();
}

#[tokio::test]
async fn broken_certificates_are_named() {
    let server = Ca::new().serve("127.0.0.1", None).await;
    for (files, part) in [
        (vec![("ca.crt", "nonsense")], "ca.crt"),
        (vec![("client.cert", "nonsense")], ".key, is missing"),
        (vec![("client.key", "nonsense")], ".cert, is missing"),
        (
            vec![("client.key", "nonsense"), ("client.cert", "x")],
            "client.key",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let error = failure(pull(with_certs(&server, dir.path(), &files), &server).await);
        assert!(matches!(&error, Error::Certificate { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
