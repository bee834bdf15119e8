//! What the client's tests share: a registry that does exactly what a test says, a real one, and images.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distribution::{
    AuthFiles, BlobStream, Client, ClientConfig, Credentials, Error, ProtocolFlaw, Registries,
    Result, Retry, Source,
};
use futures_util::StreamExt;
use image::{Descriptor, Manifest, MediaType, Reference};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

pub mod real;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// How many requests for the same method and path came before.
    pub nth: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The first byte that a `Range` asks for.
    pub fn range(&self) -> Option<usize> {
        self.header("range")
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    }
}

/// What to answer, and how to break it.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    pub cut: Option<usize>,
    /// Claim this length.
    pub length: Option<usize>,
    /// Say no length and never stop.
    pub endless: bool,
    /// Send the body byte by byte, with a pause after each.
    pub drip: Option<Duration>,
    /// After the body, send nothing more and keep the connection.
    pub stall: bool,
    /// Send nothing at all and keep the connection.
    pub silent: bool,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply {
            status,
            ..Reply::default()
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status: 200,
            body: body.into(),
            ..Reply::default()
        }
    }

    pub fn manifest(media_type: &MediaType, body: impl Into<Vec<u8>>) -> Reply {
        Reply::ok(body).with("Content-Type", media_type.as_str())
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A registry on loopback that does what a test says. Ends when it is dropped.
pub struct Server {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_with(handler, None).await
    }

    pub async fn start_with(
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Server {
        Server::start_on(
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            handler,
            tls,
        )
    }

    pub fn start_on(
        listener: TcpListener,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Server {
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen): (Arc<Handler>, _) = (Arc::new(handler), requests.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, seen, tls) = (handler.clone(), seen.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &*handler, &seen).await;
                            }
                        }
                        None => serve(stream, &*handler, &seen).await,
                    }
                });
            }
        });
        Server {
            port,
            requests,
            task,
        }
    }

    pub fn domain(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.domain())).unwrap()
    }

    pub fn source(&self) -> Source {
        Source {
            reference: self.reference("x:1"),
            insecure: true,
            mirror: false,
        }
    }

    /// All requests so far, as `METHOD /path`.
    pub fn log(&self) -> Vec<String> {
        self.requests()
            .iter()
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    handler: &Handler,
    seen: &Mutex<Vec<Request>>,
) {
    let Some(mut request) = read_request(&mut stream).await else {
        return;
    };
    let reply = {
        let mut seen = seen.lock().unwrap();
        let same = |old: &&Request| old.method == request.method && old.path == request.path;
        request.nth = seen.iter().filter(same).count();
        seen.push(request.clone());
        handler(&request)
    };
    // A client that went away is what some tests are about.
    let _ = write_reply(&mut stream, &request, reply).await;
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.ok()?;
        if head.is_empty() && byte == 0x16 {
            return None; // A TLS hello: nobody speaks that here.
        }
        head.push(byte);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
        nth: 0,
    })
}

async fn write_reply<S: AsyncWrite + Unpin>(
    stream: &mut S,
    request: &Request,
    reply: Reply,
) -> std::io::Result<()> {
    if reply.silent {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !reply.endless {
        head += &format!(
            "Content-Length: {}\r\n",
            reply.length.unwrap_or(reply.body.len())
        );
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    if request.method == "HEAD" {
        return stream.shutdown().await;
    }
    let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    match reply.drip {
        Some(pause) => {
            for byte in &reply.body[..end] {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(pause).await;
            }
        }
        None => stream.write_all(&reply.body[..end]).await?,
    }
    stream.flush().await?;
    if reply.endless {
        loop {
            stream.write_all(&[b'x'; 16384]).await?;
        }
    }
    if reply.stall {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    stream.shutdown().await
}

/// A configuration for tests: quick retries, no file of this machine but the empty policy of none.
pub fn config(registries: &str) -> ClientConfig {
    ClientConfig {
        registries: Registries::parse(registries).unwrap(),
        auth: AuthFiles::default(),
        certs_dirs: Vec::new(),
        ca_bundles: Vec::new(),
        ca_dirs: Vec::new(),
        connect_timeout: Duration::from_secs(10),
        answer_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(10),
        retry: Retry {
            attempts: 3,
            first_delay: Duration::from_millis(2),
            max_delay: Duration::from_secs(2),
        },
        ..ClientConfig::default()
    }
}

pub fn insecure(server: &Server) -> String {
    format!(
        "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
        server.domain()
    )
}

/// A client for one plain-HTTP server.
pub fn client(server: &Server) -> Client {
    Client::new(config(&insecure(server)))
}

/// Reads a blob to its end.
pub async fn collect(mut stream: BlobStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

/// Pulls one blob by its descriptor.
pub async fn pull(client: &Client, source: &Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    collect(
        client
            .blob(source, descriptor, &Credentials::Stored)
            .await?,
    )
    .await
}

/// Bytes that no two offsets have alike.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::OciLayer, bytes)
}

/// A small valid manifest.
pub fn manifest() -> Vec<u8> {
    let config = Descriptor::of(MediaType::OciConfig, b"{}");
    serde_json::to_vec(&Manifest::new(
        MediaType::OciManifest,
        config,
        vec![layer(b"layer")],
    ))
    .unwrap()
}

/// A server that has `manifest()` under every name, and nothing else.
pub fn only_manifest(request: &Request) -> Reply {
    match request.path.contains("/manifests/") {
        true => Reply::manifest(&MediaType::OciManifest, manifest()),
        false => Reply::status(404),
    }
}

pub const NOBODY: &Credentials = &Credentials::Anonymous;

/// What comes of asking a server for a manifest that it does not give.
#[track_caller]
pub fn refusal(server: &Server) -> impl Future<Output = Error> {
    let (client, reference) = (client(server), server.reference("x"));
    async move { failure(client.manifest(&reference, NOBODY).await) }
}

/// How an answer broke a protocol.
#[track_caller]
pub fn flaw(error: &Error) -> ProtocolFlaw {
    match error {
        Error::Protocol { flaw, .. } => *flaw,
        other => panic!("{other}"),
    }
}

/// The error that decides.
#[track_caller]
pub fn failure<T: std::fmt::Debug>(result: Result<T>) -> Error {
    result.expect_err("this had to fail")
}
