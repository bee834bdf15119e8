//! Who may do what: htpasswd and tokens.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Ca, Registry, header, is_error, refused};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::KeyPair;
use reqwest::{Method, Response, StatusCode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

/// bcrypt of `secret`.
const SECRET: &str = "$2b$04$l7ehwwnP93K9r9E19eIBe.dudrHKD.nOApuV2j5NO1DLmby9EYiiG";

fn dir() -> TempDir {
    TempDir::with_prefix("floe-registry-auth-").unwrap()
}

fn with_users(users: &str) -> Registry {
    let dir = dir();
    std::fs::write(dir.path().join("users"), users).unwrap();
    Registry::in_dir(dir, &["--auth-htpasswd", "{dir}/users"])
}

async fn login(registry: &Registry, user: &str, password: &str) -> Response {
    let request = registry
        .ask(Method::GET, "/v2/")
        .basic_auth(user, Some(password));
    request.send().await.unwrap()
}

#[tokio::test]
async fn only_users_with_their_password_are_let_in() {
    let registry = with_users(&format!("# users\nfloe:{SECRET}\n"));
    let answer = registry.get("/v2/").await;
    assert!(header(&answer, "www-authenticate").starts_with("Basic realm="));
    is_error(answer, 401, "UNAUTHORIZED").await;
    for (user, password) in [
        ("floe", "wrong"),
        ("nobody", "secret"),
        ("", ""),
        ("floe", ""),
    ] {
        is_error(login(&registry, user, password).await, 401, "UNAUTHORIZED").await;
    }
    // The second time it is remembered.
    for _ in 0..2 {
        assert_eq!(
            login(&registry, "floe", "secret").await.status(),
            StatusCode::OK
        );
    }
    is_error(login(&registry, "floe", "wrong").await, 401, "UNAUTHORIZED").await;
    for header in ["Basic !!!", "Basic", "Bearer x", "Basic bm9jb2xvbg=="] {
        let request = registry
            .ask(Method::GET, "/v2/")
            .header("authorization", header);
        is_error(request.send().await.unwrap(), 401, "UNAUTHORIZED").await;
    }
}

#[tokio::test]
async fn nothing_is_told_or_done_without_a_login() {
    let registry = with_users(&format!("floe:{SECRET}\n"));
    let digest = image::Digest::of(b"x");
    for (method, path) in [
        (Method::GET, "/".to_owned()),
        (Method::GET, "/repository/a".to_owned()),
        (Method::GET, "/v2/_catalog".to_owned()),
        (Method::GET, "/v2/a/tags/list".to_owned()),
        (Method::HEAD, "/v2/a/manifests/v1".to_owned()),
        (Method::GET, format!("/v2/a/blobs/{digest}")),
        (Method::GET, format!("/v2/a/referrers/{digest}")),
        (Method::POST, "/v2/a/blobs/uploads/".to_owned()),
        (Method::PUT, "/v2/a/manifests/v1".to_owned()),
        (Method::DELETE, "/v2/a/manifests/v1".to_owned()),
    ] {
        let answer = registry.ask(method, &path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    assert!(registry.files("uploads").is_empty());
}

#[tokio::test]
async fn a_changed_users_file_counts_at_once() {
    let registry = with_users(&format!("floe:{SECRET}\n"));
    assert_eq!(
        login(&registry, "floe", "secret").await.status(),
        StatusCode::OK
    );
    let path = registry.dir().join("users");
    let change = |text: &str, seconds| {
        std::fs::write(&path, text).unwrap();
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(seconds))
            .unwrap();
    };
    change(&format!("new:{SECRET}\n"), 10);
    assert_eq!(
        login(&registry, "new", "secret").await.status(),
        StatusCode::OK
    );
    assert_eq!(
        login(&registry, "floe", "secret").await.status(),
        StatusCode::UNAUTHORIZED
    );
    // A broken file locks nobody out.
    change("new\n", 20);
    assert_eq!(
        login(&registry, "new", "secret").await.status(),
        StatusCode::OK
    );
}

#[test]
fn a_users_file_that_cannot_be_used_is_an_error_at_the_start() {
    let dir = dir();
    let users = dir.path().join("users");
    let root = dir.path().join("registry");
    let said = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::write(&users, text).unwrap();
        }
        refused(&root, &["--auth-htpasswd", users.to_str().unwrap()])
    };
    assert!(said(None).contains("htpasswd file"), "missing");
    let plain = said(Some("floe:{SHA}abc\n"));
    assert!(plain.contains("line 1: only bcrypt hashes"), "{plain}");
    let none = said(Some("\n\nfloe\n"));
    assert!(none.contains("line 3 is not user:hash"), "{none}");
}

/// Signs tokens as a token server does.
struct Issuer(KeyPair);

impl Issuer {
    fn new() -> Issuer {
        Issuer(KeyPair::generate().unwrap())
    }

    fn sign(&self, header: Value, claims: &Value) -> String {
        let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(json).unwrap());
        let message = format!("{}.{}", part(&header), part(claims));
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &self.0.serialize_der(), &random).unwrap();
        let signature = key.sign(&random, message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(json!({ "alg": "ES256", "typ": "JWT" }), claims)
    }

    fn key_set(&self) -> String {
        let point = self.0.public_key_raw().to_vec();
        let half = |range: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(range);
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1",
            "x": half(&point[1..33]), "y": half(&point[33..]) }] })
        .to_string()
    }
}

fn claims(name: &str, actions: &[&str]) -> Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    json!({ "iss": "issuer", "aud": "floe", "sub": "someone", "exp": now + 300, "nbf": now - 10,
        "access": [{ "type": "repository", "name": name, "actions": actions }] })
}

fn with_keys(keys: &str) -> Registry {
    let dir = dir();
    std::fs::write(dir.path().join("keys"), keys).unwrap();
    Registry::in_dir(dir, &TOKENS)
}

const TOKENS: [&str; 8] = [
    "--auth-token-realm",
    "https://auth.example/token",
    "--auth-token-service",
    "floe",
    "--auth-token-issuer",
    "issuer",
    "--auth-token-key",
    "{dir}/keys",
];

async fn ask(registry: &Registry, method: Method, path: &str, token: &str) -> Response {
    registry
        .ask(method, path)
        .bearer_auth(token)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_challenge_says_where_to_get_which_token() {
    let registry = with_keys(&Issuer::new().key_set());
    for (method, path, scope) in [
        (Method::GET, "/v2/", ""),
        (
            Method::GET,
            "/v2/a/b/tags/list",
            ",scope=\"repository:a/b:pull\"",
        ),
        (
            Method::POST,
            "/v2/a/b/blobs/uploads/",
            ",scope=\"repository:a/b:pull,push\"",
        ),
        (
            Method::DELETE,
            "/v2/a/b/manifests/x",
            ",scope=\"repository:a/b:pull,delete\"",
        ),
        (Method::GET, "/v2/_catalog", ",scope=\"registry:catalog:*\""),
    ] {
        let answer = registry.ask(method, path).send().await.unwrap();
        let challenge = header(&answer, "www-authenticate");
        let expected =
            format!("Bearer realm=\"https://auth.example/token\",service=\"floe\"{scope}");
        assert_eq!(challenge, expected);
        is_error(answer, 401, "UNAUTHORIZED").await;
    }
}

#[tokio::test]
async fn a_token_allows_what_it_says_and_no_more() {
    let issuer = Issuer::new();
    let registry = with_keys(&issuer.0.public_key_pem());
    let pull = issuer.token(&claims("a", &["pull"]));
    let push = issuer.token(&claims("a", &["pull", "push"]));
    let all = issuer.token(&claims("a", &["*"]));
    let uploads = "/v2/a/blobs/uploads/";
    let refused = ask(&registry, Method::POST, uploads, &pull).await;
    assert!(header(&refused, "www-authenticate").contains("error=\"insufficient_scope\""));
    is_error(refused, 401, "UNAUTHORIZED").await;
    let begun = ask(&registry, Method::POST, uploads, &push).await;
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    let elsewhere = ask(&registry, Method::POST, "/v2/b/blobs/uploads/", &push).await;
    assert_eq!(elsewhere.status(), StatusCode::UNAUTHORIZED);
    let digest = image::Digest::of(b"x");
    let path = format!("{}?digest={digest}", header(&begun, "location"));
    let put = registry
        .ask(Method::PUT, &path)
        .bearer_auth(&push)
        .body("x");
    assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    let blob = format!("/v2/a/blobs/{digest}");
    assert_eq!(
        ask(&registry, Method::GET, &blob, &pull).await.status(),
        StatusCode::OK
    );
    assert_eq!(
        ask(&registry, Method::DELETE, &blob, &push).await.status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        ask(&registry, Method::GET, "/v2/_catalog", &all)
            .await
            .status(),
        StatusCode::UNAUTHORIZED
    );
    // A blob is mounted only from where the client may read.
    let other = issuer.token(&claims("b", &["push"]));
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    let answer = ask(&registry, Method::POST, &mount, &other).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED, "an upload instead");
    assert_eq!(
        ask(&registry, Method::DELETE, &blob, &all).await.status(),
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn a_token_that_is_not_for_this_is_refused() {
    let issuer = Issuer::new();
    let registry = with_keys(&issuer.key_set());
    let good = claims("a", &["pull"]);
    let with = |key: &str, value: Value| {
        let mut claims = good.clone();
        claims[key] = value;
        claims
    };
    let unsigned = {
        let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.", part(&json!({ "alg": "none" })), part(&good))
    };
    let altered = {
        let token = issuer.token(&with("access", json!([])));
        let (head, signature) = token.rsplit_once('.').unwrap();
        let (head, _) = head.split_once('.').unwrap();
        format!(
            "{head}.{}.{signature}",
            BASE64_URL_SAFE_NO_PAD.encode(good.to_string())
        )
    };
    for (token, words) in [
        (issuer.token(&with("exp", json!(1000))), "has expired"),
        (
            issuer.token(&with("nbf", json!(4_102_444_800_u64))),
            "not valid yet",
        ),
        (
            issuer.token(&with("aud", json!("other"))),
            "another service",
        ),
        (
            issuer.token(&with("aud", json!(["other", "another"]))),
            "another service",
        ),
        (issuer.token(&with("iss", json!("me"))), "another issuer"),
        (Issuer::new().token(&good), "trusted key"),
        (
            issuer.sign(json!({ "alg": "ES256", "kid": "other" }), &good),
            "trusted key",
        ),
        (issuer.sign(json!({ "alg": "HS256" }), &good), "algorithm"),
        (issuer.sign(json!({ "alg": "RS256" }), &good), "trusted key"),
        (unsigned, "algorithm"),
        (altered, "trusted key"),
        ("x.y".to_owned(), "is none"),
        ("a.b.c".to_owned(), "is none"),
        (issuer.sign(json!({ "alg": "None" }), &good), "algorithm"),
        (issuer.sign(json!({ "alg": "" }), &good), "algorithm"),
        (issuer.sign(json!({ "typ": "JWT" }), &good), "lacks a field"),
        (issuer.token(&with("exp", Value::Null)), "lacks a field"),
        (
            issuer.token(&with("exp", json!("4102444800"))),
            "lacks a field",
        ),
        (issuer.token(&with("exp", json!(-1))), "lacks a field"),
        (issuer.token(&with("aud", Value::Null)), "lacks a field"),
        (issuer.token(&with("iss", json!(["floe"]))), "lacks a field"),
        (format!("{}.x", issuer.token(&good)), "is none"),
        ("x".repeat(8_000), "is none"),
        (
            format!("{}.b.c", BASE64_URL_SAFE_NO_PAD.encode("[".repeat(5_000))),
            "lacks a field",
        ),
    ] {
        let answer = ask(&registry, Method::GET, "/v2/", &token).await;
        assert!(header(&answer, "www-authenticate").ends_with("error=\"invalid_token\""));
        let message = is_error(answer, 401, "UNAUTHORIZED").await;
        assert!(message.contains(words), "{message}");
    }
    for header in [
        json!({ "alg": "ES256", "kid": "k1" }),
        json!({ "alg": "ES256" }),
    ] {
        let token = issuer.sign(header, &with("aud", json!(["other", "floe"])));
        let answer = ask(&registry, Method::GET, "/v2/", &token).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn rsa_keys_sign_tokens_too() {
    // Made once with openssl; valid until 2100, for pulls of `a`.
    const KEY: &str = include_str!("data/rsa.pub.pem");
    const TOKEN: &str = include_str!("data/rsa.token");
    let registry = with_keys(KEY);
    let answer = ask(&registry, Method::GET, "/v2/a/tags/list", TOKEN.trim()).await;
    is_error(answer, 404, "NAME_UNKNOWN").await;
    let answer = ask(&registry, Method::GET, "/v2/b/tags/list", TOKEN.trim()).await;
    is_error(answer, 401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn a_certificate_in_a_token_counts_when_a_trusted_ca_signed_it() {
    let (ca, other) = (Ca::new(), Ca::new());
    let registry = with_keys(&ca.0.pem());
    for (by, status) in [(&ca, StatusCode::OK), (&other, StatusCode::UNAUTHORIZED)] {
        let (certificate, key) = by.issue("token-server");
        let chain = [BASE64_STANDARD.encode(certificate.der())];
        let header = json!({ "alg": "ES256", "x5c": chain });
        let token = Issuer(key).sign(header, &claims("a", &["pull"]));
        assert_eq!(
            ask(&registry, Method::GET, "/v2/", &token).await.status(),
            status
        );
    }
}

#[test]
fn keys_that_cannot_be_used_are_an_error_at_the_start() {
    let dir = dir();
    let keys = dir.path().join("keys");
    let path = keys.display().to_string();
    let options: Vec<_> = TOKENS
        .iter()
        .map(|o| o.replace("{dir}/keys", &path))
        .collect();
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    for (text, words) in [
        ("", "there is no certificate, public key"),
        ("{\"keys\":[{\"kty\":\"oct\",\"k\":\"x\"}]}", "not an RSA"),
        (
            &KeyPair::generate().unwrap().serialize_pem(),
            "certificates and public keys only",
        ),
    ] {
        std::fs::write(&keys, text).unwrap();
        let said = refused(&dir.path().join("registry"), &options);
        assert!(said.contains(words), "{said}");
    }
    let said = refused(&dir.path().join("registry"), &options[..2]);
    assert!(said.contains("--auth-token-service"), "{said}");
}
