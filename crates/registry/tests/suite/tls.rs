//! TLS: the server's certificate, its renewal, and certificates of clients.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use std::time::{Duration, SystemTime};

use crate::support::{Ca, Registry, client, refused};
use rcgen::KeyPair;
use reqwest::{Method, StatusCode};
use tempfile::TempDir;

fn dir() -> TempDir {
    TempDir::with_prefix("floe-registry-tls-").unwrap()
}

/// A server with a certificate of `ca`, and a client that trusts it.
fn with_tls(ca: &Ca, options: &[&str], dir: TempDir, identity: Option<String>) -> Registry {
    let (certificate, key) = ca.issue("127.0.0.1");
    std::fs::write(dir.path().join("cert"), certificate.pem()).unwrap();
    std::fs::write(dir.path().join("key"), key.serialize_pem()).unwrap();
    let mut all = vec!["--tls-cert", "{dir}/cert", "--tls-key", "{dir}/key"];
    all.extend(options);
    let mut registry = Registry::in_dir(dir, &all);
    let root = reqwest::Certificate::from_pem(ca.0.pem().as_bytes()).unwrap();
    let mut builder = client().tls_certs_only([root]);
    if let Some(identity) = identity {
        builder = builder.identity(reqwest::Identity::from_pem(identity.as_bytes()).unwrap());
    }
    registry.client = builder.build().unwrap();
    registry.scheme = "https";
    registry
}

#[tokio::test]
async fn everything_goes_over_tls() {
    let ca = Ca::new();
    let registry = with_tls(&ca, &[], dir(), None);
    let image = registry.push_image("a", "v1", "x").await;
    let answer = registry.get("/v2/a/manifests/v1").await;
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.bytes().await.unwrap(), image.bytes);
    let plain = registry.raw(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(!plain.contains("200"), "{plain}");
}

#[tokio::test]
async fn a_client_without_the_right_certificate_is_refused() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let options = ["--tls-client-ca", "{dir}/clients"];
    let start = |by: Option<&Ca>| {
        let dir = dir();
        clients.write(dir.path(), "clients");
        let identity = by.map(|by| {
            let (certificate, key) = by.issue("someone");
            format!("{}{}", certificate.pem(), key.serialize_pem())
        });
        with_tls(&ca, &options, dir, identity)
    };
    let known = start(Some(&clients));
    assert_eq!(known.get("/v2/").await.status(), StatusCode::OK);
    for stranger in [start(None), start(Some(&ca))] {
        let asked = stranger.ask(Method::GET, "/v2/").send().await;
        asked.expect_err("no certificate of the clients' CA");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let (old, new) = (Ca::new(), Ca::new());
    let registry = with_tls(&old, &[], dir(), None);
    assert_eq!(registry.get("/v2/").await.status(), StatusCode::OK);
    let (certificate, key) = new.issue("127.0.0.1");
    let change = |file: &str, text: &str, seconds| {
        let path = registry.dir().join(file);
        std::fs::write(&path, text).unwrap();
        let file = std::fs::File::options().append(true).open(path).unwrap();
        let moment = SystemTime::now() + Duration::from_secs(seconds);
        file.set_modified(moment).unwrap();
    };
    change("cert", &certificate.pem(), 10);
    // The key does not fit yet: the old one is shown with its certificate.
    assert_eq!(registry.get("/v2/").await.status(), StatusCode::OK);
    change("key", &key.serialize_pem(), 20);
    let root = reqwest::Certificate::from_pem(new.0.pem().as_bytes()).unwrap();
    let trusting = client().tls_certs_only([root]).build().unwrap();
    let answer = trusting.get(registry.url("/v2/")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // A client that resumes no session.
    let root = reqwest::Certificate::from_pem(old.0.pem().as_bytes()).unwrap();
    let trusting = client().tls_certs_only([root]).build().unwrap();
    let asked = trusting.get(registry.url("/v2/")).send().await;
    asked.expect_err("the old certificate is shown no more");
}

#[test]
fn certificates_that_cannot_be_used_are_an_error_at_the_start() {
    let dir = dir();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (certificate, _) = Ca::new().issue("127.0.0.1");
    std::fs::write(path("cert"), certificate.pem()).unwrap();
    std::fs::write(path("key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let start = |cert: &str, key: &str| {
        refused(
            &dir.path().join("registry"),
            &["--tls-cert", &path(cert), "--tls-key", &path(key)],
        )
    };
    assert!(
        start("cert", "key").contains("TLS certificate"),
        "not of this key"
    );
    assert!(start("cert", "cert").contains("TLS key"), "no key");
    assert!(start("none", "key").contains("TLS certificate"), "missing");
}
