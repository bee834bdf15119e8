//! Pull (Distribution spec, "Pull"; end-1, end-2, end-3).

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use crate::support::{INDEX, MANIFEST, Registry, body, client, header, is_error};
use image::Digest;
use reqwest::{Method, StatusCode};

#[tokio::test]
async fn the_base_says_that_this_is_a_registry() {
    let registry = Registry::start();
    for path in ["/v2/", "/v2"] {
        let answer = registry.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            header(&answer, "docker-distribution-api-version"),
            "registry/2.0"
        );
    }
}

#[tokio::test]
async fn a_manifest_is_what_was_pushed_by_tag_and_by_digest() {
    let registry = Registry::start();
    let image = registry.push_image("some/name", "v1.0_x-y", "a").await;
    let digest = image.digest.to_string();
    for target in ["v1.0_x-y", &digest, &digest.replace(':', "%3A")] {
        let path = format!("/v2/some/name/manifests/{target}");
        let head = registry.head(&path).await;
        let answer = registry.get(&path).await;
        for answer in [&head, &answer] {
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(header(answer, "content-type"), MANIFEST);
            assert_eq!(header(answer, "docker-content-digest"), digest);
            assert_eq!(
                header(answer, "content-length"),
                image.bytes.len().to_string()
            );
        }
        assert!(head.bytes().await.unwrap().is_empty());
        assert_eq!(answer.bytes().await.unwrap(), image.bytes);
    }
}

#[tokio::test]
async fn what_is_not_there_is_404_with_the_specifications_code() {
    let registry = Registry::start();
    registry.push_image("here", "v1", "a").await;
    let nothing = Digest::of(b"nothing");
    for (path, code) in [
        ("/v2/here/manifests/other".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/here/manifests/{nothing}"), "MANIFEST_UNKNOWN"),
        (format!("/v2/here/blobs/{nothing}"), "BLOB_UNKNOWN"),
        // As others answer, and clients tell "not there" from a failure by it.
        ("/v2/there/manifests/v1".to_owned(), "MANIFEST_UNKNOWN"),
        ("/v2/there/tags/list".to_owned(), "NAME_UNKNOWN"),
        (format!("/v2/there/blobs/{nothing}"), "BLOB_UNKNOWN"),
    ] {
        assert_eq!(
            registry.head(&path).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
        is_error(registry.get(&path).await, 404, code).await;
    }
}

#[tokio::test]
async fn a_blob_is_had_only_from_a_repository_that_has_it() {
    let registry = Registry::start();
    let digest = registry.push_blob("mine", b"content").await;
    let answer = registry.get(&format!("/v2/mine/blobs/{digest}")).await;
    assert_eq!(header(&answer, "docker-content-digest"), digest.to_string());
    assert_eq!(header(&answer, "content-type"), "application/octet-stream");
    assert_eq!(body(answer).await, "content");
    let head = registry.head(&format!("/v2/mine/blobs/{digest}")).await;
    assert_eq!(header(&head, "content-length"), "7");
    is_error(
        registry.get(&format!("/v2/yours/blobs/{digest}")).await,
        404,
        "BLOB_UNKNOWN",
    )
    .await;
}

#[tokio::test]
async fn a_range_of_a_blob_is_that_part_and_no_more() {
    let registry = Registry::start();
    let bytes: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
    let digest = registry.push_blob("r", &bytes).await;
    let path = format!("/v2/r/blobs/{digest}");
    let size = bytes.len();
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-400000", 1000, 400_001),
        ("bytes=699999-", size - 1, size),
        ("bytes=-10", size - 10, size),
        ("bytes=5-99999999", 5, size),
    ] {
        let answer = registry
            .ask(Method::GET, &path)
            .header("range", range)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        let stated = format!("bytes {start}-{}/{size}", end - 1);
        assert_eq!(header(&answer, "content-range"), stated);
        assert_eq!(answer.bytes().await.unwrap(), bytes[start..end], "{range}");
    }
    for (range, condition) in [
        ("bytes=0-1,5-6", None),
        ("bytes=9-1", None),
        ("bytes=0-1", Some("\"other\"")),
    ] {
        let mut request = registry.ask(Method::GET, &path).header("range", range);
        if let Some(condition) = condition {
            request = request.header("if-range", condition);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{range}");
        assert_eq!(answer.bytes().await.unwrap(), bytes);
    }
    let outside = registry
        .ask(Method::GET, &path)
        .header("range", format!("bytes={size}-"));
    let answer = outside.send().await.unwrap();
    assert_eq!(header(&answer, "content-range"), format!("bytes */{size}"));
    is_error(answer, 416, "SIZE_INVALID").await;
}

#[tokio::test]
async fn a_client_gets_a_manifest_only_of_a_type_that_it_accepts() {
    let registry = Registry::start();
    registry.push_image("n", "v1", "a").await;
    let ask = |accept: &'static str| {
        let request = registry.ask(Method::GET, "/v2/n/manifests/v1");
        async move { request.header("accept", accept).send().await.unwrap() }
    };
    assert_eq!(ask(MANIFEST).await.status(), StatusCode::OK);
    assert_eq!(ask("text/html, */*;q=0.1").await.status(), StatusCode::OK);
    let message = is_error(ask(INDEX).await, 404, "MANIFEST_UNKNOWN").await;
    assert!(message.contains("does not accept"), "{message}");
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let registry = Registry::start();
    let image = registry.push_image("n", "v1", "a").await;
    let layer = image.layer.digest.to_string();
    for (path, digest) in [
        ("/v2/n/manifests/v1".to_owned(), image.digest.to_string()),
        (format!("/v2/n/blobs/{layer}"), layer),
    ] {
        let etag = header(&registry.get(&path).await, "etag");
        assert_eq!(etag, format!("\"{digest}\""));
        let ask = |etag: &str| {
            registry
                .ask(Method::GET, &path)
                .header("if-none-match", etag)
                .send()
        };
        let answer = ask(&etag).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert!(answer.bytes().await.unwrap().is_empty());
        assert_eq!(
            ask("\"sha256:other\"").await.unwrap().status(),
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn pulls_go_over_http_2_too() {
    let registry = Registry::start();
    let image = registry.push_image("n", "v1", "a").await;
    let client = client().http2_prior_knowledge().build().unwrap();
    let answer = client
        .get(registry.url("/v2/n/manifests/v1"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.bytes().await.unwrap(), image.bytes);
    let head = client
        .head(registry.url("/v2/n/manifests/none"))
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), StatusCode::NOT_FOUND);
    let path = format!("/v2/n/blobs/{}", image.layer.digest);
    let answer = client.get(registry.url(&path)).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), image.layer_bytes);
}
