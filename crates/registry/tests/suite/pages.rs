//! The pages for people and the figures for Prometheus.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use crate::support::{INDEX, MANIFEST, Registry, body, header};
use image::{Descriptor, Digest, MediaType};
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test]
async fn pages_show_repositories_tags_platforms_sizes_and_layers() {
    let registry = Registry::start();
    assert!(
        body(registry.get("/").await)
            .await
            .contains("There is nothing here yet")
    );
    let image = registry.push_image("team/app", "v1", "x").await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
        { "mediaType": MANIFEST, "digest": image.digest, "size": image.bytes.len(),
          "platform": { "os": "linux", "architecture": "riscv64" } } ] });
    registry
        .put_manifest(
            "team/app",
            "multi",
            INDEX,
            &serde_json::to_vec(&index).unwrap(),
        )
        .await;
    let home = body(registry.get("/").await).await;
    assert!(
        home.contains("<a href=\"/repository/team/app\">team/app</a>"),
        "{home}"
    );
    let page = body(registry.get("/repository/team/app").await).await;
    for expected in [
        "<h2>v1</h2>",
        "<h2>multi</h2>",
        "linux/arm64/v8",
        "linux/riscv64",
        "layers: 1",
        &format!("{} B", image.config.size + image.layer.size),
        &image.layer.digest.to_string(),
        &image.digest.to_string(),
    ] {
        assert!(page.contains(expected), "no {expected} in {page}");
    }
    assert_eq!(
        registry.get("/repository/nobody").await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn what_clients_push_is_never_markup() {
    let registry = Registry::start();
    const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let config = json!({ "os": EVIL, "architecture": EVIL, "variant": EVIL });
    let config = serde_json::to_vec(&config).unwrap();
    registry.push_blob("evil", &config).await;
    let layer = registry.push_blob("evil", b"x").await;
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
        "config": Descriptor::of(MediaType::OciConfig, &config),
        "layers": [{ "mediaType": EVIL, "digest": layer, "size": 1 }] });
    let bytes = serde_json::to_vec(&manifest).unwrap();
    assert_eq!(
        registry
            .put_manifest("evil", "v1", MANIFEST, &bytes)
            .await
            .status(),
        StatusCode::CREATED
    );
    let artifact = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": EVIL,
        "config": manifest["config"], "layers": [] });
    let artifact = serde_json::to_vec(&artifact).unwrap();
    registry
        .put_manifest("evil", "v2", MANIFEST, &artifact)
        .await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
        { "mediaType": MANIFEST, "digest": Digest::of(&bytes), "size": bytes.len(),
          "platform": { "os": EVIL, "architecture": EVIL } } ] });
    registry
        .put_manifest("evil", "v3", INDEX, &serde_json::to_vec(&index).unwrap())
        .await;
    let answer = registry.get("/repository/evil").await;
    let policy = header(&answer, "content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(header(&answer, "content-type"), "text/html; charset=utf-8");
    let page = body(answer).await;
    assert_eq!(page.matches("&lt;script&gt;").count(), 7, "{page}");
    assert!(
        !page.contains("<script") && !page.contains("<img"),
        "{page}"
    );
    let wrong = registry.get("/repository/x%22%3E%3Cscript%3E").await;
    assert_eq!(header(&wrong, "content-type"), "application/json");
    assert_eq!(header(&wrong, "x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn metrics_count_requests_on_an_address_of_their_own() {
    let registry = Registry::with(&["--metrics-listen", "127.0.0.1:0"]);
    registry.push_blob("a", b"twelve bytes").await;
    registry.get("/v2/none/tags/list").await;
    let _ = registry.raw(b"INVENTED /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let url = format!("http://{}", registry.metrics.unwrap());
    let answer = registry
        .client
        .get(format!("{url}/metrics"))
        .send()
        .await
        .unwrap();
    assert!(header(&answer, "content-type").starts_with("application/openmetrics-text"));
    let text = body(answer).await;
    for line in [
        "floe_registry_requests_total{method=\"POST\",code=\"201\"} 1",
        "floe_registry_requests_total{method=\"GET\",code=\"404\"} 1",
        "floe_registry_requests_total{method=\"other\",code=\"405\"} 1",
        "floe_registry_received_bytes_total 12",
        "floe_registry_request_duration_seconds_count 3",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in {text}");
    }
    let other = registry
        .client
        .get(format!("{url}/v2/"))
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        registry.get("/metrics").await.status(),
        StatusCode::NOT_FOUND
    );
}
