//! Artifacts: files that nothing is unpacked of, under names that their manifest gives them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use image::{Descriptor, MediaType};
use store::{Check, Document, Error, ImageRecord, KeepBlobs, Store};

use crate::common::{Layer, Sandbox, Tar, documents, put, upper};

const NAME: &str = "example.com/model:1";
const TITLE: &str = "org.opencontainers.image.title";

fn file(name: &str, content: &[u8]) -> (Descriptor, Vec<u8>) {
    let kind = MediaType::from("application/vnd.example.weights");
    let mut descriptor = Descriptor::of(kind, content);
    descriptor.annotations.insert(TITLE.into(), name.into());
    (descriptor, content.to_vec())
}

/// Adds an artifact of these files.
fn add(store: &Store, files: &[(Descriptor, Vec<u8>)]) -> ImageRecord {
    let lease = store.lease().unwrap();
    for (descriptor, content) in files {
        store
            .add_blob(&lease, descriptor, content.as_slice())
            .unwrap();
    }
    // What it has as its config is no image's.
    let config = b"{\"config\":[\"of a model\"]}".to_vec();
    let config = Document::new(MediaType::from("application/vnd.example.config"), config);
    let layers = files.iter().map(|(descriptor, _)| descriptor.clone());
    let new = documents(config, layers.collect(), &[NAME]);
    store.put_image(&lease, new).unwrap()
}

fn blob(store: &Store, of: &Descriptor) -> PathBuf {
    let blobs = store.root().join("blobs/sha256");
    blobs.join(of.digest.hex())
}

fn sound(store: &Store) {
    let report = store.check(Check::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn an_artifact_is_named_by_its_manifest_and_goes_with_all_that_is_its_own() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let files = [file("a", b"first"), file("d/b", b"second")];
    let record = add(store, &files);
    assert!(record.is_artifact());
    assert_eq!(record.id, record.manifest_digest.hex());
    assert_eq!(record.names, [NAME]);
    assert!(record.size >= 11);
    for query in [NAME, &record.id[..12], &record.manifest_digest.to_string()] {
        assert_eq!(store.find(query).unwrap().unwrap().id, record.id);
    }
    assert!(store.layers_of(&record).unwrap().is_empty());
    store.image_config(&record).unwrap();
    store.gc().unwrap();
    assert!(files.iter().all(|(file, _)| blob(store, file).exists()));
    sound(store);
    assert!(store.remove(&record.id).unwrap());
    store.gc().unwrap();
    assert!(!files.iter().any(|(file, _)| blob(store, file).exists()));
    assert_eq!(store.usage().unwrap(), store::Usage::default());
}

#[test]
fn its_files_are_its_blobs_by_further_names_and_outlive_it_where_they_are_shown() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let files = [file("a", b"first"), file("d/e/b", b"second")];
    let record = add(store, &files);
    let root = store.create_file_layer("shown", &record).unwrap();
    let upper = upper(&root);
    assert_eq!(fs::read(upper.join("a")).unwrap(), b"first");
    assert_eq!(fs::read(upper.join("d/e/b")).unwrap(), b"second");
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(upper.join("a")), inode(blob(store, &files[0].0)));
    for (path, mode) in [("a", 0o644), ("d", 0o755), ("d/e", 0o755)] {
        assert_eq!(fs::metadata(upper.join(path)).unwrap().mode() & 0o777, mode);
    }
    assert!(store.remove(&record.id).unwrap());
    store.gc().unwrap();
    assert!(!blob(store, &files[0].0).exists());
    assert_eq!(fs::read(upper.join("a")).unwrap(), b"first");
    store.remove_writable_layer("shown").unwrap();
    assert!(!upper.exists());
}

#[test]
fn files_without_good_names_make_no_layer_and_leave_none() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    for name in ["/etc/passwd", "../a", "a\nb"] {
        let record = add(store, &[file(name, name.as_bytes())]);
        let error = store.create_file_layer("bad", &record).unwrap_err();
        assert!(matches!(error, Error::Artifact { .. }), "{name}: {error}");
    }
    let (mut nameless, content) = file("", b"nameless");
    nameless.annotations.clear();
    let record = add(store, &[(nameless, content)]);
    let error = store.create_file_layer("bad", &record).unwrap_err();
    assert!(
        error.to_string().contains("none of its files has a name"),
        "{error}"
    );
    assert_eq!(store.writable_layer_ids().unwrap(), [""; 0]);
}

#[test]
fn a_database_that_is_made_again_knows_artifacts() {
    let sandbox = Sandbox::new();
    let record = add(&sandbox.store, &[file("a", b"first")]);
    sandbox.store.settle().unwrap();
    let dir = sandbox.stop();
    let root = dir.path().join("store");
    for name in ["meta.sqlite", "meta.sqlite-wal", "meta.sqlite-shm"] {
        let _ = fs::remove_file(root.join(name));
    }
    let store = Store::open(&root).unwrap();
    assert_eq!(store.find(NAME).unwrap(), Some(record.clone()));
    sound(&store);
    let shown = store.create_file_layer("shown", &record).unwrap();
    assert_eq!(fs::read(upper(&shown).join("a")).unwrap(), b"first");
}

#[test]
fn a_blob_that_is_a_file_is_kept_although_a_layer_of_it_is_unpacked() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    store.set_keep_blobs(KeepBlobs::UntilUnpacked);
    let layer = Layer::gzip(&Tar::new().file("f", vec![b'x'; 20_000]).finish());
    let image = put(
        store,
        std::slice::from_ref(&layer),
        &["example.com/x:1"],
        "x",
    );
    assert!(!blob(store, &layer.descriptor).exists());
    let mut named = layer.descriptor.clone();
    named.annotations.insert(TITLE.into(), "f.tar.gz".into());
    let record = add(store, &[(named, layer.bytes.clone())]);
    store.settle().unwrap();
    store.gc().unwrap();
    assert!(blob(store, &layer.descriptor).exists());
    sound(store);
    let shown = store.create_file_layer("shown", &record).unwrap();
    assert_eq!(
        fs::read(upper(&shown).join("f.tar.gz")).unwrap(),
        layer.bytes
    );
    store.remove_writable_layer("shown").unwrap();
    store.remove(&record.id).unwrap();
    store.gc().unwrap();
    assert!(store.layers_of(&image).unwrap().len() == 1);
    sound(store);
}
