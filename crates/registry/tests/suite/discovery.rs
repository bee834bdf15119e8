//! Content discovery (Distribution spec, "Content Discovery"; end-8a, end-8b, end-12a, end-12b) and the
//! catalog.

#![allow(missing_docs, clippy::unwrap_used, reason = "test code")]

use crate::support::{Image, MANIFEST, Registry, header, is_error, json_body};
use image::{Digest, Manifest, MediaType};
use reqwest::StatusCode;
use serde_json::{Value, json};

const TAGS: [&str; 5] = ["1", "10", "2", "A", "a"];

async fn tagged(registry: &Registry) {
    let image = registry.push_image("some/name", "1", "x").await;
    for tag in ["a", "2", "A", "10"] {
        registry
            .put_manifest("some/name", tag, MANIFEST, &image.bytes)
            .await;
    }
}

#[tokio::test]
async fn tags_are_listed_in_order() {
    let registry = Registry::start();
    tagged(&registry).await;
    let list = json_body(registry.get("/v2/some/name/tags/list").await).await;
    assert_eq!(list, json!({ "name": "some/name", "tags": TAGS }));
}

#[tokio::test]
async fn a_part_of_the_tags_says_where_the_next_begins() {
    let registry = Registry::start();
    tagged(&registry).await;
    let mut path = "/v2/some/name/tags/list?n=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let answer = registry.get(&path).await;
        let link = answer.headers().get("link").cloned();
        let list = json_body(answer).await;
        seen.push(list["tags"].as_array().unwrap().clone());
        let Some(link) = link else {
            break;
        };
        let link = link.to_str().unwrap();
        path = link
            .strip_prefix('<')
            .unwrap()
            .split_once(">; rel=\"next\"")
            .unwrap()
            .0
            .to_owned();
    }
    assert_eq!(
        seen,
        [
            vec![json!("1"), json!("10")],
            vec![json!("2"), json!("A")],
            vec![json!("a")]
        ]
    );
    for (query, expected) in [
        ("?n=0", json!([])),
        ("?last=2", json!(["A", "a"])),
        ("?n=1&last=1", json!(["10"])),
        ("?n=3&last=zzz", json!([])),
    ] {
        let answer = registry
            .get(&format!("/v2/some/name/tags/list{query}"))
            .await;
        if query == "?n=0" {
            assert!(answer.headers().get("link").is_none());
        }
        assert_eq!(json_body(answer).await["tags"], expected, "{query}");
    }
    is_error(
        registry.get("/v2/some/name/tags/list?n=many").await,
        400,
        "UNSUPPORTED",
    )
    .await;
}

#[tokio::test]
async fn the_catalog_lists_repositories_in_parts() {
    let registry = Registry::start();
    for name in ["b", "a/b", "a", "a-b", "c/d/e"] {
        registry.push_image(name, "v1", "x").await;
    }
    let list = json_body(registry.get("/v2/_catalog").await).await;
    assert_eq!(
        list["repositories"],
        json!(["a", "a-b", "a/b", "b", "c/d/e"])
    );
    let answer = registry.get("/v2/_catalog?n=2&last=a-b").await;
    assert_eq!(
        header(&answer, "link"),
        "</v2/_catalog?n=2&last=b>; rel=\"next\""
    );
    assert_eq!(json_body(answer).await["repositories"], json!(["a/b", "b"]));
}

/// Pushes something that refers to an image.
async fn refer(
    registry: &Registry,
    subject: &Digest,
    artifact: Option<&str>,
    note: &str,
) -> Digest {
    let Image { config, layer, .. } = registry.prepare_image("n", "x").await;
    let mut manifest = Manifest::new(MediaType::OciManifest, config, vec![layer]);
    let mut about = manifest.config.clone();
    (about.media_type, about.digest, about.size) = (MediaType::OciManifest, subject.clone(), 7);
    manifest.subject = Some(about);
    manifest.artifact_type = artifact.map(str::to_owned);
    manifest
        .annotations
        .insert("note".to_owned(), note.to_owned());
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let digest = Digest::of(&bytes);
    let answer = registry
        .put_manifest("n", &digest.to_string(), MANIFEST, &bytes)
        .await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(header(&answer, "oci-subject"), subject.to_string());
    digest
}

fn digests(index: &Value) -> Vec<&str> {
    let manifests = index["manifests"].as_array().unwrap();
    manifests
        .iter()
        .map(|m| m["digest"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn referrers_are_listed_with_type_and_annotations() {
    let registry = Registry::start();
    // The subject may come later, or never.
    let subject = Digest::of(b"subject");
    let path = format!("/v2/n/referrers/{subject}");
    let sbom = refer(&registry, &subject, Some("example/sbom+json"), "one").await;
    let image = refer(&registry, &subject, None, "two").await;
    let answer = registry.get(&path).await;
    assert_eq!(
        header(&answer, "content-type"),
        "application/vnd.oci.image.index.v1+json"
    );
    let index = json_body(answer).await;
    assert_eq!(digests(&index).len(), 2);
    for (digest, artifact, note) in [
        (&sbom, "example/sbom+json", "one"),
        (&image, "application/vnd.oci.image.config.v1+json", "two"),
    ] {
        let manifests = index["manifests"].as_array().unwrap();
        let entry = manifests
            .iter()
            .find(|m| m["digest"] == digest.to_string())
            .unwrap();
        assert_eq!(entry["artifactType"], artifact);
        assert_eq!(entry["annotations"]["note"], note);
        assert_eq!(entry["mediaType"], MANIFEST);
    }
    for encoded in ["example/sbom%2Bjson", "example/sbom+json"] {
        let answer = registry
            .get(&format!("{path}?artifactType={encoded}"))
            .await;
        assert_eq!(header(&answer, "oci-filters-applied"), "artifactType");
        assert_eq!(digests(&json_body(answer).await), [sbom.to_string()]);
    }
    registry.delete(&format!("/v2/n/manifests/{sbom}")).await;
    assert_eq!(
        digests(&json_body(registry.get(&path).await).await),
        [image.to_string()]
    );
}

#[tokio::test]
async fn nothing_refers_to_what_nobody_knows() {
    let registry = Registry::start();
    let path = format!("/v2/nowhere/referrers/{}", Digest::of(b"x"));
    let answer = registry.get(&path).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(json_body(answer).await["manifests"], json!([]));
    is_error(
        registry.get("/v2/n/referrers/sha256:short").await,
        400,
        "DIGEST_INVALID",
    )
    .await;
}

#[tokio::test]
async fn many_referrers_come_in_parts_of_bounded_size() {
    let registry = Registry::start();
    let subject = Digest::of(b"subject");
    let mut pushed = Vec::new();
    for n in 0..5 {
        // Together they are larger than a client must take at once.
        let note = n.to_string().repeat(1_200_000);
        pushed.push(
            refer(&registry, &subject, Some("t"), &note)
                .await
                .to_string(),
        );
    }
    pushed.sort();
    let mut path = format!("/v2/n/referrers/{subject}?artifactType=t");
    let (mut seen, mut parts) = (Vec::new(), 0);
    loop {
        let answer = registry.get(&path).await;
        let link = answer.headers().get("link").cloned();
        let bytes = answer.bytes().await.unwrap();
        assert!(bytes.len() < (4 << 20) + 1000, "{}", bytes.len());
        let index: Value = serde_json::from_slice(&bytes).unwrap();
        seen.extend(digests(&index).into_iter().map(str::to_owned));
        parts += 1;
        let Some(link) = link else {
            break;
        };
        path = link.to_str().unwrap()[1..]
            .split_once('>')
            .unwrap()
            .0
            .to_owned();
        assert!(path.contains("artifactType=t"), "{path}");
    }
    assert_eq!(seen, pushed);
    assert_eq!(parts, 2);
}
