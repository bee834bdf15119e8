//! Kills at any moment: what was promised is there afterwards, and nothing half.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{MANIFEST, Registry, header, json_body};
use image::Digest;
use reqwest::{Method, StatusCode};

/// Every file under a digest's name has that digest, and every tag leads to a whole image.
async fn check(registry: &Registry) {
    for path in registry.files("blobs") {
        let hex = path.file_name().unwrap().to_str().unwrap();
        let digest = Digest::of(&std::fs::read(&path).unwrap());
        assert_eq!(digest.hex(), hex, "a half blob");
    }
    let catalog = json_body(registry.get("/v2/_catalog").await).await;
    for name in catalog["repositories"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        let tags = json_body(registry.get(&format!("/v2/{name}/tags/list")).await).await;
        for tag in tags["tags"].as_array().unwrap() {
            let path = format!("/v2/{name}/manifests/{}", tag.as_str().unwrap());
            let manifest = json_body(registry.get(&path).await).await;
            for blob in [&manifest["config"], &manifest["layers"][0]] {
                let path = format!("/v2/{name}/blobs/{}", blob["digest"].as_str().unwrap());
                assert_eq!(registry.get(&path).await.status(), StatusCode::OK, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn an_upload_goes_on_after_the_server_was_killed() {
    let mut registry = Registry::start();
    let location = registry.begin("a").await;
    registry.chunk(&location, 0, b"before, ").await;
    registry.kill_and_restart();
    let status = registry.get(&location).await;
    assert_eq!(status.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&status, "range"), "0-7");
    registry.chunk(&location, 8, b"after").await;
    let path = format!("{location}?digest={}", Digest::of(b"before, after"));
    let answer = registry.ask(Method::PUT, &path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    check(&registry).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_pushes_leaves_no_half_blob() {
    let mut registry = Registry::start();
    let mut whole = Vec::new();
    for round in 0..12u64 {
        let address = registry.address;
        let pushing = std::thread::spawn(move || push_until_cut_off(address, round));
        tokio::time::sleep(Duration::from_millis(3 + round * 9)).await;
        registry.kill_and_restart();
        whole.extend(pushing.join().unwrap());
        check(&registry).await;
        for digest in &whole {
            let answer = registry.head(&format!("/v2/cut/blobs/{digest}")).await;
            assert_eq!(
                answer.status(),
                StatusCode::OK,
                "a blob that was acknowledged"
            );
        }
    }
    let image = registry.push_image("a", "v1", "afterwards").await;
    let answer = registry.get("/v2/a/manifests/v1").await;
    assert_eq!(header(&answer, "content-type"), MANIFEST);
    assert_eq!(answer.bytes().await.unwrap(), image.bytes);
    registry.gc(&["--grace", "0s", "--upload-grace", "0s"]);
    assert!(registry.files("tmp").is_empty() && registry.files("uploads").is_empty());
    check(&registry).await;
}

/// Pushes blobs of growing size, one after the other, until the server is gone; those that it
/// acknowledged.
fn push_until_cut_off(address: std::net::SocketAddr, round: u64) -> Vec<Digest> {
    let mut acknowledged = Vec::new();
    for n in 0..1000 {
        let bytes: Vec<u8> = (0..40_000 * (n + 1))
            .map(|i| (i * (round + 3) + n) as u8)
            .collect();
        let digest = Digest::of(&bytes);
        let head = format!(
            "POST /v2/cut/blobs/uploads/?digest={digest} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        );
        let Ok(mut stream) = TcpStream::connect(address) else {
            break;
        };
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&bytes));
        let mut answer = String::new();
        if sent.is_err() || stream.read_to_string(&mut answer).is_err() {
            break;
        }
        if !answer.starts_with("HTTP/1.1 201") {
            break;
        }
        acknowledged.push(digest);
    }
    acknowledged
}

#[tokio::test]
async fn sigterm_ends_the_server_after_its_answers() {
    let mut registry = Registry::start();
    let location = registry.begin("a").await;
    let mut stream = TcpStream::connect(registry.address).unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).unwrap();
    assert!(
        asked.starts_with(b"HTTP/1.1 100"),
        "the request is under way"
    );
    let pid = rustix::process::Pid::from_raw(registry.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    // No new client is let in, and the one that is there is served.
    while TcpStream::connect(registry.address).is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stream.write_all(b"done").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert!(registry.ended_well());
}
