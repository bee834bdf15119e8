//! HTTPS: certificates are checked, certs.d adds to what is believed, "insecure" means it, and HTTP/2
//! is spoken where the registry does.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::support::{NOBODY, Server, config, failure, insecure, manifest, only_manifest};
use distribution::{Client, ClientConfig, Error};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use image::{MediaType, Reference};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::Body;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

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
        let config = self.server(name, clients);
        Server::start_with(only_manifest, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    fn server(&self, name: &str, clients: Option<&Ca>) -> rustls::ServerConfig {
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
        builder
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap()
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

/// A server with a certificate that vouches for itself; and the certificate.
async fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> (Server, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    change(&mut params);
    let cert = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = builder
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    (
        Server::start_with(only_manifest, Some(tls)).await,
        cert.pem(),
    )
}

#[tokio::test]
async fn a_certificate_that_stands_in_certs_d_itself_is_believed() {
    for is_ca in [
        IsCa::Ca(BasicConstraints::Unconstrained),
        IsCa::ExplicitNoCa,
        IsCa::NoCa,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (server, pem) = self_signed(|params| params.is_ca = is_ca).await;
        let settings = with_certs(&server, dir.path(), &[("server.crt", &pem)]);
        pull(settings, &server).await.unwrap();
        // As does one of `--cert-dir`, which has no directories for registries.
        let mut settings = config("");
        settings.cert_dir = Some(dir.path().join(server.domain()));
        pull(settings, &server).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_of_certs_d_counts_for_its_time_its_use_and_its_name_only() {
    let ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (flaw, words) in [
        ("name", "not valid for"),
        ("time", "Expired"),
        ("early", "NotValidYet"),
        ("use", "InvalidPurpose"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (server, pem) = self_signed(|params| {
            params.is_ca = ca;
            match flaw {
                "name" => params.subject_alt_names.clear(),
                "time" => params.not_after = rcgen::date_time_ymd(2020, 1, 1),
                "early" => params.not_before = rcgen::date_time_ymd(4000, 1, 1),
                _ => {
                    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
                }
            }
        })
        .await;
        let settings = with_certs(&server, dir.path(), &[("server.crt", &pem)]);
        let error = failure(pull(settings, &server).await).to_string();
        assert!(error.contains(words), "{flaw}: {error}");
    }
    // Another registry's is nobody's here.
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = self_signed(|params| params.is_ca = ca).await;
    let (_, other) = self_signed(|params| params.is_ca = ca).await;
    let settings = with_certs(&server, dir.path(), &[("server.crt", &other)]);
    let error = failure(pull(settings, &server).await).to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert!(error.contains("--cert-dir"), "{error}");
}

#[tokio::test]
async fn the_environment_says_who_is_believed() {
    let ca = Ca::new();
    let dir = tempfile::tempdir().unwrap();
    let server = ca.serve("127.0.0.1", None).await;
    let place = |name: &str| dir.path().join(name);
    fs::create_dir(place("dir")).unwrap();
    fs::create_dir(place("empty")).unwrap();
    fs::write(place("dir/own.pem"), ca.0.pem()).unwrap();
    fs::write(place("dir/README"), "not a certificate").unwrap();
    let dirs = format!("{}:{}", place("empty").display(), place("dir").display());
    for (name, value, believed) in [
        (
            "SSL_CERT_FILE",
            place("dir/own.pem").display().to_string(),
            true,
        ),
        ("SSL_CERT_DIR", dirs, true),
        ("SSL_CERT_DIR", place("empty").display().to_string(), false),
    ] {
        let from_env = ClientConfig::from_env(|asked| match asked {
            "CONTAINERS_REGISTRIES_CONF" => Some("/dev/null".into()),
            "HOME" | "XDG_CONFIG_HOME" => Some(dir.path().into()),
            asked => (asked == name).then(|| value.clone().into()),
        });
        let from_env = from_env.unwrap();
        let settings = ClientConfig {
            ca_bundles: from_env.ca_bundles,
            ca_dirs: from_env.ca_dirs,
            ..config("")
        };
        let pulled = pull(settings, &server).await;
        assert_eq!(pulled.is_ok(), believed, "{name}={value}: {pulled:?}");
    }
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

/// Serves `manifest()` over HTTP/2 alone to the only client of one connection.
async fn serve_two(listener: TcpListener, tls: TlsAcceptor) {
    let (stream, _) = listener.accept().await.unwrap();
    drop(listener);
    let stream = TokioIo::new(tls.accept(stream).await.unwrap());
    assert_eq!(stream.inner().get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let service = service_fn(|request: hyper::Request<Incoming>| async move {
        assert_eq!(request.version(), hyper::Version::HTTP_2);
        let answer = hyper::Response::builder()
            .header("Content-Type", MediaType::OciManifest.as_str())
            .body(Body::from(manifest()));
        Ok::<_, hyper::Error>(answer.unwrap())
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    served.serve_connection(stream, service).await.unwrap();
}

#[tokio::test]
async fn a_registry_with_http_two_answers_all_requests_over_one_connection() {
    let ca = Ca::new();
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("bundle.pem");
    fs::write(&bundle, ca.0.pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let domain = listener.local_addr().unwrap().to_string();
    let mut tls = ca.server("127.0.0.1", None);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = tokio::spawn(serve_two(listener, TlsAcceptor::from(Arc::new(tls))));
    let client = Client::new(ClientConfig {
        ca_bundles: vec![bundle],
        ..config("")
    });
    let name = |tag: u32| Reference::parse(&format!("{domain}/x:{tag}")).unwrap();
    client.manifest(&name(0), NOBODY).await.unwrap();
    let all = (1..9).map(async |tag| client.manifest(&name(tag), NOBODY).await);
    for manifest in futures_util::future::join_all(all).await {
        manifest.unwrap();
    }
    drop(client);
    server.await.unwrap();
}
