//! Clients that fetch their tokens themselves: Debian's skopeo and floe, with a token server on loopback.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{Registry, floe};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A token server that gives everyone the scopes they ask for, but `secret` to nobody.
struct TokenServer {
    realm: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    fn start(key: KeyPair) -> TokenServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let realm = format!("http://{}/token", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&asked);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &key, &seen);
            }
        });
        TokenServer { realm, asked }
    }
}

fn answer(stream: TcpStream, key: &KeyPair, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let query = first
        .split(' ')
        .nth(1)
        .unwrap()
        .split_once('?')
        .unwrap()
        .1
        .to_owned();
    while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let scopes: Vec<String> = pairs
        .filter(|(key, _)| key == "scope")
        .map(|(_, v)| v.into_owned())
        .collect();
    asked.lock().unwrap().extend(scopes.clone());
    let access: Vec<Value> = scopes.iter().filter_map(|scope| access(scope)).collect();
    let body = json!({ "token": token(key, access), "expires_in": 300 }).to_string();
    let length = body.len();
    let mut stream = stream;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    let _ = write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}");
}

fn access(scope: &str) -> Option<Value> {
    let mut parts = scope.splitn(2, ':');
    let (kind, rest) = (parts.next()?, parts.next()?);
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<_> = actions.split(',').collect();
    (name != "secret").then(|| json!({ "type": kind, "name": name, "actions": actions }))
}

fn token(key: &KeyPair, access: Vec<Value>) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({ "iss": "issuer", "aud": "floe", "exp": now + 300, "access": access });
    let message = format!("{}.{}", part(json!({ "alg": "ES256" })), part(claims));
    let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der(), &random).unwrap();
    let signature = pair.sign(&random, message.as_bytes()).unwrap();
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn start() -> (Registry, TokenServer, String) {
    let dir = TempDir::with_prefix("floe-registry-token-").unwrap();
    let key = KeyPair::generate().unwrap();
    std::fs::write(dir.path().join("keys"), key.public_key_pem()).unwrap();
    let server = TokenServer::start(key);
    let layout = layout(&dir);
    let options = [
        "--auth-token-realm",
        &server.realm,
        "--auth-token-service",
        "floe",
        "--auth-token-issuer",
        "issuer",
        "--auth-token-key",
        "{dir}/keys",
    ];
    (Registry::in_dir(dir, &options), server, layout)
}

/// An image in an OCI layout, to push from.
fn layout(dir: &TempDir) -> String {
    let image = dir.path().join("image");
    let umoci = |arguments: &[&str]| {
        let output = Command::new("umoci").args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let path = image.display().to_string();
    let name = format!("{path}:x");
    umoci(&["init", "--layout", &path]);
    umoci(&["new", "--image", &name]);
    format!("oci:{name}")
}

fn said(output: Output) -> (bool, String) {
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn round_trip(run: impl Fn(&[&str]) -> (bool, String)) {
    let (registry, server, layout) = start();
    let place = |name: &str| format!("docker://{}/{name}", registry.address);
    let done = |arguments: &[&str]| {
        let (done, text) = run(arguments);
        assert!(done, "{text}");
        text
    };
    let (there, back) = (
        place("team/app:1"),
        format!("dir:{}/back", registry.dir().display()),
    );
    done(&["copy", "--dest-tls-verify=false", &layout, &there]);
    done(&["copy", "--src-tls-verify=false", &there, &back]);
    let tags = done(&["list-tags", "--tls-verify=false", &place("team/app")]);
    assert!(tags.contains("\"1\""), "{tags}");
    let asked = server.asked.lock().unwrap().join(" ");
    assert!(asked.contains("repository:team/app:pull,push"), "{asked}");
    let (done, text) = run(&[
        "copy",
        "--dest-tls-verify=false",
        &layout,
        &place("secret:1"),
    ]);
    assert!(!done && text.contains("denied"), "{text}");
    assert!(
        registry
            .files("repositories")
            .iter()
            .all(|path| !path.to_string_lossy().contains("secret"))
    );
}

#[test]
fn skopeo_fetches_the_token_that_the_challenge_names() {
    round_trip(|arguments| {
        let mut command = Command::new("skopeo");
        said(
            command
                .arg("--insecure-policy")
                .args(arguments)
                .output()
                .unwrap(),
        )
    });
}

#[test]
fn floe_fetches_the_token_that_the_challenge_names() {
    let conf = TempDir::with_prefix("floe-registry-token-").unwrap();
    let policy = conf.path().join("policy.json");
    std::fs::write(
        &policy,
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    )
    .unwrap();
    round_trip(|arguments| {
        // What it remembers of the registry goes with the test.
        let runroot = conf.path().display().to_string();
        let mut words = vec![arguments[0], "--runroot", &runroot];
        let policy = policy.display().to_string();
        if arguments[0] == "copy" {
            words.extend(["--policy", policy.as_str()]);
        }
        words.extend(&arguments[1..]);
        said(floe(&words).output().unwrap())
    });
}
