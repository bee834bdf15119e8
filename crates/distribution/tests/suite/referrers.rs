//! Referrers, by the API and by the tag that stands in for it; and what registries warn of.

use std::sync::{Arc, Mutex};

use crate::support::real::RealRegistry;
use crate::support::{NOBODY, Reply, Server, client, config, failure, insecure, manifest};
use bytes::Bytes;
use distribution::{BlobBody, Client, Error, Warnings};
use image::{Descriptor, Digest, Index, Manifest, MediaType};

fn index(entries: &[(&str, &str)]) -> Vec<u8> {
    let entries = entries.iter().map(|(content, kind)| {
        let mut entry = Descriptor::of(MediaType::OciManifest, content.as_bytes());
        entry.artifact_type = Some((*kind).to_owned());
        entry
    });
    serde_json::to_vec(&Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        artifact_type: None,
        manifests: entries.collect(),
        subject: None,
        annotations: Default::default(),
    })
    .unwrap()
}

#[tokio::test]
async fn pages_of_the_api_are_read_and_filtered_here() {
    let digest = Digest::of(b"subject");
    let path = format!("/v2/x/referrers/{digest}");
    let wanted = path.clone();
    let server = Server::start(move |request| match request.query.as_str() {
        _ if request.path != wanted => Reply::status(500),
        "" => Reply::manifest(
            &MediaType::OciIndex,
            index(&[("a", "sig/1"), ("b", "sbom/1")]),
        )
        .with("Link", format!("<{wanted}?page=2>; rel=\"next\"")),
        _ => Reply::manifest(&MediaType::OciIndex, index(&[("c", "sig/1")])),
    })
    .await;
    let client = client(&server);
    let name = server.reference("x");
    let all = client
        .referrers(&name, &digest, None, NOBODY)
        .await
        .unwrap();
    assert_eq!(all.len(), 3);
    let some = client
        .referrers(&name, &digest, Some("sig/1"), NOBODY)
        .await
        .unwrap();
    let digests: Vec<_> = some.iter().map(|entry| entry.digest.clone()).collect();
    assert_eq!(digests, [Digest::of(b"a"), Digest::of(b"c")]);
}

#[tokio::test]
async fn without_the_api_the_tag_is_read_and_nothing_is_an_empty_list() {
    let digest = Digest::of(b"subject");
    let tag = format!("/v2/x/manifests/sha256-{}", digest.hex());
    let server = Server::start(move |request| match request.path == tag {
        true => Reply::manifest(&MediaType::OciIndex, index(&[("a", "sig/1")])),
        false => Reply::status(404),
    })
    .await;
    let client = client(&server);
    let name = server.reference("x");
    assert_eq!(
        client
            .referrers(&name, &digest, None, NOBODY)
            .await
            .unwrap()
            .len(),
        1
    );
    let other = Digest::of(b"other");
    assert!(
        client
            .referrers(&name, &other, None, NOBODY)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_no_list_of_referrers_is_an_error() {
    let server = Server::start(|_| Reply::manifest(&MediaType::OciManifest, manifest())).await;
    let digest = Digest::of(b"subject");
    let listed = client(&server)
        .referrers(&server.reference("x"), &digest, None, NOBODY)
        .await;
    let error = failure(listed);
    assert!(
        matches!(
            error,
            Error::Image(image::Error::Manifest { .. }) | Error::Protocol { .. }
        ),
        "{error}"
    );
}

/// A manifest about `subject`, with the empty config of artifacts.
fn about(subject: &Descriptor, kind: &str) -> Vec<u8> {
    let config = Descriptor::of(MediaType::OciEmpty, b"{}");
    let mut manifest = Manifest::new(MediaType::OciManifest, config.clone(), vec![config]);
    manifest.artifact_type = Some(kind.to_owned());
    manifest.subject = Some(subject.clone());
    manifest.annotations.insert("who".into(), kind.into());
    serde_json::to_vec(&manifest).unwrap()
}

#[tokio::test]
async fn pushing_to_a_registry_without_the_api_keeps_the_list_under_the_tag() {
    let Some(registry) = RealRegistry::start(false) else {
        return;
    };
    let client = Client::new(config(&registry.insecure()));
    let name = registry.reference("about:1");
    let empty = Descriptor::of(MediaType::OciEmpty, b"{}");
    let body = BlobBody::Bytes(Bytes::from_static(b"{}"));
    client.push_blob(&name, &empty, body, NOBODY).await.unwrap();
    let subject =
        serde_json::to_vec(&Manifest::new(MediaType::OciManifest, empty, Vec::new())).unwrap();
    let descriptor = Descriptor::of(MediaType::OciManifest, &subject);
    client
        .push_manifest(&name, &MediaType::OciManifest, subject.into(), NOBODY)
        .await
        .unwrap();
    let mut digests = Vec::new();
    for kind in ["sig/1", "sbom/1", "sig/1"] {
        let bytes = Bytes::from(about(&descriptor, kind));
        let by_digest = name.repository().with_digest(Digest::of(&bytes));
        let pushed = client.push_manifest(&by_digest, &MediaType::OciManifest, bytes, NOBODY);
        digests.push(pushed.await.unwrap());
    }
    let all = client
        .referrers(&name, &descriptor.digest, None, NOBODY)
        .await
        .unwrap();
    let listed: Vec<_> = all.iter().map(|entry| entry.digest.clone()).collect();
    assert_eq!(listed, digests[..2], "the third is the first again");
    assert_eq!(all[1].artifact_type.as_deref(), Some("sbom/1"));
    assert_eq!(all[1].annotations["who"], "sbom/1");
    let some = client
        .referrers(&name, &descriptor.digest, Some("sig/1"), NOBODY)
        .await
        .unwrap();
    assert_eq!(some.len(), 1);
}

#[tokio::test]
async fn a_registry_that_keeps_the_list_itself_is_not_written_to() {
    let server = Server::start(|request| match request.method.as_str() {
        "PUT" => Reply::status(201).with("OCI-Subject", Digest::of(b"subject")),
        _ => Reply::status(500),
    })
    .await;
    let subject = Descriptor::of(MediaType::OciManifest, b"subject");
    let bytes = Bytes::from(about(&subject, "sig/1"));
    let pushed = client(&server)
        .push_manifest(
            &server.reference("x:1"),
            &MediaType::OciManifest,
            bytes,
            NOBODY,
        )
        .await;
    pushed.unwrap();
    assert_eq!(server.log(), ["PUT /v2/x/manifests/1"]);
}

#[tokio::test]
async fn warnings_are_told_once_each_and_clean() {
    let server = Server::start(|_| {
        Reply::manifest(&MediaType::OciManifest, manifest())
            .with("Warning", "299 - \"gone \ttomorrow\"")
            .with("Warning", "110 - \"stale\"")
    })
    .await;
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&told);
    let client = Client::new(distribution::ClientConfig {
        warnings: Warnings::to(move |registry, words| {
            seen.lock().unwrap().push(format!("{registry}: {words}"));
        }),
        ..config(&insecure(&server))
    });
    for tag in ["x:1", "x:2"] {
        client
            .manifest(&server.reference(tag), NOBODY)
            .await
            .unwrap();
    }
    let expected = format!("{}: gone  tomorrow", server.domain());
    assert_eq!(*told.lock().unwrap(), [expected]);
}
