//! Push (Distribution spec, "Push"; end-4a to end-7, end-11, end-13, end-14).

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use crate::support::{INDEX, MANIFEST, Registry, body, header, is_error, json_body};
use image::{Algorithm, Descriptor, Digest, Manifest, MediaType};
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn a_blob_comes_in_one_post() {
    let registry = Registry::start();
    let digest = Digest::of(b"one post");
    let path = format!("/v2/a/b/blobs/uploads/?digest={digest}");
    let answer = registry
        .ask(Method::POST, &path)
        .body("one post")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(header(&answer, "docker-content-digest"), digest.to_string());
    let location = header(&answer, "location");
    assert_eq!(location, format!("/v2/a/b/blobs/{digest}"));
    assert_eq!(body(registry.get(&location).await).await, "one post");
    assert!(registry.files("uploads").is_empty());
}

#[tokio::test]
async fn a_blob_comes_by_post_and_put() {
    let registry = Registry::start();
    let location = registry.begin("a").await;
    let digest = Digest::of(b"post and put");
    let path = format!("{location}?digest={digest}");
    let answer = registry
        .put(&path, "application/octet-stream", b"post and put".to_vec())
        .await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(
        body(registry.get(&header(&answer, "location")).await).await,
        "post and put"
    );
    is_error(registry.get(&location).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
}

#[tokio::test]
async fn a_blob_comes_in_chunks_and_its_progress_is_told() {
    let registry = Registry::start();
    let location = registry.begin("a").await;
    let first = registry.chunk(&location, 0, b"01234").await;
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    assert_eq!(header(&first, "range"), "0-4");
    let location = header(&first, "location");
    let status = registry.get(&location).await;
    assert_eq!(status.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&status, "range"), "0-4");
    assert_eq!(header(&status, "location"), location);
    assert_eq!(
        registry.chunk(&location, 5, b"567").await.status(),
        StatusCode::ACCEPTED
    );
    let digest = Digest::of(b"0123456789");
    let last = registry.ask(Method::PUT, &format!("{location}?digest={digest}"));
    let last = last
        .header("content-range", "8-9")
        .body("89")
        .send()
        .await
        .unwrap();
    assert_eq!(last.status(), StatusCode::CREATED);
    assert_eq!(
        body(registry.get(&header(&last, "location")).await).await,
        "0123456789"
    );
}

#[tokio::test]
async fn a_blob_comes_as_a_stream_of_unknown_length() {
    let registry = Registry::start();
    let location = registry.begin("a").await;
    let parts = (0..64).map(|n| Ok::<_, std::io::Error>(vec![n as u8; 50_000]));
    let whole: Vec<u8> = (0..64).flat_map(|n| vec![n as u8; 50_000]).collect();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(parts));
    let answer = registry
        .ask(Method::PATCH, &location)
        .body(stream)
        .send()
        .await
        .unwrap();
    assert_eq!(header(&answer, "range"), format!("0-{}", whole.len() - 1));
    let path = format!("{location}?digest={}", Digest::of(&whole));
    let answer = registry.ask(Method::PUT, &path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(
        registry
            .get(&header(&answer, "location"))
            .await
            .bytes()
            .await
            .unwrap(),
        whole
    );
}

#[tokio::test]
async fn a_chunk_out_of_order_is_416_and_changes_nothing() {
    let registry = Registry::start();
    let location = registry.begin("a").await;
    registry.chunk(&location, 0, b"01234").await;
    for from in [0, 4, 6, 1000] {
        let answer = registry.chunk(&location, from, b"xx").await;
        assert_eq!(header(&answer, "range"), "0-4");
        assert_eq!(header(&answer, "location"), location);
        is_error(answer, 416, "BLOB_UPLOAD_INVALID").await;
    }
    let digest = Digest::of(b"01234xx");
    let last = registry.ask(Method::PUT, &format!("{location}?digest={digest}"));
    let last = last
        .header("content-range", "7-8")
        .body("xx")
        .send()
        .await
        .unwrap();
    assert_eq!(last.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    registry.chunk(&location, 5, b"xx").await;
    let path = format!("{location}?digest={digest}");
    let answer = registry.ask(Method::PUT, &path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_chunk_that_contradicts_itself_is_refused() {
    let registry = Registry::start();
    let location = registry.begin("a").await;
    for (range, code) in [
        ("0-9", "SIZE_INVALID"),
        ("x", "BLOB_UPLOAD_INVALID"),
        ("4-1", "BLOB_UPLOAD_INVALID"),
    ] {
        let request = registry
            .ask(Method::PATCH, &location)
            .header("content-range", range);
        is_error(request.body("four").send().await.unwrap(), 400, code).await;
    }
    assert_eq!(header(&registry.get(&location).await, "range"), "0-0");
}

#[tokio::test]
async fn a_wrong_digest_leaves_nothing() {
    let registry = Registry::start();
    let wrong = Digest::of(b"something else");
    let location = registry.begin("a").await;
    registry.chunk(&location, 0, b"content").await;
    let put = registry
        .ask(Method::PUT, &format!("{location}?digest={wrong}"))
        .send()
        .await
        .unwrap();
    let message = is_error(put, 400, "DIGEST_INVALID").await;
    assert!(
        message.contains(&Digest::of(b"content").to_string()),
        "{message}"
    );
    let path = format!("/v2/a/blobs/uploads/?digest={wrong}");
    let post = registry
        .ask(Method::POST, &path)
        .body("content")
        .send()
        .await
        .unwrap();
    is_error(post, 400, "DIGEST_INVALID").await;
    for bad in ["md5:abc", "sha256:abc", "sha256:..%2f..%2fx", "x"] {
        let path = format!("/v2/a/blobs/uploads/?digest={bad}");
        let post = registry
            .ask(Method::POST, &path)
            .body("content")
            .send()
            .await
            .unwrap();
        is_error(post, 400, "DIGEST_INVALID").await;
    }
    for part in ["blobs", "uploads", "repositories"] {
        assert!(registry.files(part).is_empty(), "{part}");
    }
}

#[tokio::test]
async fn sha512_is_a_digest_too() {
    let registry = Registry::start();
    let digest = Digest::of_with(Algorithm::Sha512, b"long");
    // Told at the beginning, or only at the end.
    for query in ["?digest-algorithm=sha512", ""] {
        let begun = registry.post(&format!("/v2/a/blobs/uploads/{query}")).await;
        let path = format!("{}?digest={digest}", header(&begun, "location"));
        let answer = registry
            .put(&path, "application/octet-stream", b"long".to_vec())
            .await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let answer = registry.get(&header(&answer, "location")).await;
        assert_eq!(header(&answer, "docker-content-digest"), digest.to_string());
        assert_eq!(body(answer).await, "long");
    }
    let answer = registry
        .post("/v2/a/blobs/uploads/?digest-algorithm=md5")
        .await;
    is_error(answer, 400, "DIGEST_INVALID").await;
}

#[tokio::test]
async fn an_upload_is_cancelled() {
    let registry = Registry::start();
    let location = registry.begin("a").await;
    registry.chunk(&location, 0, b"content").await;
    assert_eq!(
        registry.delete(&location).await.status(),
        StatusCode::NO_CONTENT
    );
    is_error(registry.get(&location).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    is_error(registry.delete(&location).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    is_error(
        registry.chunk(&location, 7, b"x").await,
        404,
        "BLOB_UPLOAD_UNKNOWN",
    )
    .await;
    assert!(registry.files("uploads").is_empty());
}

#[tokio::test]
async fn an_upload_belongs_to_its_repository() {
    let registry = Registry::start();
    let location = registry.begin("mine").await;
    let elsewhere = location.replace("/mine/", "/yours/");
    is_error(
        registry.chunk(&elsewhere, 0, b"x").await,
        404,
        "BLOB_UPLOAD_UNKNOWN",
    )
    .await;
    is_error(
        registry.delete(&elsewhere).await,
        404,
        "BLOB_UPLOAD_UNKNOWN",
    )
    .await;
    assert_eq!(
        registry.get(&location).await.status(),
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_blob_is_mounted_from_another_repository() {
    let registry = &Registry::start();
    let digest = registry.push_blob("from", b"shared").await;
    let mount = |query: String| {
        let path = format!("/v2/to/blobs/uploads/?{query}");
        async move { registry.post(&path).await }
    };
    let answer = mount(format!("mount={digest}&from=from")).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let location = header(&answer, "location");
    assert_eq!(location, format!("/v2/to/blobs/{digest}"));
    assert_eq!(body(registry.get(&location).await).await, "shared");
    // What cannot be mounted is uploaded.
    let other = Digest::of(b"other");
    for query in [
        format!("mount={other}&from=from"),
        format!("mount={digest}&from=nowhere"),
        format!("mount={digest}"),
        format!("mount={digest}&from=..%2f.."),
    ] {
        let answer = mount(query).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        assert_eq!(
            registry.delete(&header(&answer, "location")).await.status(),
            StatusCode::NO_CONTENT
        );
    }
}

#[tokio::test]
async fn a_manifest_whose_parts_are_missing_is_refused() {
    let registry = Registry::start();
    let image = registry.prepare_image("other", "a").await;
    // The blobs are in the registry, but not in this repository.
    let answer = registry
        .put_manifest("mine", "v1", MANIFEST, &image.bytes)
        .await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let error = &json_body(answer).await["errors"][0];
    assert_eq!(error["code"], "MANIFEST_BLOB_UNKNOWN");
    let missing = json!([image.config.digest, image.layer.digest]);
    assert_eq!(error["detail"]["missing"], missing);
    let catalog = json_body(registry.get("/v2/_catalog").await).await;
    let known = json!(["other"]);
    assert_eq!(
        catalog["repositories"], known,
        "what is refused makes no repository"
    );
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
        { "mediaType": MANIFEST, "digest": image.digest, "size": image.bytes.len() } ] });
    let index = serde_json::to_vec(&index).unwrap();
    let answer = registry.put_manifest("other", "all", INDEX, &index).await;
    is_error(answer, 404, "MANIFEST_BLOB_UNKNOWN").await;
    is_error(
        registry.get("/v2/other/manifests/all").await,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
    let digest = image.digest.to_string();
    registry
        .put_manifest("other", &digest, MANIFEST, &image.bytes)
        .await;
    let answer = registry.put_manifest("other", "all", INDEX, &index).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_sparse_registry_takes_what_a_manifest_is_made_of_later_or_never() {
    let registry = Registry::with(&["--sparse"]);
    let config = Descriptor::of(MediaType::OciConfig, b"{}");
    let layer = Descriptor::of(MediaType::OciLayer, b"later");
    let manifest = Manifest::new(MediaType::OciManifest, config, vec![layer]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let entry = Descriptor::of(MediaType::OciManifest, &manifest);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    let index = serde_json::to_vec(&index).unwrap();
    for (tag, kind, bytes) in [("index", INDEX, &index), ("image", MANIFEST, &manifest)] {
        let answer = registry.put_manifest("a", tag, kind, bytes).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let path = format!("/v2/a/manifests/{tag}");
        assert_eq!(body(registry.get(&path).await).await.as_bytes(), bytes);
    }
    let absent = registry
        .get(&format!("/v2/a/blobs/{}", Digest::of(b"later")))
        .await;
    is_error(absent, 404, "BLOB_UNKNOWN").await;
    registry.push_blob("a", b"later").await;
    registry.gc(&["--grace", "0s"]);
    let kept = registry
        .get(&format!("/v2/a/blobs/{}", Digest::of(b"later")))
        .await;
    assert_eq!(kept.status(), StatusCode::OK);
    // What is there must still be as it is said to be.
    let mut lie: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    lie["layers"][0]["size"] = json!(1);
    let lie = serde_json::to_vec(&lie).unwrap();
    let answer = registry.put_manifest("a", "lie", MANIFEST, &lie).await;
    is_error(answer, 400, "MANIFEST_INVALID").await;
}

#[tokio::test]
async fn layers_that_lie_elsewhere_need_not_be_pushed() {
    let registry = Registry::start();
    let image = registry.prepare_image("a", "a").await;
    let foreign = Descriptor::of(MediaType::DockerForeignLayerGzip, b"far away");
    let layers = vec![foreign, image.layer];
    let manifest = Manifest::new(MediaType::OciManifest, image.config, layers);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let answer = registry.put_manifest("a", "v1", MANIFEST, &bytes).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let registry = Registry::start();
    let image = registry.prepare_image("a", "a").await;
    let mut wrong_size = image.layer.clone();
    wrong_size.size += 1;
    let wrong_size = Manifest::new(
        MediaType::OciManifest,
        image.config.clone(),
        vec![wrong_size],
    );
    let wrong_size = serde_json::to_vec(&wrong_size).unwrap();
    let schema_one = br#"{"schemaVersion":1,"fsLayers":[]}"#;
    for (kind, bytes, words) in [
        (MANIFEST, b"no json".as_slice(), "manifest"),
        (MANIFEST, b"{}", "schema"),
        (INDEX, &image.bytes, "index"),
        ("image/png", &image.bytes, "png"),
        (MANIFEST, &wrong_size, "bytes"),
        (
            "application/vnd.docker.distribution.manifest.v1+json",
            schema_one,
            "schema 1",
        ),
    ] {
        let answer = registry.put_manifest("a", "v1", kind, bytes).await;
        let message = is_error(answer, 400, "MANIFEST_INVALID").await;
        assert!(message.to_lowercase().contains(words), "{message}");
    }
    let other = Digest::of(b"other").to_string();
    let answer = registry
        .put_manifest("a", &other, MANIFEST, &image.bytes)
        .await;
    is_error(answer, 400, "DIGEST_INVALID").await;
    for tag in [".hidden", "-x", &"a".repeat(129), "ä"] {
        let answer = registry
            .put_manifest("a", tag, MANIFEST, &image.bytes)
            .await;
        is_error(answer, 400, "MANIFEST_INVALID").await;
    }
    is_error(
        registry.get("/v2/a/manifests/v1").await,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
}

#[tokio::test]
async fn a_tag_moves_and_the_digest_stays() {
    let registry = Registry::start();
    let old = registry.push_image("a", "v1", "old").await;
    let new = registry.push_image("a", "v1", "new").await;
    assert_eq!(
        registry
            .get("/v2/a/manifests/v1")
            .await
            .bytes()
            .await
            .unwrap(),
        new.bytes
    );
    let by_digest = format!("/v2/a/manifests/{}", old.digest);
    assert_eq!(
        registry.get(&by_digest).await.bytes().await.unwrap(),
        old.bytes
    );
}

#[tokio::test]
async fn one_push_by_digest_gives_many_tags() {
    let registry = Registry::start();
    let image = registry.prepare_image("a", "a").await;
    let target = format!("{}?tag=1.2.3&tag=1.2&tag=latest", image.digest);
    let answer = registry
        .put_manifest("a", &target, MANIFEST, &image.bytes)
        .await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(header(&answer, "oci-tag"), "1.2.3, 1.2, latest");
    let tags = json_body(registry.get("/v2/a/tags/list").await).await;
    assert_eq!(tags["tags"], json!(["1.2", "1.2.3", "latest"]));
    let target = format!("{}?tag=..%2fx", image.digest);
    let answer = registry
        .put_manifest("a", &target, MANIFEST, &image.bytes)
        .await;
    is_error(answer, 400, "MANIFEST_INVALID").await;
}

#[tokio::test]
async fn many_clients_push_the_same_blob_at_once() {
    let registry = Registry::start();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    let pushes = (0..8).map(|n| {
        let (name, bytes) = (format!("r{}", n % 3), &bytes);
        let registry = &registry;
        async move { registry.push_blob(&name, bytes).await }
    });
    let digests = futures_util::future::join_all(pushes).await;
    for name in ["r0", "r1", "r2"] {
        let path = format!("/v2/{name}/blobs/{}", digests[0]);
        assert_eq!(registry.get(&path).await.bytes().await.unwrap(), bytes);
    }
    assert_eq!(registry.files("blobs").len(), 1);
    assert!(registry.files("uploads").is_empty());
}
