//! The store by repository: what the registry that serves a node's images asks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::common::{Layer, Sandbox, Tar, describe, put};
use image::{Digest, Index, MediaType, Reference};
use store::Document;

fn layer(content: &str) -> Layer {
    Layer::gzip(&Tar::new().file("content", content).finish())
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

#[test]
fn repositories_and_tags_are_listed_and_never_mixed_with_longer_names() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    put(
        store,
        &[layer("x")],
        &["r.io/a:2", "r.io/a:10", "r.io/a/b:3", "r.io/a-b:4"],
        "x",
    );
    put(store, &[layer("y")], &["r.io:5000/a:5"], "y");
    assert_eq!(
        store.repositories().unwrap(),
        ["r.io/a", "r.io/a-b", "r.io/a/b", "r.io:5000/a"]
    );
    let tags = |repository| store.repository_tags(&name(repository)).unwrap();
    assert_eq!(tags("r.io/a"), Some(vec!["10".to_owned(), "2".to_owned()]));
    assert_eq!(tags("r.io/a/b"), Some(vec!["3".to_owned()]));
    assert_eq!(tags("r.io:5000/a"), Some(vec!["5".to_owned()]));
    assert_eq!(tags("r.io/b"), None);
    assert_eq!(tags("r.io/a/b/c"), None);
}

#[test]
fn a_repository_without_tags_is_known_by_its_digests() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let record = put(store, &[layer("x")], &["r.io/a:1"], "x");
    store.untag("r.io/a:1").unwrap();
    assert_eq!(
        store.repository_tags(&name("r.io/a")).unwrap(),
        Some(Vec::new())
    );
    assert!(
        store
            .repository_has(&name("r.io/a"), &record.manifest_digest)
            .unwrap()
    );
    assert_eq!(store.tagged_manifest(&name("r.io/a:1")).unwrap(), None);
    store.remove(&record.id).unwrap();
    assert_eq!(store.repository_tags(&name("r.io/a")).unwrap(), None);
    assert!(
        !store
            .repository_has(&name("r.io/a"), &record.manifest_digest)
            .unwrap()
    );
}

#[test]
fn a_blob_belongs_to_the_repositories_of_its_images_only() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let (shared, own) = (layer("shared"), layer("own"));
    put(store, std::slice::from_ref(&shared), &["r.io/a:1"], "a");
    put(store, &[shared.clone(), own.clone()], &["r.io/b:1"], "b");
    let has =
        |repository, digest: &Digest| store.repository_has(&name(repository), digest).unwrap();
    assert!(has("r.io/a", &shared.descriptor.digest) && has("r.io/b", &shared.descriptor.digest));
    assert!(has("r.io/b", &own.descriptor.digest));
    assert!(!has("r.io/a", &own.descriptor.digest));
    assert!(!has("r.io/c", &shared.descriptor.digest));
    assert!(!has("r.io/a", &Digest::of(b"nothing")));
}

#[test]
fn a_tag_stands_for_the_index_that_its_image_was_chosen_from() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let layers = [layer("x")];
    let mut new = describe(&layers, &["r.io/a:multi"], "x");
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        artifact_type: None,
        manifests: vec![new.manifest.descriptor.clone()],
        subject: None,
        annotations: Default::default(),
    };
    let manifest = new.manifest.descriptor.digest.clone();
    let index = Document::new(MediaType::OciIndex, serde_json::to_vec(&index).unwrap());
    let digest = index.descriptor.digest.clone();
    new.index = Some(index);
    let lease = store.lease().unwrap();
    layers[0].add(store, &lease).unwrap();
    store.put_image(&lease, new).unwrap();
    assert_eq!(
        store.tagged_manifest(&name("r.io/a:multi")).unwrap(),
        Some(digest)
    );
    let plain = put(store, &[layer("y")], &["r.io/a:plain"], "y");
    assert_eq!(
        store.tagged_manifest(&name("r.io/a:plain")).unwrap(),
        Some(plain.manifest_digest)
    );
    // Another repository was never named with the index.
    let id = store.find("r.io/a:multi").unwrap().unwrap().id;
    store.tag(&id, "r.io/b:1").unwrap();
    assert_eq!(
        store.tagged_manifest(&name("r.io/b:1")).unwrap(),
        Some(manifest)
    );
}
