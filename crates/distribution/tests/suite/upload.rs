//! Uploads that survive broken connections and servers that want them otherwise.

use std::io;
use std::sync::{Arc, Mutex};

use crate::support::real::RealRegistry;
use crate::support::{self, NOBODY, Reply, Request, Server, client, config, failure, layer, noise};
use bytes::Bytes;
use distribution::{BlobContent, Client, Error, Offer, Opened, Result};
use futures_util::{StreamExt, stream};
use image::Descriptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MIB: usize = 1 << 20;

fn content(bytes: &Bytes) -> BlobContent {
    let parts: Vec<io::Result<Bytes>> = (0..bytes.len())
        .step_by(100_000)
        .map(|at| Ok(bytes.slice(at..bytes.len().min(at + 100_000))))
        .collect();
    stream::iter(parts).boxed()
}

async fn push(client: &Client, server: &Server, bytes: &Bytes) -> Result<()> {
    let (target, blob) = (server.reference("x"), layer(bytes));
    let offer = client
        .offer_blob(&target, None, &blob.digest, NOBODY)
        .await?;
    let Offer::Missing(opened) = offer else {
        panic!("{offer:?}");
    };
    let open = || async { Ok(content(bytes)) };
    client
        .push_blob_from(&target, &blob, opened, open, NOBODY)
        .await
}

/// What a server has of an upload.
type Kept = Arc<Mutex<Vec<u8>>>;

fn place(status: u16, kept: &[u8]) -> Reply {
    let last = kept.len().saturating_sub(1);
    Reply::status(status)
        .with("Location", "/v2/x/blobs/uploads/1?state=a")
        .with("Range", format!("0-{last}"))
}

/// A registry as it should be, but for what `first` does with a request before.
async fn registry(
    kept: &Kept,
    first: impl Fn(&Request, &mut Vec<u8>) -> Option<Reply> + Send + Sync + 'static,
) -> Server {
    let kept = Arc::clone(kept);
    Server::start(move |request| {
        let mut kept = kept.lock().unwrap();
        if let Some(reply) = first(request, &mut kept) {
            return reply;
        }
        match request.method.as_str() {
            "HEAD" => Reply::status(404),
            "POST" => {
                kept.clear();
                place(202, &kept)
            }
            "GET" => place(204, &kept),
            "PATCH" => {
                let begin = format!("{}-", kept.len());
                if !request.header("content-range").starts_with(&begin) {
                    return place(416, &kept);
                }
                kept.extend_from_slice(&request.body);
                place(202, &kept)
            }
            "PUT" => {
                assert!(request.query.contains("digest=sha256"), "{request:?}");
                kept.extend_from_slice(&request.body);
                Reply::status(201)
            }
            _ => Reply::status(405),
        }
    })
    .await
}

fn methods(server: &Server) -> String {
    let log = server.log();
    let methods = log
        .iter()
        .map(|line| line.split(' ').next().unwrap_or_default());
    methods.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn an_upload_that_broke_goes_on_where_the_registry_stopped() {
    let (bytes, kept) = (Bytes::from(noise(20 * MIB)), Kept::default());
    let server = registry(&kept, |request, kept| {
        (request.method == "PUT" && request.nth == 0).then(|| {
            kept.extend_from_slice(&request.body[..9 * MIB + 7]);
            Reply::status(502)
        })
    })
    .await;
    push(&client(&server), &server, &bytes).await.unwrap();
    assert!(*kept.lock().unwrap() == bytes, "the content is the same");
    assert_eq!(methods(&server), "HEAD POST PUT GET PATCH PATCH PUT");
    let requests = server.requests();
    assert_eq!(
        requests[4].header("content-range"),
        format!("{}-{}", 9 * MIB + 7, 17 * MIB + 6)
    );
    assert_eq!(requests[6].body.len(), 0);
}

#[tokio::test]
async fn a_registry_that_takes_less_or_forgets_the_upload_gets_the_rest_or_all_again() {
    let (bytes, kept) = (Bytes::from(noise(20 * MIB)), Kept::default());
    let server = registry(&kept, |request, kept| {
        match (request.method.as_str(), request.nth) {
            ("PUT", 0) => Some(Reply::status(500)),
            ("PATCH", 0) => {
                kept.extend_from_slice(&request.body[..MIB]);
                Some(place(202, kept))
            }
            // Forgotten: a new upload begins.
            ("PATCH", 1) => Some(Reply::status(404)),
            ("GET", 2) => Some(Reply::status(404)),
            _ => None,
        }
    })
    .await;
    push(&client(&server), &server, &bytes).await.unwrap();
    assert!(*kept.lock().unwrap() == bytes, "the content is the same");
    assert_eq!(
        methods(&server),
        "HEAD POST PUT GET PATCH GET PATCH GET POST PATCH PATCH PATCH PUT"
    );
}

#[tokio::test]
async fn what_is_too_large_for_a_server_goes_in_chunks_that_are_not() {
    let (bytes, kept) = (Bytes::from(noise(3 * MIB)), Kept::default());
    let server = registry(&kept, |request, _| {
        (request.body.len() > MIB).then(|| Reply::status(413))
    })
    .await;
    push(&client(&server), &server, &bytes).await.unwrap();
    assert!(*kept.lock().unwrap() == bytes, "the content is the same");
    assert_eq!(
        methods(&server),
        "HEAD POST PUT POST PATCH POST PATCH PATCH PATCH PUT"
    );

    let server = registry(&kept, |request, _| {
        (request.body.len() > 1000).then(|| Reply::status(413))
    })
    .await;
    let error = failure(push(&client(&server), &server, &bytes).await);
    assert!(
        matches!(error, Error::UnexpectedStatus { status: 413, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_chunk_is_as_large_as_the_registry_wants() {
    let (bytes, kept) = (Bytes::from(noise(24 * MIB)), Kept::default());
    let server = registry(&kept, |request, kept| {
        match (request.method.as_str(), request.nth) {
            ("POST", _) => Some(place(202, kept).with("OCI-Chunk-Min-Length", 12 * MIB)),
            ("PUT", 0) => Some(Reply::status(503)),
            _ => None,
        }
    })
    .await;
    push(&client(&server), &server, &bytes).await.unwrap();
    let requests = server.requests();
    let sizes = requests.iter().filter(|request| request.method == "PATCH");
    let sizes: Vec<usize> = sizes.map(|request| request.body.len()).collect();
    assert_eq!(sizes, [12 * MIB, 12 * MIB]);
}

#[tokio::test]
async fn a_server_that_never_takes_it_is_given_up_and_one_that_refuses_at_once() {
    let (bytes, kept) = (Bytes::from(noise(10 * MIB)), Kept::default());
    let server = registry(&kept, |request, _| {
        matches!(request.method.as_str(), "PUT" | "PATCH").then(|| Reply::status(500))
    })
    .await;
    let error = failure(push(&client(&server), &server, &bytes).await);
    assert!(
        matches!(error, Error::ServerError { status: 500, .. }),
        "{error}"
    );
    assert_eq!(methods(&server), "HEAD POST PUT GET PATCH GET PATCH");
    let server = registry(&kept, |request, _| {
        (request.method == "PUT").then(|| Reply::status(400))
    })
    .await;
    failure(push(&client(&server), &server, &bytes).await);
    assert_eq!(methods(&server), "HEAD POST PUT");
}

#[tokio::test]
async fn content_that_cannot_be_read_is_told_as_that_and_not_tried_again() {
    let (bytes, kept) = (Bytes::from(noise(MIB)), Kept::default());
    let server = registry(&kept, |_, _| None).await;
    let open = || async {
        let broken = stream::iter([
            Ok(Bytes::from_static(b"x")),
            Err(io::Error::other("bad disk")),
        ]);
        Ok(broken.boxed() as BlobContent)
    };
    let pushed = client(&server)
        .push_blob_from(
            &server.reference("x"),
            &layer(&bytes),
            Opened::default(),
            open,
            NOBODY,
        )
        .await;
    let error = failure(pushed);
    assert!(matches!(error, Error::PushContent { .. }), "{error}");
    assert!(error.to_string().contains("bad disk"), "{error}");
    assert_eq!(methods(&server).matches("POST").count(), 1);
}

/// Passes bytes on to `to`, but breaks the first connection that has sent so many.
async fn breaking(to: u16, after: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let broken = Arc::new(Mutex::new(false));
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let broken = Arc::clone(&broken);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (mut from_near, mut to_near) = near.split();
                let (mut from_far, mut to_far) = far.split();
                let up = async {
                    let mut buffer = vec![0; 65536];
                    let mut passed = 0;
                    while let Ok(length @ 1..) = from_near.read(&mut buffer).await {
                        if to_far.write_all(&buffer[..length]).await.is_err() {
                            return;
                        }
                        passed += length;
                        let mut broken = broken.lock().unwrap();
                        if passed > after && !*broken {
                            *broken = true;
                            return;
                        }
                    }
                };
                let down = tokio::io::copy(&mut from_far, &mut to_near);
                tokio::select! { () = up => {}, _ = down => {} }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_real_registry_gets_a_blob_through_a_connection_that_breaks() {
    let Some(registry) = RealRegistry::start(false) else {
        return;
    };
    let real: u16 = registry
        .reference("x")
        .domain()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let port = breaking(real, 12 * MIB).await;
    let host = format!("127.0.0.1:{port}");
    let insecure = format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    let client = Client::new(config(&insecure));
    let target = image::Reference::parse(&format!("{host}/broken:1")).unwrap();
    let bytes = Bytes::from(noise(30 * MIB));
    let descriptor: Descriptor = layer(&bytes);
    let open = || async { Ok(content(&bytes)) };
    client
        .push_blob_from(&target, &descriptor, Opened::default(), open, NOBODY)
        .await
        .unwrap();
    let direct = Client::new(config(&registry.insecure()));
    let source = distribution::Source {
        insecure: true,
        ..distribution::Source::direct(registry.reference("broken:1"))
    };
    let back = support::pull(&direct, &source, &descriptor).await.unwrap();
    assert!(back == bytes, "the content is the same");
}
