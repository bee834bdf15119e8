//! Content management (Distribution spec, "Content Management"; end-9, end-10), read-only mode, and
//! garbage collection.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::support::{INDEX, MANIFEST, Registry, header, is_error, json_body, refused};
use image::Digest;
use reqwest::{Method, StatusCode};
use serde_json::json;

const NOW: &[&str] = &["--grace", "0s", "--upload-grace", "0s"];

#[tokio::test]
async fn a_deleted_tag_is_gone_and_its_manifest_stays() {
    let registry = Registry::start();
    let image = registry.push_image("a", "v1", "x").await;
    let answer = registry.delete("/v2/a/manifests/v1").await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    is_error(
        registry.get("/v2/a/manifests/v1").await,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
    is_error(
        registry.delete("/v2/a/manifests/v1").await,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
    let by_digest = format!("/v2/a/manifests/{}", image.digest);
    assert_eq!(registry.get(&by_digest).await.status(), StatusCode::OK);
    let tags = json_body(registry.get("/v2/a/tags/list").await).await;
    assert_eq!(tags["tags"], json!([]));
}

#[tokio::test]
async fn a_deleted_manifest_takes_its_tags_along() {
    let registry = Registry::start();
    let image = registry.push_image("a", "v1", "x").await;
    registry
        .put_manifest("a", "v2", MANIFEST, &image.bytes)
        .await;
    registry.push_image("a", "v3", "y").await;
    let path = format!("/v2/a/manifests/{}", image.digest);
    assert_eq!(registry.delete(&path).await.status(), StatusCode::ACCEPTED);
    for target in ["v1", "v2", &image.digest.to_string()] {
        let answer = registry.get(&format!("/v2/a/manifests/{target}")).await;
        is_error(answer, 404, "MANIFEST_UNKNOWN").await;
    }
    let tags = json_body(registry.get("/v2/a/tags/list").await).await;
    assert_eq!(tags["tags"], json!(["v3"]));
    is_error(registry.delete(&path).await, 404, "MANIFEST_UNKNOWN").await;
    let nowhere = format!("/v2/nowhere/manifests/{}", image.digest);
    is_error(registry.delete(&nowhere).await, 404, "NAME_UNKNOWN").await;
}

#[tokio::test]
async fn a_deleted_blob_is_gone_from_that_repository_only() {
    let registry = Registry::start();
    let digest = registry.push_blob("a", b"x").await;
    registry.push_blob("b", b"x").await;
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!(registry.delete(&path).await.status(), StatusCode::ACCEPTED);
    is_error(registry.get(&path).await, 404, "BLOB_UNKNOWN").await;
    is_error(registry.delete(&path).await, 404, "BLOB_UNKNOWN").await;
    let other = registry.get(&format!("/v2/b/blobs/{digest}")).await;
    assert_eq!(other.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_read_only_registry_answers_and_changes_nothing() {
    let writable = Registry::start();
    let image = writable.push_image("a", "v1", "x").await;
    let before = writable.files("");
    let (mut child, address) = {
        let mut command = crate::support::floe(&[
            "registry",
            "serve",
            "--read-only",
            "--listen",
            "127.0.0.1:0",
        ]);
        crate::support::started(command.arg(writable.root()))
    };
    let url = |path: &str| format!("http://{address}{path}");
    let pulled = writable
        .client
        .get(url("/v2/a/manifests/v1"))
        .send()
        .await
        .unwrap();
    assert_eq!(pulled.bytes().await.unwrap(), image.bytes);
    for (method, path) in [
        (Method::POST, "/v2/a/blobs/uploads/".to_owned()),
        (Method::PUT, "/v2/a/manifests/v2".to_owned()),
        (Method::DELETE, "/v2/a/manifests/v1".to_owned()),
        (Method::DELETE, format!("/v2/a/manifests/{}", image.digest)),
        (
            Method::DELETE,
            format!("/v2/a/blobs/{}", image.layer.digest),
        ),
    ] {
        let answer = writable
            .client
            .request(method, url(&path))
            .send()
            .await
            .unwrap();
        let message = is_error(answer, 405, "UNSUPPORTED").await;
        assert!(message.contains("read-only"), "{message}");
    }
    assert_eq!(writable.files(""), before);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn garbage_collection_keeps_what_a_manifest_reaches() {
    let registry = Registry::start();
    let kept = registry.push_image("a", "v1", "kept").await;
    let gone = registry.push_image("a", "v2", "gone").await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
        { "mediaType": MANIFEST, "digest": kept.digest, "size": kept.bytes.len() } ] });
    registry
        .put_manifest("a", "all", INDEX, &serde_json::to_vec(&index).unwrap())
        .await;
    registry.push_blob("b", b"never used").await;
    registry
        .delete(&format!("/v2/a/manifests/{}", gone.digest))
        .await;
    let before = registry.files("");
    assert!(
        registry
            .gc(&["--dry-run", "--grace", "0s"])
            .starts_with("would remove 4 blobs")
    );
    assert_eq!(registry.files(""), before, "a dry run removes nothing");
    let said = registry.gc(NOW);
    assert!(said.starts_with("removed 4 blobs ("), "{said}");
    assert!(said.ends_with(" 1 repositories\n"), "{said}");
    for (digest, status) in [
        (&kept.layer.digest, 200),
        (&kept.config.digest, 200),
        (&gone.layer.digest, 404),
    ] {
        let answer = registry.get(&format!("/v2/a/blobs/{digest}")).await;
        assert_eq!(answer.status().as_u16(), status);
    }
    assert_eq!(
        registry.get("/v2/a/manifests/all").await.status(),
        StatusCode::OK
    );
    assert_eq!(registry.files("blobs").len(), 4);
    assert!(
        registry.gc(NOW).starts_with("removed 0 blobs"),
        "nothing is left to do"
    );
}

#[tokio::test]
async fn what_was_just_pushed_or_asked_for_is_no_garbage() {
    let registry = Registry::start();
    let digest = registry.push_blob("a", b"its manifest is on its way").await;
    assert!(registry.gc(&[]).starts_with("removed 0 blobs"));
    let old = SystemTime::now() - Duration::from_secs(7200);
    let age = |registry: &Registry| {
        for path in registry
            .files("blobs")
            .into_iter()
            .chain(registry.files("repositories"))
        {
            let file = std::fs::File::options().append(true).open(path).unwrap();
            file.set_modified(old).unwrap();
        }
    };
    age(&registry);
    // A client asks, and will push no blob that is here.
    let answer = registry.head(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(registry.gc(&[]).starts_with("removed 0 blobs"));
    age(&registry);
    assert!(registry.gc(&[]).starts_with("removed 1 blobs"));
    is_error(
        registry.get(&format!("/v2/a/blobs/{digest}")).await,
        404,
        "BLOB_UNKNOWN",
    )
    .await;
}

#[tokio::test]
async fn garbage_collection_while_clients_push_breaks_no_image() {
    let registry = Registry::start();
    let root = registry.root();
    let done = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&done);
    let collecting = tokio::task::spawn_blocking(move || {
        while !end.load(Ordering::Relaxed) {
            let mut command = crate::support::floe(&["registry", "gc", "--grace", "0s"]);
            assert!(command.arg(&root).output().unwrap().status.success());
        }
    });
    // Without grace, blobs may go before their manifest comes. Then it is refused, never broken.
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for n in 0..60 {
        let image = registry.prepare_image("a", &format!("image {n}")).await;
        let tag = format!("v{n}");
        let answer = registry
            .put_manifest("a", &tag, MANIFEST, &image.bytes)
            .await;
        match answer.status() {
            StatusCode::CREATED => accepted.push((tag, image)),
            _ => {
                is_error(answer, 404, "MANIFEST_BLOB_UNKNOWN").await;
                refused += 1;
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    collecting.await.unwrap();
    println!("{} accepted, {refused} refused", accepted.len());
    let image = registry.push_image("a", "last", "when all is quiet").await;
    accepted.push(("last".to_owned(), image));
    for (tag, image) in accepted {
        let manifest = registry.get(&format!("/v2/a/manifests/{tag}")).await;
        assert_eq!(manifest.bytes().await.unwrap(), image.bytes, "{tag}");
        for blob in [&image.config.digest, &image.layer.digest] {
            let blob = registry.get(&format!("/v2/a/blobs/{blob}")).await;
            assert_eq!(blob.status(), StatusCode::OK, "{tag}");
        }
    }
}

#[tokio::test]
async fn uploads_that_nobody_goes_on_with_are_forgotten() {
    let registry = Registry::start();
    let location = registry.begin("a").await;
    registry.chunk(&location, 0, b"some").await;
    assert!(registry.gc(&[]).contains(" 0 uploads"));
    assert!(registry.gc(NOW).contains(" 1 uploads"));
    is_error(registry.get(&location).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    let again = registry.begin("a").await;
    assert_eq!(registry.get(&again).await.status(), StatusCode::NO_CONTENT);
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    let said = refused(dir.path(), &[]);
    assert!(
        said.contains("is not empty and not a floe registry"),
        "{said}"
    );
    let newer = tempfile::tempdir().unwrap();
    std::fs::write(newer.path().join("registry.json"), "{\"version\":2}").unwrap();
    let said = refused(newer.path(), &[]);
    assert!(said.contains("made by a newer floe (version 2"), "{said}");
    let said = refused(&dir.path().join("none"), &["--read-only"]);
    assert!(said.contains("not a floe registry"), "{said}");
}

#[tokio::test]
async fn a_second_server_on_the_directory_sees_the_same() {
    let registry = Registry::start();
    let (mut child, address) = registry.second();
    let location = registry.begin("a").await;
    registry.chunk(&location, 0, b"begun here, ").await;
    let digest = Digest::of(b"begun here, ended there");
    let url = format!("http://{address}{location}?digest={digest}");
    let answer = registry
        .client
        .put(url)
        .body("ended there")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let answer = registry.get(&header(&answer, "location")).await;
    assert_eq!(answer.bytes().await.unwrap(), "begun here, ended there");
    child.kill().unwrap();
    child.wait().unwrap();
}
