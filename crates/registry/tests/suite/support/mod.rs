//! What the registry's tests share: `floe registry serve` on a private directory and a port of the
//! kernel's choice, and a client that sends what a test says.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use image::{Descriptor, Digest, Manifest, MediaType};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing that a test waits for takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A server, ended by signal when dropped, and its directory.
pub struct Registry {
    child: Child,
    arguments: Vec<String>,
    pub address: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub client: Client,
    pub scheme: &'static str,
    dir: TempDir,
}

/// An image in a repository.
#[derive(Debug, Clone)]
pub struct Image {
    pub digest: Digest,
    pub bytes: Vec<u8>,
    pub config: Descriptor,
    pub layer: Descriptor,
    pub layer_bytes: Vec<u8>,
}

impl Registry {
    pub fn start() -> Registry {
        Registry::with(&[])
    }

    /// A server with more options.
    pub fn with(options: &[&str]) -> Registry {
        Registry::in_dir(
            TempDir::with_prefix("floe-registry-test-").unwrap(),
            options,
        )
    }

    /// The same; `{dir}` in an option is the private directory.
    pub fn in_dir(dir: TempDir, options: &[&str]) -> Registry {
        let place = dir.path().display().to_string();
        let arguments: Vec<_> = options.iter().map(|o| o.replace("{dir}", &place)).collect();
        let client = client().build().unwrap();
        let (child, address, metrics) = spawn(&dir.path().join("registry"), &arguments);
        Registry {
            child,
            address,
            metrics,
            client,
            scheme: "http",
            arguments,
            dir,
        }
    }

    /// Where the test may put files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The registry's own directory.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("registry")
    }

    /// Kills the server as a power cut would, and starts it again.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.restart();
    }

    fn restart(&mut self) {
        (self.child, self.address, self.metrics) = spawn(&self.root(), &self.arguments);
    }

    /// Starts a second server on the same directory.
    pub fn second(&self) -> (Child, SocketAddr) {
        let (child, address, _) = spawn(&self.root(), &self.arguments);
        (child, address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a server that was told to end; `true` when it ended well.
    pub fn ended_well(&mut self) -> bool {
        self.child.wait().unwrap().success()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// A request for a path, or for a `Location` that the server gave.
    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).send().await.unwrap()
    }

    pub async fn head(&self, path: &str) -> Response {
        self.ask(Method::HEAD, path).send().await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.ask(Method::DELETE, path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str) -> Response {
        self.ask(Method::POST, path).send().await.unwrap()
    }

    pub async fn put(&self, path: &str, content_type: &str, body: Vec<u8>) -> Response {
        let request = self
            .ask(Method::PUT, path)
            .header("content-type", content_type);
        request.body(body).send().await.unwrap()
    }

    /// Begins an upload and says where it is.
    pub async fn begin(&self, name: &str) -> String {
        let answer = self.post(&format!("/v2/{name}/blobs/uploads/")).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        header(&answer, "location")
    }

    /// Sends a chunk that says its range.
    pub async fn chunk(&self, location: &str, from: usize, bytes: &[u8]) -> Response {
        let range = format!("{from}-{}", from + bytes.len() - 1);
        let request = self
            .ask(Method::PATCH, location)
            .header("content-range", range);
        request.body(bytes.to_vec()).send().await.unwrap()
    }

    pub async fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = self
            .ask(Method::POST, &path)
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        digest
    }

    /// Pushes an image with one layer and this tag; the same text makes the same image.
    pub async fn push_image(&self, name: &str, tag: &str, text: &str) -> Image {
        let image = self.prepare_image(name, text).await;
        let answer = self.put_manifest(name, tag, MANIFEST, &image.bytes).await;
        assert_eq!(
            answer.status(),
            StatusCode::CREATED,
            "{}",
            body(answer).await
        );
        image
    }

    /// The same, without the manifest.
    pub async fn prepare_image(&self, name: &str, text: &str) -> Image {
        let config = json!({ "architecture": "arm64", "os": "linux", "variant": "v8",
            "config": { "Labels": { "text": text } }, "rootfs": { "type": "layers", "diff_ids": [] } });
        let config = serde_json::to_vec(&config).unwrap();
        let layer_bytes = format!("layer of {text}").into_bytes();
        self.push_blob(name, &config).await;
        self.push_blob(name, &layer_bytes).await;
        let config = Descriptor::of(MediaType::OciConfig, &config);
        let layer = Descriptor::of(MediaType::OciLayer, &layer_bytes);
        let manifest = Manifest::new(MediaType::OciManifest, config.clone(), vec![layer.clone()]);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        Image {
            digest: Digest::of(&bytes),
            bytes,
            config,
            layer,
            layer_bytes,
        }
    }

    pub async fn put_manifest(
        &self,
        name: &str,
        target: &str,
        kind: &str,
        bytes: &[u8],
    ) -> Response {
        self.put(
            &format!("/v2/{name}/manifests/{target}"),
            kind,
            bytes.to_vec(),
        )
        .await
    }

    /// Sends bytes on a connection of its own, and returns what comes until the server closes it.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A server that has heard enough closes before all is sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Runs `floe registry gc` on the directory.
    pub fn gc(&self, options: &[&str]) -> String {
        let output = floe(&["registry", "gc"])
            .arg(self.root())
            .args(options)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// All files below a part of the directory.
    pub fn files(&self, part: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.root().join(part)];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => todo.push(path),
                    false => found.push(path),
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that trusts nobody yet.
pub fn client() -> ClientBuilder {
    // The second test of a program finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A connection that the server hangs up on in time is no failure of the test.
    Client::builder()
        .timeout(PATIENCE)
        .pool_max_idle_per_host(0)
}

pub fn floe(arguments: &[&str]) -> Command {
    let mut command = Command::new(testkit::program("floe").unwrap());
    command.args(arguments);
    command
}

/// Starts a server and waits until it says where it listens.
pub fn started(command: &mut Command) -> (Child, SocketAddr) {
    let (child, address, _) = wait_for(command, false);
    (child, address)
}

fn spawn(root: &Path, options: &[String]) -> (Child, SocketAddr, Option<SocketAddr>) {
    let wants_metrics = options.iter().any(|option| option == "--metrics-listen");
    let mut command = floe(&["registry", "serve", "--listen", "127.0.0.1:0"]);
    wait_for(command.arg(root).args(options), wants_metrics)
}

fn wait_for(command: &mut Command, wants_metrics: bool) -> (Child, SocketAddr, Option<SocketAddr>) {
    let command = command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    let (mut address, mut metrics) = (None, None);
    while address.is_none() || (wants_metrics && metrics.is_none()) {
        let begin = said.len();
        if log.read_line(&mut said).unwrap() == 0 {
            let _ = child.wait();
            panic!("floe registry serve ended: {said}");
        }
        let line = &said[begin..];
        let found = line
            .trim()
            .rsplit_once("address=")
            .and_then(|(_, a)| a.parse().ok());
        match line.contains("/metrics") {
            true => metrics = found,
            false => address = address.or(found),
        }
    }
    // A log that nobody reads would stop the server.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (child, address.unwrap(), metrics)
}

/// Starts a server that must refuse, and returns what it says.
pub fn refused(root: &Path, options: &[&str]) -> String {
    let mut command = floe(&["registry", "serve", "--listen", "127.0.0.1:0"]);
    let output = command.arg(root).args(options).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub fn header(answer: &Response, name: &str) -> String {
    let value = answer.headers().get(name);
    let value = value.unwrap_or_else(|| panic!("no header {name} in {answer:?}"));
    value.to_str().unwrap().to_owned()
}

pub async fn body(answer: Response) -> String {
    String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned()
}

pub async fn json_body(answer: Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

/// Checks that an answer is this error in the specification's form; returns its message.
#[track_caller]
pub fn is_error(answer: Response, status: u16, code: &'static str) -> impl Future<Output = String> {
    assert_eq!(answer.status().as_u16(), status, "{answer:?}");
    async move {
        let answer = json_body(answer).await;
        assert_eq!(answer["errors"][0]["code"], code, "{answer}");
        answer["errors"][0]["message"].as_str().unwrap().to_owned()
    }
}

/// A certificate authority.
pub struct Ca(pub CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new() -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    pub fn write(&self, dir: &Path, file: &str) {
        std::fs::write(dir.join(file), self.0.pem()).unwrap();
    }
}
