//! Hostile clients: paths, headers, bodies and silence that a registry must survive.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{INDEX, MANIFEST, Registry, header, is_error, json_body};
use image::Digest;
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn no_path_leads_out_of_the_registry() {
    let registry = Registry::start();
    registry.push_image("a", "v1", "x").await;
    std::fs::write(registry.dir().join("secret"), "secret").unwrap();
    let before = registry.files("");
    for path in [
        "/v2/../../secret/manifests/v1",
        "/v2/a/../../../secret",
        "/v2/a/manifests/../../../../secret",
        "/v2/a/manifests/%2e%2e%2f%2e%2e%2fsecret",
        "/v2/a%2f..%2f..%2fsecret/tags/list",
        "/v2/a+b/tags/list",
        "/v2/a/blobs/sha256:../../../../secret",
        "/v2/a/blobs/uploads/../../../../secret",
        "/v2/a/blobs/uploads/%2e%2e",
        "/v2/a/referrers/..%2f..",
        "/v2/a%00/tags/list",
        "/v2/A/tags/list",
        "/v2/%ff/tags/list",
        "/repository/../../secret",
        "/repository/%2e%2e%2f%2e%2e%2fsecret",
        "/../secret",
        "//secret",
    ] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "BREW"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
            let answer = registry.raw(request.as_bytes());
            let status: u16 = answer[9..12].parse().unwrap();
            assert!((400..500).contains(&status), "{method} {path}: {answer}");
            assert!(
                !answer.contains("secret\n") && !answer.contains("root:"),
                "{answer}"
            );
        }
    }
    assert_eq!(registry.files(""), before);
    let put = registry.raw(b"PUT /v2/a/manifests/..%2f..%2fx HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}");
    assert!(
        put.starts_with("HTTP/1.1 404") || put.starts_with("HTTP/1.1 400"),
        "{put}"
    );
}

#[tokio::test]
async fn names_and_tags_are_bounded_in_length() {
    let registry = Registry::start();
    let long = format!("{}/b", "a".repeat(254));
    is_error(
        registry.post(&format!("/v2/{long}/blobs/uploads/")).await,
        400,
        "NAME_INVALID",
    )
    .await;
    let longest = "a".repeat(255);
    registry.push_image(&longest, &"t".repeat(128), "x").await;
    let many = format!("{}b", "a/".repeat(127));
    registry.push_image(&many, "v1", "x").await;
}

#[tokio::test]
async fn huge_headers_and_urls_are_refused() {
    let registry = Registry::start();
    let header = format!(
        "GET /v2/ HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    assert!(registry.raw(header.as_bytes()).starts_with("HTTP/1.1 431"));
    let many = format!(
        "GET /v2/ HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "a: b\r\n".repeat(5000)
    );
    assert!(registry.raw(many.as_bytes()).starts_with("HTTP/1.1 431"));
    let path = format!(
        "GET /v2/{} HTTP/1.1\r\nhost: x\r\n\r\n",
        "a/".repeat(1 << 19)
    );
    assert!(registry.raw(path.as_bytes()).starts_with("HTTP/1.1 4"));
    assert_eq!(registry.get("/v2/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let registry = Registry::start();
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"PUT /v2/a/manifests/v1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let request = [bytes, b"\r\n\r\n"].concat();
        let answer = registry.raw(&request);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    assert_eq!(registry.get("/v2/").await.status(), StatusCode::OK);
    assert!(registry.files("blobs").is_empty());
}

#[tokio::test]
async fn a_silent_client_is_hung_up_on_and_delays_nobody() {
    let registry = Registry::with(&["--idle-timeout", "1s"]);
    let silent: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(registry.address).unwrap())
        .collect();
    assert_eq!(registry.get("/v2/").await.status(), StatusCode::OK);
    for mut stream in silent {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        assert_eq!(
            stream.read(&mut [0]).unwrap_or(0),
            0,
            "closed by the server"
        );
    }
    // Headers that never end.
    let answer = registry.raw(b"GET /v2/ HTTP/1.1\r\nhost: x\r\nx: ");
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up_and_what_came_is_kept() {
    let registry = Registry::with(&["--idle-timeout", "1s"]);
    let location = registry.begin("a").await;
    let request =
        format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nfive!");
    let answer = registry.raw(request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let status = registry.get(&location).await;
    assert_eq!(header(&status, "range"), "0-4");
    let digest = Digest::of(b"five! more");
    let last = registry.ask(Method::PUT, &format!("{location}?digest={digest}"));
    let last = last
        .header("content-range", "5-9")
        .body(" more")
        .send()
        .await
        .unwrap();
    assert_eq!(last.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_broken_connection_is_resumed_where_it_broke() {
    let registry = Registry::start();
    let location = registry.begin("a").await;
    let bytes: Vec<u8> = (0..2_000_000u32).map(|n| (n % 249) as u8).collect();
    let mut stream = TcpStream::connect(registry.address).unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..1_234_567]).unwrap();
    drop(stream);
    while header(&registry.get(&location).await, "range") == "0-0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The request after it waits until the broken one has put everything down.
    let empty = registry.ask(Method::PATCH, &location).send().await.unwrap();
    let range = header(&empty, "range");
    let had: usize = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!(had > 1 && had <= 1_234_567, "{range}");
    registry.chunk(&location, had, &bytes[had..]).await;
    let path = format!("{location}?digest={}", Digest::of(&bytes));
    let answer = registry.ask(Method::PUT, &path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn an_endless_blob_ends_at_the_limit_and_leaves_nothing() {
    let registry = Registry::with(&["--max-blob-size", "1000000"]);
    let endless = || {
        let parts = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![7u8; 65536]));
        reqwest::Body::wrap_stream(parts)
    };
    let location = registry.begin("a").await;
    let digest = Digest::of(b"x");
    for (method, path) in [
        (Method::PATCH, location.clone()),
        (
            Method::POST,
            format!("/v2/a/blobs/uploads/?digest={digest}"),
        ),
    ] {
        // The answer may be lost when the server closes on a client that keeps sending.
        if let Ok(answer) = registry.ask(method, &path).body(endless()).send().await {
            is_error(answer, 413, "BLOB_UPLOAD_INVALID").await;
        }
    }
    is_error(registry.get(&location).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    assert!(registry.files("uploads").is_empty() && registry.files("blobs").is_empty());
}

/// Waits until the server says that it has no connection any more.
async fn hung_up(registry: &Registry) {
    let url = format!("http://{}/metrics", registry.metrics.unwrap());
    for _ in 0..600 {
        let figures = registry.client.get(&url).send().await.unwrap();
        let figures = figures.text().await.unwrap();
        if figures.contains("\nfloe_registry_connections 0\n") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the connection is still there");
}

const IMPATIENT: [&str; 4] = ["--idle-timeout", "1s", "--metrics-listen", "127.0.0.1:0"];

#[tokio::test]
async fn a_client_that_takes_nothing_is_hung_up_on() {
    let registry = Registry::with(&IMPATIENT);
    let bytes = vec![1u8; 16 << 20];
    let digest = registry.push_blob("a", &bytes).await;
    let mut stream = TcpStream::connect(registry.address).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 64 << 10).unwrap();
    let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 15]).unwrap();
    hung_up(&registry).await;
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    assert!(got.len() < bytes.len(), "{}", got.len());
}

#[tokio::test]
async fn a_stream_that_is_left_standing_ends_its_connection() {
    let registry = Registry::with(&IMPATIENT);
    let digest = registry.push_blob("a", &vec![1u8; 4 << 20]).await;
    let client = crate::support::client()
        .http2_prior_knowledge()
        .http2_initial_stream_window_size(65_535);
    let path = registry.url(&format!("/v2/a/blobs/{digest}"));
    // The connection is answered to and has room; only this stream is not read.
    let standing = client.build().unwrap().get(path).send().await.unwrap();
    assert_eq!(standing.status(), StatusCode::OK);
    hung_up(&registry).await;
    standing.bytes().await.expect_err("the rest never comes");
}

#[tokio::test]
async fn manifests_that_are_bombs_are_refused() {
    let registry = Registry::start();
    let image = registry.prepare_image("a", "x").await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let answer = registry
        .put_manifest("a", "v1", MANIFEST, deep.as_bytes())
        .await;
    is_error(answer, 400, "MANIFEST_INVALID").await;
    let huge = vec![b' '; (4 << 20) + 1];
    let answer = registry.put_manifest("a", "v1", MANIFEST, &huge).await;
    is_error(answer, 413, "MANIFEST_INVALID").await;
    let entry = |n: u32| {
        let digest = Digest::of(&n.to_le_bytes());
        json!({ "mediaType": MANIFEST, "digest": digest, "size": 1 })
    };
    let entries: Vec<_> = (0..20_000).map(entry).collect();
    let wide = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let wide = serde_json::to_vec(&wide).unwrap();
    let answer = registry.put_manifest("a", "v1", INDEX, &wide).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let error = json_body(answer).await;
    let named = error["errors"][0]["detail"]["missing"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(named, 100, "an answer names only some of what is missing");
    // As large as the specification wants is no bomb.
    let mut large: serde_json::Value = serde_json::from_slice(&image.bytes).unwrap();
    large["annotations"] = json!({ "a": "x".repeat((4 << 20) - image.bytes.len() - 100) });
    let large = serde_json::to_vec(&large).unwrap();
    let answer = registry.put_manifest("a", "v1", MANIFEST, &large).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn too_many_open_uploads_are_refused_for_now() {
    let registry = Registry::with(&["--max-uploads", "2"]);
    let first = registry.begin("a").await;
    registry.begin("a").await;
    let answer = registry.post("/v2/a/blobs/uploads/").await;
    header(&answer, "retry-after");
    is_error(answer, 429, "TOOMANYREQUESTS").await;
    registry.delete(&first).await;
    registry.begin("a").await;
}

#[tokio::test]
async fn two_requests_do_not_mix_in_one_upload() {
    let registry = Registry::start();
    let location = registry.begin("a").await;
    let (one, two) = (vec![1u8; 3_000_000], vec![2u8; 3_000_000]);
    let send = |bytes: &Vec<u8>| {
        registry
            .ask(Method::PATCH, &location)
            .body(bytes.clone())
            .send()
    };
    let (a, b) = futures_util::future::join(send(&one), send(&two)).await;
    assert_eq!(
        (a.unwrap().status(), b.unwrap().status()),
        (StatusCode::ACCEPTED, StatusCode::ACCEPTED)
    );
    let orders = [[one.clone(), two.clone()].concat(), [two, one].concat()].map(|b| Digest::of(&b));
    let data = registry
        .files("uploads")
        .into_iter()
        .find(|p| p.ends_with("data"))
        .unwrap();
    assert!(orders.contains(&Digest::of(&std::fs::read(data).unwrap())));
}
