//! Hostile clients that hold connections, handshakes and uploads, and what everyone else notices: nothing.
//! The server's own patience is 10 minutes here, so that only giving way lets others in.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use crate::support::{Ca, MANIFEST, Registry, body, header, is_error};
use reqwest::{Method, StatusCode};
use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

const PATIENT: [&str; 2] = ["--idle-timeout", "600s"];

/// Connections that have sent these bytes, and had an answer if they asked for one.
fn held(registry: &Registry, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(registry.address).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    (0..count).map(connect).collect()
}

#[tokio::test]
async fn idle_connections_give_way_to_whoever_wants_to_come_in() {
    let registry = Registry::with(&[&PATIENT[..], &["--max-connections", "30"]].concat());
    registry.push_image("a", "v1", "x").await;
    for bytes in [
        // Has had an answer, and is kept alive.
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n".as_slice(),
        // Never ends its headers.
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\nx: ",
        // Says nothing.
        b"",
        // HTTP/2 that asks for nothing.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ] {
        let held = held(&registry, 60, bytes);
        let answer = registry.get("/v2/a/manifests/v1").await;
        assert_eq!(answer.status(), StatusCode::OK);
        drop(held);
    }
}

#[tokio::test]
async fn an_answer_under_way_does_not_give_way() {
    let registry = Registry::with(&[&PATIENT[..], &["--max-connections", "2"]].concat());
    let bytes = vec![1u8; 32 << 20];
    let digest = registry.push_blob("a", &bytes).await;
    let mut slow = TcpStream::connect(registry.address).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&slow, 64 << 10).unwrap();
    let request =
        format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    slow.write_all(request.as_bytes()).unwrap();
    slow.read_exact(&mut [0; 15]).unwrap();
    let upload = registry.begin("a").await;
    let mut pushing = TcpStream::connect(registry.address).unwrap();
    let request = format!("PATCH {upload} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nfive!");
    pushing.write_all(request.as_bytes()).unwrap();
    // Both places are taken by work. Others wait, and the work goes on.
    let mut waiting = held(&registry, 3, b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n");
    tokio::time::sleep(Duration::from_secs(3)).await;
    pushing.write_all(b" more").unwrap();
    let mut answer = [0; 12];
    pushing.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 202");
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > bytes.len());
    for stream in &mut waiting {
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}

/// Those that send a body, or take an answer, byte by byte.
#[tokio::test]
async fn clients_that_hardly_move_give_way_when_all_places_are_theirs() {
    let registry = Registry::with(&[&PATIENT[..], &["--max-connections", "8"]].concat());
    let digest = registry.push_blob("a", &vec![1u8; 32 << 20]).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let upload = registry.begin("a").await;
        let request =
            format!("PATCH {upload} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nfive!");
        held.push((TcpStream::connect(registry.address).unwrap(), request));
    }
    for _ in 0..4 {
        let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n");
        let stream = TcpStream::connect(registry.address).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4 << 10).unwrap();
        held.push((stream, request));
    }
    for (stream, request) in &mut held {
        stream.write_all(request.as_bytes()).unwrap();
    }
    // Each still does a little, so that silence is not what ends it.
    let mut streams: Vec<TcpStream> = held.into_iter().map(|(stream, _)| stream).collect();
    let drip = std::thread::spawn(move || {
        for _ in 0..300 {
            for (index, stream) in streams.iter_mut().enumerate() {
                let _ = match index < 4 {
                    true => stream.write(b"x").map(drop),
                    false => stream.read(&mut [0]).map(drop),
                };
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(registry.get("/v2/").await.status(), StatusCode::OK);
    drop(drip);
}

#[tokio::test]
async fn half_open_handshakes_give_way_too() {
    let dir = TempDir::new().unwrap();
    let ca = Ca::new();
    let (certificate, key) = ca.issue("127.0.0.1");
    std::fs::write(dir.path().join("cert"), certificate.pem()).unwrap();
    std::fs::write(dir.path().join("key"), key.serialize_pem()).unwrap();
    let options = [
        "--tls-cert",
        "{dir}/cert",
        "--tls-key",
        "{dir}/key",
        "--max-connections",
        "20",
    ];
    let mut registry = Registry::in_dir(dir, &[&PATIENT[..], &options].concat());
    let trusted = reqwest::Certificate::from_pem(ca.0.pem().as_bytes()).unwrap();
    registry.client = crate::support::client()
        .add_root_certificate(trusted)
        .build()
        .unwrap();
    registry.scheme = "https";
    for bytes in [
        b"".as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let held = held(&registry, 40, bytes);
        assert_eq!(registry.get("/v2/").await.status(), StatusCode::OK);
        drop(held);
    }
}

#[tokio::test]
async fn three_thousand_connections_keep_nobody_out() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    if limit.current.is_some_and(|most| most < 4096) {
        eprintln!("SKIP: this process may open {:?} files only", limit.current);
        return;
    }
    let mut registry = Registry::with(&PATIENT);
    // On a busy machine two thousand farewells take their time; the server's patience is longer.
    let client = crate::support::client().timeout(Duration::from_secs(300));
    registry.client = client.build().unwrap();
    let held = held(&registry, 3000, b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n");
    let answer = registry.get("/v2/").await;
    assert_eq!(answer.status(), StatusCode::OK);
    drop(held);
}

#[test]
fn pipelined_requests_are_answered_in_order_and_bodies_stay_bodies() {
    let registry = Registry::start();
    let mut requests = "GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
    // What looks like a request is the body of this one.
    let hidden = "DELETE /v2/a/manifests/v1 HTTP/1.1\r\nhost: x\r\n\r\n";
    requests += &format!(
        "PUT /v2/a/manifests/v1 HTTP/1.1\r\nhost: x\r\ncontent-type: x/y\r\ncontent-length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    requests += "GET /v2/none/tags/list HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = registry.raw(requests.as_bytes());
    let codes: Vec<&str> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(codes.len(), 502, "{answers}");
    assert!(codes[..500].iter().all(|code| *code == "200"));
    assert_eq!(codes[500..], ["400", "404"]);
    // Two lengths, or a length and chunks: nobody can say where the next request begins.
    for bad in [
        "content-length: 4\r\ncontent-length: 5",
        "content-length: 4, 5",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
    ] {
        let request = format!(
            "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\n{bad}\r\n\r\n0\r\n\r\nGET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        );
        let answers = registry.raw(request.as_bytes());
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{bad}: {answers}");
        assert!(answers.starts_with("HTTP/1.1 400"), "{bad}: {answers}");
    }
}

#[tokio::test]
async fn abandoned_uploads_of_one_client_stop_only_that_client() {
    let registry = Registry::start();
    let from = |address: &str| {
        let address: std::net::IpAddr = address.parse().unwrap();
        crate::support::client()
            .local_address(address)
            .build()
            .unwrap()
    };
    let (greedy, other) = (from("127.0.0.1"), from("127.0.0.2"));
    let begin = async |client: &reqwest::Client, name: &str| {
        let url = registry.url(&format!("/v2/{name}/blobs/uploads/"));
        client.request(Method::POST, url).send().await.unwrap()
    };
    let mut begun = 0;
    let answer = loop {
        let answer = begin(&greedy, &format!("r{begun}")).await;
        if answer.status() != StatusCode::ACCEPTED {
            break answer;
        }
        begun += 1;
    };
    assert_eq!(begun, 64);
    header(&answer, "retry-after");
    let words = is_error(answer, 429, "TOOMANYREQUESTS").await;
    assert_eq!(words, "64 uploads are open by this client: no more at once");
    for _ in 0..10 {
        assert_eq!(begin(&other, "b").await.status(), StatusCode::ACCEPTED);
    }
    // One that nobody goes on with gives way to the same client's next, and no one else's does.
    let old = SystemTime::now() - Duration::from_secs(600);
    let data = registry.files("uploads");
    for data in data.iter().filter(|path| path.ends_with("data")) {
        let file = File::options().write(true).open(data).unwrap();
        file.set_modified(old).unwrap();
    }
    assert_eq!(begin(&greedy, "again").await.status(), StatusCode::ACCEPTED);
    let sessions = registry.files("uploads");
    let sessions = sessions.iter().filter(|path| path.ends_with("session"));
    let of_other =
        |path: &&std::path::PathBuf| std::fs::read_to_string(path).unwrap().contains("127.0.0.2");
    let (others, own): (Vec<_>, Vec<_>) = sessions.partition(of_other);
    assert_eq!((others.len(), own.len()), (10, 64));
}

#[tokio::test]
async fn when_all_uploads_are_taken_an_abandoned_one_of_the_greediest_gives_way() {
    let registry = Registry::with(&["--max-uploads", "4"]);
    for _ in 0..3 {
        registry.begin("a").await;
    }
    let other: std::net::IpAddr = "127.0.0.2".parse().unwrap();
    let other = crate::support::client()
        .local_address(other)
        .build()
        .unwrap();
    let url = registry.url("/v2/b/blobs/uploads/");
    let begin = async || other.request(Method::POST, &url).send().await.unwrap();
    let first = begin().await;
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    is_error(begin().await, 429, "TOOMANYREQUESTS").await;
    let old = SystemTime::now() - Duration::from_secs(600);
    for data in registry
        .files("uploads")
        .iter()
        .filter(|path| path.ends_with("data"))
    {
        let file = File::options().write(true).open(data).unwrap();
        file.set_modified(old).unwrap();
    }
    assert_eq!(begin().await.status(), StatusCode::ACCEPTED);
    let kept = other.get(registry.url(&header(&first, "location")));
    assert_eq!(kept.send().await.unwrap().status(), StatusCode::NO_CONTENT);
}

/// 1,024 connections with 32 streams and 4 MiB each would be 128 GiB.
#[tokio::test]
async fn manifests_that_never_end_fill_a_bounded_memory_and_small_ones_still_come() {
    let registry = Registry::with(&PATIENT);
    let small = registry.prepare_image("a", "x").await;
    let length = 4 << 20;
    let request = format!(
        "PUT /v2/a/manifests/v1 HTTP/1.1\r\nhost: x\r\ncontent-type: x/y\r\ncontent-length: {length}\r\n\r\n{}",
        " ".repeat(length - 1)
    );
    let held = held(&registry, 70, request.as_bytes());
    let mut large: serde_json::Value = serde_json::from_slice(&small.bytes).unwrap();
    large["annotations"] = serde_json::json!({ "a": "x".repeat(1 << 20) });
    let large = serde_json::to_vec(&large).unwrap();
    let push = async |bytes: &[u8]| registry.put_manifest("a", "v1", MANIFEST, bytes).await;
    let mut answer = push(&large).await;
    // Until the last of what was sent is there.
    for _ in 0..100 {
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = push(&large).await;
    }
    header(&answer, "retry-after");
    is_error(answer, 429, "TOOMANYREQUESTS").await;
    assert_eq!(push(&small.bytes).await.status(), StatusCode::CREATED);
    drop(held);
    for _ in 0..100 {
        if push(&large).await.status() == StatusCode::CREATED {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the memory is not given back");
}

#[tokio::test]
async fn nothing_hostile_reaches_a_terminal_by_an_error() {
    let registry = Registry::start();
    let bad = "\u{1b}[31mred\u{9b}2J\u{202e}";
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": bad, "config": bad });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    for kind in [
        "application/json",
        "application/vnd.oci.image.manifest.v1+json",
    ] {
        let answer = registry.put_manifest("a", "v1", kind, &manifest).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let text = body(answer).await;
        let hostile = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!text.contains(hostile), "{text:?}");
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        let message = message["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(!message.contains(hostile), "{message:?}");
    }
}
