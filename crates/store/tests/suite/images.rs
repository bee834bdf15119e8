//! Images by every name: recording, finding, tagging, removing, and `index.json` that tells the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::common::{Layer, Sandbox, Tar, describe, put};
use image::{Descriptor, Digest, Index, MediaType};
use store::{Document, Error, ImageFlaw, ImageRecord, NameFlaw, NewImage, Store};

fn layer(content: &str) -> Layer {
    Layer::gzip(&Tar::new().file("content", content).finish())
}

fn tiny(store: &Store, names: &[&str], salt: &str) -> ImageRecord {
    put(store, &[layer("shared")], names, salt)
}

/// What `index.json` lists: name and digest.
fn index(store: &Store) -> Vec<(Option<String>, Digest)> {
    store.settle().unwrap();
    let text = std::fs::read(store.root().join("index.json")).unwrap();
    let index: Index = serde_json::from_slice(&text).unwrap();
    let name = |entry: &Descriptor| {
        entry
            .annotations
            .get("org.opencontainers.image.ref.name")
            .cloned()
    };
    index
        .manifests
        .iter()
        .map(|entry| (name(entry), entry.digest.clone()))
        .collect()
}

fn found(store: &Store, query: &str) -> Option<String> {
    store.find(query).unwrap().map(|record| record.id)
}

/// The image with an index around its manifest.
fn indexed(mut image: NewImage) -> NewImage {
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        artifact_type: None,
        manifests: vec![image.manifest.descriptor.clone()],
        subject: None,
        annotations: Default::default(),
    };
    image.index = Some(Document::new(
        MediaType::OciIndex,
        serde_json::to_vec(&index).unwrap(),
    ));
    image
}

#[test]
fn a_record_tells_what_the_documents_say() {
    let sandbox = Sandbox::new();
    let record = tiny(&sandbox.store, &["docker.io/library/busybox:1.36"], "a");
    assert_eq!(record.names, ["docker.io/library/busybox:1.36"]);
    assert_eq!(
        record.repo_digests,
        [format!(
            "docker.io/library/busybox@{}",
            record.manifest_digest
        )]
    );
    assert_eq!(record.created, Some(1_714_979_289));
    assert_eq!(record.user, "1000");
    assert!(record.size > 0);
    assert!(!record.pinned);
    assert_eq!(
        sandbox.store.images().unwrap(),
        std::slice::from_ref(&record)
    );
    assert_eq!(
        Digest::of(&serde_json::to_vec(&sandbox.store.image_config(&record).unwrap()).unwrap())
            .hex()
            .len(),
        record.id.len()
    );
}

#[test]
fn an_image_is_found_by_all_that_names_it() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let lease = store.lease().unwrap();
    let shared = layer("shared");
    shared.add(store, &lease).unwrap();
    let image = indexed(describe(
        &[shared],
        &["docker.io/library/busybox:latest"],
        "a",
    ));
    let index = image.index.as_ref().unwrap().descriptor.digest.clone();
    let record = store.put_image(&lease, image).unwrap();
    let other = tiny(
        store,
        &["localhost/mine:latest", "example.com:5000/x/y:v1"],
        "b",
    );
    let by = |query: &str| found(store, query);
    let (id, manifest) = (&record.id, &record.manifest_digest);
    let repository = "docker.io/library/busybox";
    for query in [
        id.clone(),
        format!("sha256:{id}"),
        id[..12].to_owned(),
        manifest.to_string(),
        "busybox".to_owned(),
        "busybox:latest".to_owned(),
        "docker.io/busybox".to_owned(),
        format!("{repository}:latest"),
        format!("busybox@{manifest}"),
        format!("{repository}@{index}"),
        format!("busybox:latest@{manifest}"),
        format!("{repository}:whatever@{index}"),
    ] {
        assert_eq!(by(&query).as_ref(), Some(id), "{query}");
    }
    assert_eq!(by("mine"), Some(other.id.clone()));
    assert_eq!(by("example.com:5000/x/y:v1"), Some(other.id));
    assert_eq!(record.repo_digests.len(), 2, "by manifest and by index");
}

#[test]
fn what_names_no_image_is_absent() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let record = tiny(store, &["docker.io/library/busybox:latest"], "a");
    let wrong = Digest::of(b"wrong");
    for query in [
        "",
        " ",
        "busybox:2",
        "example.com/busybox",
        "..",
        "UPPER/case",
        "a:b:c",
        "sha256:",
        "deadbeef",
        wrong.hex(),
        &wrong.to_string(),
        &format!("busybox@{wrong}"),
        &format!("other@{}", record.manifest_digest),
        // Too short to mean an ID.
        &record.id[..2],
        &record.id.to_uppercase(),
    ] {
        assert_eq!(found(store, query), None, "{query:?}");
    }
}

#[test]
fn a_name_wins_over_a_short_id_and_ambiguity_is_told() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let mut ids: Vec<String> = (0..200)
        .map(|n| tiny(store, &[], &n.to_string()).id)
        .collect();
    ids.sort();
    let (one, two) = ids
        .windows(2)
        .map(|pair| (&pair[0], &pair[1]))
        .find(|(a, b)| a[..3] == b[..3])
        .unwrap_or((&ids[0], &ids[1]));
    let shared = one
        .bytes()
        .zip(two.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    if shared >= 3 {
        let error = store.find(&one[..3]).unwrap_err();
        let Error::Ambiguous { matches, .. } = &error else {
            panic!("{error}")
        };
        assert!(matches.contains(one) && matches.contains(two));
    }
    assert_eq!(found(store, &one[..shared.max(2) + 1]).as_ref(), Some(one));
    let named = tiny(
        store,
        &[&format!("docker.io/library/{}:latest", &one[..12])],
        "named",
    );
    assert_eq!(found(store, &one[..12]), Some(named.id));
    assert_eq!(store.images().unwrap().len(), 201);
}

#[test]
fn a_tag_moves_and_the_old_image_keeps_its_digest_name() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let old = tiny(store, &["example.com/app:latest"], "old");
    let new = tiny(store, &["example.com/app:latest"], "new");
    assert_eq!(
        found(store, "example.com/app:latest").as_ref(),
        Some(&new.id)
    );
    let old = store.find(&old.id).unwrap().unwrap();
    assert!(old.names.is_empty());
    assert_eq!(
        old.repo_digests,
        [format!("example.com/app@{}", old.manifest_digest)]
    );
    let expected = vec![
        (
            Some("example.com/app:latest".to_owned()),
            new.manifest_digest.clone(),
        ),
        (
            Some(old.repo_digests[0].clone()),
            old.manifest_digest.clone(),
        ),
    ];
    assert_eq!(index(store), expected);
}

#[test]
fn tags_come_and_go() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let record = tiny(store, &["example.com/a:1"], "a");
    store.tag(&record.id, "example.com/b:2").unwrap();
    store.tag(&record.id, "docker.io/library/c:3").unwrap();
    let names = |query: &str| store.find(query).unwrap().unwrap();
    assert_eq!(
        names("c:3").names,
        [
            "docker.io/library/c:3",
            "example.com/a:1",
            "example.com/b:2"
        ]
    );
    assert_eq!(names("c:3").repo_digests.len(), 3);
    assert_eq!(index(store).len(), 3);
    assert!(store.untag("example.com/b:2").unwrap());
    assert!(!store.untag("example.com/b:2").unwrap());
    assert_eq!(names("c:3").repo_digests.len(), 2, "nothing of b is left");
    assert!(store.untag("c:3").unwrap() && store.untag("example.com/a:1").unwrap());
    let nameless = names(&record.id);
    assert!(nameless.names.is_empty());
    assert_eq!(
        nameless.repo_digests,
        [format!("example.com/a@{}", record.manifest_digest)]
    );
    for (name, flaw) in [
        ("example.com/a", NameFlaw::NoTag),
        (&format!("a:1@{}", record.manifest_digest), NameFlaw::Both),
    ] {
        let error = store.tag(&record.id, name).unwrap_err();
        assert!(
            matches!(error, Error::NameFlaw { flaw: found, .. } if found == flaw),
            "{error}"
        );
    }
    assert!(matches!(
        store.tag(&record.id, "No:Such:Name").unwrap_err(),
        Error::Name { .. }
    ));
    assert!(matches!(
        store.tag("0123", "x:1").unwrap_err(),
        Error::ImageNotFound { .. }
    ));
}

#[test]
fn removing_an_image_takes_all_its_names() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let record = tiny(
        store,
        &["example.com/a:1", "example.com/a:2", "example.com/b:1"],
        "a",
    );
    let kept = tiny(store, &["example.com/kept:1"], "b");
    assert!(store.remove(&record.id).unwrap());
    assert!(!store.remove(&record.id).unwrap(), "again is no error");
    assert_eq!(found(store, "example.com/a:1"), None);
    assert_eq!(found(store, &record.manifest_digest.to_string()), None);
    assert_eq!(
        index(store),
        [(Some("example.com/kept:1".to_owned()), kept.manifest_digest)]
    );
}

#[test]
fn a_pin_is_kept_when_the_image_is_pulled_again() {
    let sandbox = Sandbox::new();
    let record = tiny(&sandbox.store, &["example.com/pause:3"], "a");
    sandbox.store.set_pinned(&record.id, true).unwrap();
    assert!(tiny(&sandbox.store, &["example.com/pause:3"], "a").pinned);
    assert!(matches!(
        sandbox.store.set_pinned("0123", true).unwrap_err(),
        Error::ImageNotFound { .. }
    ));
}

#[test]
fn the_same_image_from_two_registries_has_one_id() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let archive = Tar::new().file("x", "y").finish();
    let gzip = put(
        store,
        &[Layer::gzip(&archive)],
        &["a.example.com/x:1"],
        "same",
    );
    let zstd = put(
        store,
        &[Layer::zstd(&archive)],
        &["b.example.com/x:1"],
        "same",
    );
    assert_eq!(gzip.id, zstd.id);
    assert_ne!(gzip.manifest_digest, zstd.manifest_digest);
    assert_eq!(zstd.names, ["a.example.com/x:1", "b.example.com/x:1"]);
    for query in [&gzip.manifest_digest, &zstd.manifest_digest] {
        assert_eq!(found(store, &query.to_string()).as_ref(), Some(&gzip.id));
    }
    // Each name keeps the manifest it was pulled by.
    let listed = index(store);
    assert_eq!(listed[0].1, gzip.manifest_digest);
    assert_eq!(listed[1].1, zstd.manifest_digest);
}

/// A store with the layer of an image, and the image.
fn prepared() -> (Sandbox, NewImage) {
    let sandbox = Sandbox::new();
    let shared = layer("shared");
    shared
        .add(&sandbox.store, &sandbox.store.lease().unwrap())
        .unwrap();
    (sandbox, describe(&[shared], &["x:1"], "a"))
}

fn refused(sandbox: &Sandbox, image: NewImage) -> Error {
    let error = sandbox
        .store
        .put_image(&sandbox.store.lease().unwrap(), image)
        .unwrap_err();
    assert_eq!(sandbox.store.images().unwrap(), [], "{error}");
    assert_eq!(index(&sandbox.store), [], "{error}");
    error
}

#[test]
fn an_incomplete_image_is_not_recorded() {
    let sandbox = Sandbox::new();
    let shared = layer("shared");
    let image = describe(std::slice::from_ref(&shared), &["x:1"], "a");
    let error = refused(&sandbox, image.clone());
    assert!(
        matches!(&error, Error::MissingBlob { blob, .. } if *blob == shared.descriptor.digest),
        "{error}"
    );
    let lease = sandbox.store.lease().unwrap();
    sandbox
        .store
        .add_blob(&lease, &shared.descriptor, shared.bytes.as_slice())
        .unwrap();
    let error = refused(&sandbox, image.clone());
    assert!(
        matches!(&error, Error::MissingLayer { diff_id, .. } if *diff_id == shared.diff_id),
        "{error}"
    );
    shared.add(&sandbox.store, &lease).unwrap();
    sandbox.store.put_image(&lease, image).unwrap();
}

#[test]
fn documents_without_their_digests_are_not_recorded() {
    let (sandbox, image) = prepared();
    let mut longer = image.clone();
    longer.manifest.bytes.push(b' ');
    assert!(matches!(
        refused(&sandbox, longer),
        Error::SizeMismatch { .. }
    ));
    let mut changed = image;
    *changed.config.bytes.last_mut().unwrap() = b' ';
    assert!(matches!(
        refused(&sandbox, changed),
        Error::DigestMismatch { .. }
    ));
}

#[test]
fn documents_that_do_not_belong_together_are_not_recorded() {
    let (sandbox, image) = prepared();
    let flaw = |image: NewImage| match refused(&sandbox, image) {
        Error::Mismatch { flaw, .. } => flaw,
        other => panic!("{other}"),
    };
    let mut other_config = image.clone();
    other_config.config = Document::new(MediaType::OciConfig, b"{}".to_vec());
    assert!(matches!(flaw(other_config), ImageFlaw::Config { .. }));
    let mut fewer_layers = describe(&[], &["x:1"], "a");
    let text = String::from_utf8(fewer_layers.manifest.bytes).unwrap();
    let named = fewer_layers.config.descriptor.digest.to_string();
    let text = text.replace(&named, &image.config.descriptor.digest.to_string());
    fewer_layers.manifest = Document::new(MediaType::OciManifest, text.into_bytes());
    fewer_layers.config = image.config.clone();
    assert_eq!(
        flaw(fewer_layers),
        ImageFlaw::Layers {
            layers: 0,
            diff_ids: 1
        }
    );
    let mut index_as_manifest = indexed(image.clone());
    index_as_manifest.manifest = index_as_manifest.index.clone().unwrap();
    assert_eq!(flaw(index_as_manifest), ImageFlaw::Index);
    let mut other_index = image;
    other_index.index = indexed(describe(&[], &[], "other")).index;
    assert!(matches!(flaw(other_index), ImageFlaw::NotInIndex { .. }));
}

#[test]
fn names_that_are_none_are_not_recorded() {
    let (sandbox, image) = prepared();
    let own = &image.manifest.descriptor.digest;
    let other = Digest::of(b"?");
    for (name, expected) in [
        ("x".to_owned(), NameFlaw::Bare),
        (format!("x@{other}"), NameFlaw::OtherDigest),
        (format!("x:1@{own}"), NameFlaw::Both),
    ] {
        let named = NewImage {
            names: vec![name],
            ..image.clone()
        };
        let error = refused(&sandbox, named);
        assert!(
            matches!(error, Error::NameFlaw { flaw, .. } if flaw == expected),
            "{error}"
        );
    }
    let malformed = NewImage {
        names: vec!["UP:per:case".to_owned()],
        ..image.clone()
    };
    assert!(matches!(refused(&sandbox, malformed), Error::Name { .. }));
}

#[test]
fn hundreds_of_images_are_listed_and_found() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let lease = store.lease().unwrap();
    let shared = layer("shared");
    shared.add(store, &lease).unwrap();
    let name = |n: usize| format!("example.com/many/{n}:v{n}");
    for n in 0..300 {
        store
            .put_image(
                &lease,
                describe(std::slice::from_ref(&shared), &[&name(n)], &n.to_string()),
            )
            .unwrap();
    }
    assert_eq!(store.images().unwrap().len(), 300);
    assert_eq!(index(store).len(), 300);
    // Another handle sees the same.
    let other = Store::open(sandbox.root()).unwrap();
    for n in (0..300).step_by(37) {
        assert_eq!(other.find(&name(n)).unwrap().unwrap().names, [name(n)]);
    }
}

#[test]
fn an_index_that_was_lost_or_left_stale_is_written_again() {
    let sandbox = Sandbox::new();
    let record = tiny(&sandbox.store, &["example.com/a:1"], "a");
    let path = sandbox.root().join("index.json");
    // As if the process had died between the database and the file.
    let database = rusqlite::Connection::open(sandbox.root().join("meta.sqlite")).unwrap();
    database
        .execute("UPDATE state SET value = value + 1 WHERE key = 'names'", [])
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let store = Store::open(sandbox.root()).unwrap();
    assert_eq!(
        index(&store),
        [(Some("example.com/a:1".to_owned()), record.manifest_digest)]
    );
}

#[test]
fn listing_is_never_disturbed_by_images_that_come_and_go() {
    let sandbox = Sandbox::new();
    let kept = tiny(&sandbox.store, &["example.com/kept:1"], "kept");
    let writer = Store::open(sandbox.root()).unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            for n in 0..60 {
                let record = tiny(&writer, &["example.com/other:1"], &n.to_string());
                writer.remove(&record.id).unwrap();
                writer.gc().unwrap();
            }
        });
        while !writing.is_finished() {
            assert!(sandbox.store.images().unwrap().contains(&kept));
            sandbox.store.find("example.com/other:1").unwrap();
        }
    });
}
